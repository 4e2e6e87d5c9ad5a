-- Lists and exports are cut by bytes, and must not fetch the data to know them.
ALTER TABLE records ADD COLUMN bytes integer GENERATED ALWAYS AS (octet_length(data::text)) STORED;
-- Files end a week after they are complete; a file without a job has been given up. Both are removed in small pieces.
CREATE INDEX files_by_age ON files (complete_at);
