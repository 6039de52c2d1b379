-- What thumbnail-worker's reconciler looks through: the assets of the last day.
create index assets_recent on assets (create_time);
