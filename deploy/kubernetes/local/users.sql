-- The users of the services, made when the database is made: here and in compose.yaml. Each has the rights of its service's role, which
-- `rushes migrate` gives it.
create role rushes_dashboard;
create role rushes_generation_status;
create role rushes_thumbnail_worker;
create user dashboard password 'local-only' in role rushes_dashboard;
create user generation_status password 'local-only' in role rushes_generation_status;
create user thumbnail_worker password 'local-only' in role rushes_thumbnail_worker;
