-- What a request with an Idempotency-Key made, so that the same request sent again gets the same answer. Written by the
-- statement that makes the thing itself; removed after a day.
CREATE TABLE idempotency_keys (
    scope       text NOT NULL,
    key_hash    bytea NOT NULL,
    fingerprint bytea NOT NULL,
    resource_id uuid NOT NULL,
    data        jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key_hash)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
