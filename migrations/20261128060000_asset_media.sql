-- What is known of videos and sounds. `has_audio` and `c2pa` are false, and `frame_rate` is 0, also of what was stored before they were
-- looked for. A frame rate is in frames a second; 0: a picture, a sound, or not stated.
alter table assets
    add column has_audio boolean not null default false,
    add column frame_rate double precision not null default 0 check (frame_rate >= 0),
    add column c2pa boolean not null default false;
