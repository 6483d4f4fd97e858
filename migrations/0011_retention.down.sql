DELETE FROM schema_support WHERE migration = 11;

CREATE OR REPLACE FUNCTION refuse_change_of_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;

DROP INDEX events_by_type;
DROP FUNCTION ulid_floor(timestamptz);
