-- The accounts' data. Ids are UUIDs of version 7, so their order is that of creation: lists run along the primary key
-- of an index by owner, or for administrators by collection.
CREATE TABLE records (
    id         uuid PRIMARY KEY,
    collection text NOT NULL,
    owner      uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    version    bigint NOT NULL DEFAULT 1,
    data       jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX records_by_owner ON records (owner, collection, id);
CREATE INDEX records_by_collection ON records (collection, id);
