-- Credentials overlap while they rotate, hosts that share one are told apart, and the control plane's own
-- absence is never held against the agents.

ALTER TABLE workspaces ADD COLUMN reenable_policy text NOT NULL DEFAULT 'enrollment'
    CHECK (reenable_policy IN ('enrollment', 'rotation'));

-- While an agent rotates, its next credential waits beside the current one until it is first used.
ALTER TABLE agent_liveness
    ADD COLUMN credential_issued_at      timestamptz,
    ADD COLUMN next_credential           bytea,
    ADD COLUMN next_credential_issued_at timestamptz,
    ADD COLUMN next_credential_expires_at timestamptz,
    ADD COLUMN instance_id               text,
    ADD COLUMN conflict_at               timestamptz,
    ADD COLUMN conflict_noted_at         timestamptz,
    -- What was last written to agents of the texts that beats bring, so that any replica sees what is news.
    ADD COLUMN slow_hash                 bigint,
    ADD COLUMN slow_at                   timestamptz,
    ADD COLUMN complaining               boolean NOT NULL DEFAULT false;

UPDATE agent_liveness l SET credential_issued_at = c.issued_at
FROM agent_credentials c WHERE c.digest = l.credential;

-- A request other than a heartbeat that a credential authenticated; heartbeats show in agent_liveness.
ALTER TABLE agent_credentials ADD COLUMN used_at timestamptz;

-- An instant as the API writes it.
CREATE FUNCTION api_time(at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
$$;

-- One row. Every replica marks it while it takes heartbeats; a hole in the marks is a gap of ours.
CREATE TABLE control_plane (
    singleton      boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    alive_at       timestamptz NOT NULL DEFAULT now(),
    gap_started_at timestamptz,
    gap_ended_at   timestamptz,
    CHECK ((gap_started_at IS NULL) = (gap_ended_at IS NULL))
) WITH (fillfactor = 10);

INSERT INTO control_plane DEFAULT VALUES;

-- A program of 0.1.0 would revoke an agent and leave its next credential alive, so it is excluded.
INSERT INTO schema_support VALUES (7, '{0,2,0}');
