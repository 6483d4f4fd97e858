-- What a heartbeat changes, one narrow row an agent, and all that the statement needs to authorise it:
-- the live credential's digest stands here too, so the flush joins nothing.
--
-- Half of each page stays free and no index covers a column that a plain heartbeat changes, so every
-- heartbeat is a heap-only update. A further index on such a column would end that.

CREATE TABLE agent_liveness (
    agent_id              uuid PRIMARY KEY REFERENCES agents ON DELETE CASCADE,
    workspace_id          uuid NOT NULL,
    credential            bytea,
    credential_expires_at timestamptz,
    draining              boolean NOT NULL DEFAULT false,
    last_seen_at          timestamptz,
    connected_since       timestamptz,
    remote_ip             inet,
    cpu_percent           float8,
    memory_percent        float8,
    disk_free_gb          float8,
    active_jobs           int4,
    queue_depth           int4,
    clock_skew_ms         int4,
    CHECK ((credential IS NULL) = (credential_expires_at IS NULL)),
    CHECK (connected_since IS NULL OR last_seen_at IS NOT NULL)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX agent_liveness_connected ON agent_liveness (workspace_id, agent_id)
    WHERE connected_since IS NOT NULL;

-- The one definition of "connected": the run is open and the last beat is younger than the window.
CREATE FUNCTION is_connected(connected_since timestamptz, last_seen_at timestamptz, time_window interval)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT connected_since IS NOT NULL AND last_seen_at > now() - time_window
$$;

INSERT INTO schema_support VALUES (5, '{0,1,0}');
