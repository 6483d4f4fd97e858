-- Events can be asked for by time and type, and be pruned, where the operator of the service says so; they
-- stay append-only otherwise.

-- The first id that a record of this time can have: with it, age is a range of the primary key.
CREATE FUNCTION ulid_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(floor(GREATEST(extract(epoch FROM at), 0) * 1000)::bigint), 12, '0')
            || repeat('0', 20))::uuid
$$;

CREATE INDEX events_by_type ON events (workspace_id, type, id);

CREATE OR REPLACE FUNCTION refuse_change_of_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Said by the prune task, for its own transaction alone.
    IF TG_OP = 'DELETE' AND current_setting('planasonix.pruning_events', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;

INSERT INTO schema_support VALUES (11, '{0,2,0}');
