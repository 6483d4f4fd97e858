-- A stored time that is ahead of the clock was written before the clock was set back (a failover, NTP). It counts as
-- never: a rule that believed it would refuse, delay or grant until the clock has caught up.
--
-- "Ahead" is ahead of clock_timestamp(). now() is the start of the transaction, and another one may have begun later
-- and committed first. The variants with `clock` are for a statement that reads it once for many rows.

-- NULL for a time that is ahead of the clock.
CREATE FUNCTION past_time(at timestamptz, clock timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN at <= clock THEN at END
$$;

CREATE FUNCTION past_time(at timestamptz) RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT past_time(at, clock_timestamp())
$$;

CREATE FUNCTION is_connected(
    connected_since timestamptz, last_seen_at timestamptz, time_window interval, clock timestamptz
) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT connected_since IS NOT NULL AND last_seen_at > now() - time_window AND last_seen_at <= clock
$$;

CREATE OR REPLACE FUNCTION is_connected(connected_since timestamptz, last_seen_at timestamptz, time_window interval)
RETURNS boolean LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT is_connected(connected_since, last_seen_at, time_window, clock_timestamp())
$$;

-- How far ahead of the clock a heartbeat may lie after a step back that is no outage: the newest mark was up to one
-- threshold older than the heartbeat, and is up to one threshold ahead.
CREATE FUNCTION clock_step_tolerance() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 2 * outage_threshold()
$$;

-- A heartbeat now continues a run whose last heartbeat lies in (seen_after, seen_until]. An outage excuses silence,
-- and one that a step of the clock caused also heartbeats that are far ahead. One row, once for each statement.
CREATE FUNCTION unbroken_runs(time_window interval) RETURNS TABLE (seen_after timestamptz, seen_until timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT LEAST(excused_since, now() - time_window),
           CASE WHEN excused_since IS NULL THEN now() + clock_step_tolerance() ELSE 'infinity' END
    FROM outage_amnesty(time_window)
$$;

-- An outage whose end is ahead of the clock excuses nothing, also not together with one that goes on.
CREATE OR REPLACE FUNCTION outage_amnesty(time_window interval) RETURNS TABLE (excused_since timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE
               WHEN gap_ended_at > now() - time_window AND gap_ended_at <= now() + outage_threshold()
                   THEN gap_started_at
               WHEN alive_at > now() + outage_threshold() THEN now()
               WHEN alive_at >= now() - outage_threshold() THEN NULL
               WHEN gap_ended_at > alive_at - time_window AND gap_ended_at <= now() + outage_threshold()
                   THEN gap_started_at
               ELSE alive_at
           END - time_window
    FROM control_plane LIMIT 1
$$;

INSERT INTO schema_support VALUES (20, '{0,2,0}');
