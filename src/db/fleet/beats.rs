//! Storing heartbeats: the statement that authorises is the one that stores.

use std::{net::IpAddr, time::Duration};

use chrono::{DateTime, Utc};
use planasonix_wire::{AgentId, json::Patch};
use sqlx::PgConnection;

use super::SlowMark;
use crate::{
    domain::{
        credential::{Agent, Hashed},
        presence::Sample,
    },
    meter,
};

/// One row of a flush: all that one credential said of one agent since the last flush.
pub struct Beat<'a> {
    /// The agent that the request named.
    pub agent: AgentId,
    /// The credential that it presented.
    pub credential: Hashed<Agent>,
    /// Where it came from.
    pub remote_ip: IpAddr,
    /// What it said.
    pub sample: &'a Sample,
    /// Whether it was sent to the database before and nobody knows what became of it.
    pub resent: bool,
}

/// What a flush goes by.
#[derive(Debug, Clone, Copy)]
pub struct BeatRules {
    /// How long an agent counts as connected after a beat.
    pub window: Duration,
    /// A beat that follows sooner than this is not stored.
    pub min_interval: Duration,
}

/// A beat that was authorised and stored.
pub struct Stored {
    /// Which rows of the flush, from 0: two where both credentials of an agent beat.
    pub positions: Vec<usize>,
    /// Whether the agent is being drained.
    pub draining: bool,
    /// Whether it is time for a new credential.
    pub rotate: bool,
    /// What was last written of the agent's texts.
    pub slow: SlowMark,
    /// The database's clock.
    pub now: DateTime<Utc>,
}

/// Which of its fields a beat brings, as bits; the others keep their stored value.
mod patched {
    pub(super) const CPU_PERCENT: i32 = 1;
    pub(super) const MEMORY_PERCENT: i32 = 2;
    pub(super) const DISK_FREE_GB: i32 = 4;
    pub(super) const ACTIVE_JOBS: i32 = 8;
    pub(super) const QUEUE_DEPTH: i32 = 16;
    pub(super) const INSTANCE_ID: i32 = 32;
    /// Not a field: two processes with one identity sent heartbeats since the last flush.
    pub(super) const RUNS_OVERLAP: i32 = 64;
}

/// The columns of a flush, as the arrays that the statement takes.
#[derive(Default)]
struct Columns {
    agents: Vec<uuid::Uuid>,
    credentials: Vec<Vec<u8>>,
    remote_ips: Vec<String>,
    patched: Vec<i32>,
    cpu_percent: Vec<Option<f64>>,
    memory_percent: Vec<Option<f64>>,
    disk_free_gb: Vec<Option<f64>>,
    active_jobs: Vec<Option<i32>>,
    queue_depth: Vec<Option<i32>>,
    sent_at_ms: Vec<Option<i64>>,
    instances: Vec<Option<String>>,
    other_instances: Vec<Option<String>>,
    other_remote_ips: Vec<Option<String>>,
    continued_runs: Vec<Option<i32>>,
    runs: Vec<Option<i32>>,
    resent: Vec<bool>,
}

impl Columns {
    fn push(&mut self, beat: &Beat<'_>) {
        let figures = &beat.sample.figures;
        self.agents.push(beat.agent.uuid());
        self.credentials.push(beat.credential.as_bytes().to_vec());
        self.remote_ips.push(beat.remote_ip.to_string());
        self.patched.push(
            bit(&figures.cpu_percent, patched::CPU_PERCENT)
                | bit(&figures.memory_percent, patched::MEMORY_PERCENT)
                | bit(&figures.disk_free_gb, patched::DISK_FREE_GB)
                | bit(&figures.active_jobs, patched::ACTIVE_JOBS)
                | bit(&figures.queue_depth, patched::QUEUE_DEPTH)
                | bit(&beat.sample.slow.instance_id, patched::INSTANCE_ID)
                | if beat.sample.runs.overlap() { patched::RUNS_OVERLAP } else { 0 },
        );
        self.cpu_percent.push(figures.cpu_percent.set().copied());
        self.memory_percent.push(figures.memory_percent.set().copied());
        self.disk_free_gb.push(figures.disk_free_gb.set().copied());
        self.active_jobs.push(figures.active_jobs.set().copied());
        self.queue_depth.push(figures.queue_depth.set().copied());
        self.sent_at_ms.push(figures.sent_at_ms);
        let instance = beat.sample.slow.instance_id.set();
        self.instances.push(instance.cloned());
        let other = beat.sample.instances.iter().find(|(other, _)| instance.is_some_and(|own| own != *other));
        self.other_instances.push(other.map(|(id, _)| id.clone()));
        self.other_remote_ips.push(other.map(|(_, ip)| ip.to_string()));
        self.continued_runs.push(beat.sample.runs.continued());
        self.runs.push(beat.sample.runs.latest());
        self.resent.push(beat.resent);
    }
}

fn bit<T>(field: &Patch<T>, bit: i32) -> i32 {
    if field.is_keep() { 0 } else { bit }
}

/// Authorises and stores beats in one statement, which commits by itself. A beat is stored if its
/// credential is one of the agent's two live ones and not past its expiry, it does not follow too soon,
/// and nobody else holds the row at this moment; the others are left out of the answer, and
/// [`super::explain`] tells why. The first beat under an agent's next credential ends the current one.
///
/// Rows are locked in key order and never waited for, so two replicas' flushes cannot deadlock and a
/// revocation in progress stalls nobody. A revocation that commits between the statement's snapshot and
/// its lock is seen, since the lock checks the row's latest version again.
///
/// # Errors
/// Those of the database; nothing is stored then.
#[expect(clippy::too_many_lines, reason = "one statement, which has to be one")]
pub async fn store_beats(
    connection: &mut PgConnection,
    beats: &[Beat<'_>],
    rules: BeatRules,
) -> sqlx::Result<Vec<Stored>> {
    let mut columns = Columns::default();
    for beat in beats {
        columns.push(beat);
    }
    let rows = sqlx::query!(
        r#"-- store_beats
        WITH beat AS MATERIALIZED (
            SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::text[], $4::int4[], $5::float8[], $6::float8[],
                                 $7::float8[], $8::int4[], $9::int4[], $10::int8[], $11::text[], $12::text[],
                                 $13::bool[], $16::text[], $17::int4[], $18::int4[]) WITH ORDINALITY
            AS beat (agent_id, credential, remote_ip, patched, cpu_percent, memory_percent, disk_free_gb,
                     active_jobs, queue_depth, sent_at_ms, instance_id, other_instance_id, resent, other_remote_ip,
                     continued_run, run, position)
        ), clock AS MATERIALIZED (
            SELECT clock_timestamp() AS at
        ), unbroken AS MATERIALIZED (
            SELECT seen_after, seen_until FROM unbroken_runs(make_interval(secs => $14))
        ), locked AS MATERIALIZED (
            SELECT l.workspace_id, l.credential AS current_credential,
                   past_time(l.last_seen_at, (SELECT at FROM clock)) AS silent_since,
                   l.next_credential IS NOT DISTINCT FROM beat.credential AS promotes,
                   l.connected_since IS NOT NULL AS was_open,
                   l.connected_since IS NOT NULL AND l.last_seen_at > (SELECT seen_after FROM unbroken)
                       AND l.last_seen_at <= (SELECT seen_until FROM unbroken) AS was_connected,
                   -- A run that goes on while the last heartbeat was another run's is a second process.
                   beat.other_instance_id IS NOT NULL OR patched & 64 > 0
                       OR COALESCE((l.instance_id <> beat.instance_id OR l.run_hash <> beat.continued_run)
                                   AND is_connected(l.connected_since, l.last_seen_at,
                                                    make_interval(secs => $14), (SELECT at FROM clock)), false)
                       AS conflicts,
                   COALESCE(beat.other_instance_id, l.instance_id) AS rival,
                   COALESCE(beat.other_remote_ip, host(l.remote_ip)) AS rival_ip,
                   COALESCE(past_time(l.conflict_noted_at, (SELECT at FROM clock)) < now() - interval '1 minute',
                            true) AS may_note,
                   beat.*
            FROM beat JOIN agent_liveness l ON l.agent_id = beat.agent_id
            WHERE (   (l.credential = beat.credential AND l.credential_expires_at > now())
                   OR (l.next_credential = beat.credential AND l.next_credential_expires_at > now()))
              -- No interval is no rule: another replica's flush may have begun later and committed first.
              AND ($15::float8 = 0 OR l.last_seen_at IS NULL OR beat.resent
                   OR l.last_seen_at <= now() - make_interval(secs => $15)
                   -- Read here: the row may have been written since the statement began.
                   OR l.last_seen_at > clock_timestamp())
            ORDER BY l.agent_id
            FOR NO KEY UPDATE OF l SKIP LOCKED
        ), chosen AS MATERIALIZED (
            -- Both live credentials may beat in one flush: the younger one speaks for the agent, and both
            -- are answered. What follows works from these rows alone: joined to `beat` once more, the plan
            -- that is made for arrays of any length compares every row with every other.
            SELECT DISTINCT ON (agent_id) *, array_agg(position) OVER (PARTITION BY agent_id) AS positions
            FROM locked ORDER BY agent_id, promotes DESC
        ), stored AS (
            UPDATE agent_liveness l
            SET last_seen_at = GREATEST(silent_since, now()),
                connected_since = CASE WHEN was_connected THEN LEAST(l.connected_since, now()) ELSE now() END,
                remote_ip = chosen.remote_ip::inet,
                cpu_percent = CASE WHEN patched & 1 > 0 THEN chosen.cpu_percent ELSE l.cpu_percent END,
                memory_percent = CASE WHEN patched & 2 > 0 THEN chosen.memory_percent ELSE l.memory_percent END,
                disk_free_gb = CASE WHEN patched & 4 > 0 THEN chosen.disk_free_gb ELSE l.disk_free_gb END,
                active_jobs = CASE WHEN patched & 8 > 0 THEN chosen.active_jobs ELSE l.active_jobs END,
                queue_depth = CASE WHEN patched & 16 > 0 THEN chosen.queue_depth ELSE l.queue_depth END,
                clock_skew_ms = CASE WHEN sent_at_ms IS NULL THEN l.clock_skew_ms ELSE
                    GREATEST(-86400000, LEAST(86400000,
                        sent_at_ms - floor(extract(epoch FROM now()) * 1000)::int8))::int4 END,
                instance_id = CASE WHEN patched & 32 > 0 THEN chosen.instance_id ELSE l.instance_id END,
                run_hash = COALESCE(run, l.run_hash),
                conflict_at = CASE WHEN conflicts THEN now() ELSE l.conflict_at END,
                conflict_noted_at = CASE WHEN conflicts AND may_note THEN now() ELSE l.conflict_noted_at END,
                credential = CASE WHEN promotes THEN l.next_credential ELSE l.credential END,
                credential_issued_at = CASE WHEN promotes THEN l.next_credential_issued_at
                                            ELSE l.credential_issued_at END,
                credential_expires_at = CASE WHEN promotes THEN l.next_credential_expires_at
                                             ELSE l.credential_expires_at END,
                next_credential = CASE WHEN promotes THEN NULL ELSE l.next_credential END,
                next_credential_issued_at = CASE WHEN promotes THEN NULL ELSE l.next_credential_issued_at END,
                next_credential_expires_at = CASE WHEN promotes THEN NULL ELSE l.next_credential_expires_at END
            FROM chosen
            WHERE l.agent_id = chosen.agent_id
            RETURNING positions, l.draining, NOT was_connected AS connects, was_open AND NOT was_connected AS returns,
                      conflicts AND may_note AS notes_conflict,
                      now() > l.credential_expires_at - (l.credential_expires_at - l.credential_issued_at) / 3
                          AS rotate,
                      l.slow_hash, extract(epoch FROM now() - past_time(l.slow_at, (SELECT at FROM clock)))::float8
                          AS slow_age,
                      l.complaining
        ), retired AS (
            UPDATE agent_credentials c SET retired_at = now(), retired_reason = 'replaced'
            FROM chosen WHERE promotes AND c.digest = chosen.current_credential
        ), noted AS (
            -- The later of two gets the later id, and the clock is read once the row is locked: the task
            -- that ages heartbeats may have written an event since this statement began.
            INSERT INTO events (id, workspace_id, agent_id, type, actor_type, actor_id, reason, detail)
            SELECT new_ulid(clock_timestamp()), workspace_id, agent_id, 'disconnected', 'system', NULL,
                   'missed_heartbeats', jsonb_build_object('last_seen_at', api_time(silent_since))
            FROM chosen WHERE was_open AND NOT was_connected
            UNION ALL
            SELECT new_ulid(clock_timestamp() + CASE WHEN was_open THEN 1 ELSE 0 END * interval '1 ms'),
                   workspace_id, agent_id, 'connected', 'agent', agent_id,
                   NULL, NULL
            FROM chosen WHERE NOT was_connected
            UNION ALL
            SELECT new_ulid(clock_timestamp() + CASE WHEN was_connected THEN 0 ELSE 2 END * interval '1 ms'),
                   workspace_id, agent_id, 'instance_conflict', 'system',
                   NULL, NULL, jsonb_build_object('instances', jsonb_build_array(
                       jsonb_build_object('instance_id', rival, 'remote_ip', rival_ip),
                       jsonb_build_object('instance_id', instance_id, 'remote_ip', remote_ip)))
            FROM chosen WHERE conflicts AND may_note
        )
        SELECT positions AS "positions!", draining, COALESCE(rotate, false) AS "rotate!", slow_hash,
               slow_age, complaining, connects AS "connects!", returns AS "returns!",
               notes_conflict AS "notes_conflict!", now() AS "now!"
        FROM stored"#,
        &columns.agents,
        &columns.credentials,
        &columns.remote_ips,
        &columns.patched,
        &columns.cpu_percent as &[Option<f64>],
        &columns.memory_percent as &[Option<f64>],
        &columns.disk_free_gb as &[Option<f64>],
        &columns.active_jobs as &[Option<i32>],
        &columns.queue_depth as &[Option<i32>],
        &columns.sent_at_ms as &[Option<i64>],
        &columns.instances as &[Option<String>],
        &columns.other_instances as &[Option<String>],
        &columns.resent,
        rules.window.as_secs_f64(),
        rules.min_interval.as_secs_f64(),
        &columns.other_remote_ips as &[Option<String>],
        &columns.continued_runs as &[Option<i32>],
        &columns.runs as &[Option<i32>],
    )
    .fetch_all(connection)
    .await?;
    meter::events("connected", counted(rows.iter().map(|row| row.connects)));
    meter::events("disconnected", counted(rows.iter().map(|row| row.returns)));
    meter::events("instance_conflict", counted(rows.iter().map(|row| row.notes_conflict)));
    Ok(rows
        .into_iter()
        .map(|row| Stored {
            positions: row.positions.into_iter().filter_map(|nth| usize::try_from(nth - 1).ok()).collect(),
            draining: row.draining,
            rotate: row.rotate,
            slow: SlowMark {
                hash: row.slow_hash,
                age: row.slow_age.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
                complaining: row.complaining,
            },
            now: row.now,
        })
        .collect())
}

fn counted(answers: impl Iterator<Item = bool>) -> u64 {
    answers.map(u64::from).sum()
}
