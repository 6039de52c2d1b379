-- The pictures of a video in its own shape: their names in storage and their sizes in pixels, and a ThumbHash. All are null for a
-- picture, for a video without a poster, and for one that was registered before there were any.
alter table assets
    add column poster_large text,
    add column poster_large_width integer,
    add column poster_large_height integer,
    add column poster_small text,
    add column poster_small_width integer,
    add column poster_small_height integer,
    add column thumbhash bytea;
