-- Files that jobs have written, in chunks. A file without complete_at is still being written, or its writer was lost.
CREATE TABLE files (
    id           uuid PRIMARY KEY,
    owner        uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    job          uuid UNIQUE,
    name         text NOT NULL,
    content_type text NOT NULL,
    bytes        bigint NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    complete_at  timestamptz
);
CREATE INDEX files_by_owner ON files (owner, id);

CREATE TABLE file_chunks (
    file   uuid NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    number integer NOT NULL,
    bytes  bytea NOT NULL,
    PRIMARY KEY (file, number)
);
ALTER TABLE file_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL;
