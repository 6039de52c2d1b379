-- Written by generation-status: the generation that was chosen as the scene's take, with what the dashboard shows of it. It has ended,
-- so that the copy changes only when another is chosen or it is deleted.
alter table scenes
    add column take_generation uuid,
    add column take_thumbnail text,
    add constraint scenes_take check (take_generation is not null or take_thumbnail is null);
