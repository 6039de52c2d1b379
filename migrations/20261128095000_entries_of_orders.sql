-- An order keeps the entry of the catalogue that it was started with, also where the entry is mended since.

alter table generation_orders
    -- A hash of what the entry had to say of the order. Null: it was started before this was kept, with an entry of which nothing is
    -- known.
    add column entry_sha256 bytea;
alter table model_providers
    -- The same of the model's present entry, or of its last one.
    add column entry_sha256 bytea;
