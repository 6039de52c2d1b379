-- What thumbnail-worker's reconciler looks for once a minute: thumbnails that are said to be in the making.
create index thumbnails_processing on thumbnails (update_time) where state = 1;
