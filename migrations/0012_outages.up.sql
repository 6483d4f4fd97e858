-- Outages of the control plane: one place for the rule that excuses an agent's silence, and a list of the
-- outages whose events are still to be written.

-- The longest time between two marks in control_plane that is not an outage. A mark that is further ahead of the
-- clock than this was written before the clock was set back.
CREATE FUNCTION outage_threshold() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT interval '15 seconds'
$$;

-- While an outage, recorded or not yet, excuses silence: agents whose last heartbeat is later than `excused_since`
-- are not lost. NULL otherwise. An outage excuses silence until one window after its end; one that follows another
-- within that time begins where the other began. A set, so that the planner inlines it: it must cost a flush nothing;
-- LIMIT, so that it expects one row.
CREATE FUNCTION outage_amnesty(time_window interval) RETURNS TABLE (excused_since timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE
               WHEN gap_ended_at > now() - time_window AND gap_ended_at <= now() + outage_threshold()
                   THEN gap_started_at
               WHEN alive_at > now() + outage_threshold() THEN now()
               WHEN alive_at >= now() - outage_threshold() THEN NULL
               WHEN gap_ended_at > alive_at - time_window THEN gap_started_at
               ELSE alive_at
           END - time_window
    FROM control_plane LIMIT 1
$$;

-- Outages whose control_plane_gap events are not all written. Workspaces are gone through by id in bounded batches,
-- each batch in one transaction with the position, so no event is lost or written twice.
CREATE TABLE control_plane_outages (
    id                bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    started_at        timestamptz NOT NULL,
    ended_at          timestamptz NOT NULL CHECK (ended_at >= started_at),
    -- The last workspace that was looked at.
    announced_through uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);

-- A program of 0.2.0 writes these events itself, with the mark.
INSERT INTO schema_support VALUES (12, '{0,2,0}');
