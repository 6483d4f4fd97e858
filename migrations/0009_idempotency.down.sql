DELETE FROM schema_support WHERE migration = 9;
ALTER TABLE enrollment_tokens
    DROP COLUMN idempotency_key,
    DROP COLUMN credential;
ALTER TABLE agents DROP COLUMN first_pending;
DROP TABLE idempotency_keys;
