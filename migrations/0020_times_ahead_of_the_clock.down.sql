DELETE FROM schema_support WHERE migration = 20;

CREATE OR REPLACE FUNCTION outage_amnesty(time_window interval) RETURNS TABLE (excused_since timestamptz)
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

DROP FUNCTION unbroken_runs(interval);
DROP FUNCTION clock_step_tolerance();

CREATE OR REPLACE FUNCTION is_connected(connected_since timestamptz, last_seen_at timestamptz, time_window interval)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT connected_since IS NOT NULL AND last_seen_at > now() - time_window
$$;

DROP FUNCTION is_connected(timestamptz, timestamptz, interval, timestamptz);
DROP FUNCTION past_time(timestamptz);
DROP FUNCTION past_time(timestamptz, timestamptz);
