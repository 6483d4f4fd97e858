DELETE FROM schema_support WHERE migration = 7;
DROP TABLE control_plane;
DROP FUNCTION api_time(timestamptz);
ALTER TABLE agent_credentials DROP COLUMN used_at;
ALTER TABLE agent_liveness
    DROP COLUMN credential_issued_at,
    DROP COLUMN next_credential,
    DROP COLUMN next_credential_issued_at,
    DROP COLUMN next_credential_expires_at,
    DROP COLUMN instance_id,
    DROP COLUMN conflict_at,
    DROP COLUMN conflict_noted_at,
    DROP COLUMN slow_hash,
    DROP COLUMN slow_at,
    DROP COLUMN complaining;
ALTER TABLE workspaces DROP COLUMN reenable_policy;
