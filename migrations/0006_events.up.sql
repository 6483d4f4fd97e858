-- The audit trail. It outlives the agents it speaks of, so it has no foreign key to them; a foreign key
-- would also let the deletion of one agent stall every flush of heartbeats.

CREATE TABLE events (
    id           uuid PRIMARY KEY DEFAULT new_ulid(),
    workspace_id uuid NOT NULL,
    agent_id     uuid,
    type         text NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    actor_type   text NOT NULL CHECK (actor_type IN ('key', 'agent', 'system')),
    actor_id     uuid CHECK ((actor_type = 'system') = (actor_id IS NULL)),
    reason       text,
    detail       jsonb
);

CREATE INDEX events_by_workspace ON events (workspace_id, id);
CREATE INDEX events_by_agent ON events (agent_id, id);

CREATE FUNCTION refuse_change_of_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_events();

INSERT INTO schema_support VALUES (6, '{0,1,0}');
