-- Written by generation-status: the ThumbHash of the poster that the dashboard shows, beside the poster's name. Null where there is no
-- poster, and for what completed before there was this column.
alter table generations
    add column thumbhash bytea check (octet_length(thumbhash) between 1 and 64);
alter table scenes
    add column latest_thumbhash bytea,
    add column take_thumbhash bytea,
    drop constraint scenes_take,
    add constraint scenes_take check (take_generation is not null or (take_thumbnail is null and take_thumbhash is null));
