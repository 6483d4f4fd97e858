//! The heartbeat as one would write it first: each request runs its own UPDATE on a pool of connections.
//! Authorises and stores what the group commit does, in the same table, and writes no event.

use std::net::{IpAddr, Ipv4Addr};

use std::time::Duration;

use axum::{Extension, extract::State};
use planasonix::{
    domain::{Error, presence::Sample},
    entropy,
    http::{
        App,
        answer::Answer,
        auth::AgentSelf,
        error::Problem,
        extract::{AgentPath, HEARTBEAT_BYTES, OptionalBody, RemoteIp},
    },
};
use planasonix_wire::{
    agent::Status,
    envelope::Data,
    heartbeat::{Heartbeat, HeartbeatAck},
    json::{Patch, Timestamp},
};
use sqlx::{
    PgPool, query_as,
    types::chrono::{DateTime, Utc},
};
use tokio::time::timeout;

/// As long as a caller of the group commit waits.
const PATIENCE: Duration = Duration::from_secs(2);

const UPDATE: &str = "
    UPDATE agent_liveness
    SET last_seen_at = GREATEST(last_seen_at, now()),
        connected_since = CASE WHEN is_connected(connected_since, last_seen_at, make_interval(secs => $4))
            THEN connected_since ELSE now() END,
        remote_ip = $3::inet,
        cpu_percent = CASE WHEN $5 THEN $6 ELSE cpu_percent END,
        memory_percent = CASE WHEN $7 THEN $8 ELSE memory_percent END,
        disk_free_gb = CASE WHEN $9 THEN $10 ELSE disk_free_gb END,
        active_jobs = CASE WHEN $11 THEN $12 ELSE active_jobs END,
        queue_depth = CASE WHEN $13 THEN $14 ELSE queue_depth END
    WHERE agent_id = $1 AND credential = $2 AND credential_expires_at > now()
    RETURNING draining, now()";

pub async fn heartbeat(
    agent: AgentSelf,
    State(app): State<App>,
    Extension(pool): Extension<PgPool>,
    path: AgentPath,
    RemoteIp(remote_ip): RemoteIp,
    OptionalBody(body): OptionalBody<Heartbeat, HEARTBEAT_BYTES>,
) -> Result<Answer<Data<HeartbeatAck>>, Problem> {
    let figures = Sample::check(body, IpAddr::V4(Ipv4Addr::LOCALHOST))?.figures;
    let agent_id = path.id_or_nobody();
    let given = |keep: bool| !keep;
    let update = query_as::<_, (bool, DateTime<Utc>)>(UPDATE)
        .bind(agent_id.uuid())
        .bind(agent.credential.as_bytes().as_slice())
        .bind(remote_ip.to_string())
        .bind(app.rhythm.window.as_secs_f64())
        .bind(given(figures.cpu_percent.is_keep()))
        .bind(value(&figures.cpu_percent))
        .bind(given(figures.memory_percent.is_keep()))
        .bind(value(&figures.memory_percent))
        .bind(given(figures.disk_free_gb.is_keep()))
        .bind(value(&figures.disk_free_gb))
        .bind(given(figures.active_jobs.is_keep()))
        .bind(value(&figures.active_jobs))
        .bind(given(figures.queue_depth.is_keep()))
        .bind(value(&figures.queue_depth));
    let row = timeout(PATIENCE, update.fetch_optional(&pool))
        .await
        .map_err(|elapsed| Error::Unavailable(elapsed.into()))?
        .map_err(Error::from)?;
    let (draining, now) = row.ok_or(Error::Unauthenticated)?;
    Ok(Answer::ok(HeartbeatAck {
        agent_id,
        status: Status::Active,
        accepts_work: !draining,
        heartbeat_interval_seconds: app.rhythm.next_beat(app.fleet.get(), entropy::fraction()),
        server_time: Timestamp::from(now),
        rotate_credential: false,
    }))
}

fn value<T: Copy>(patch: &Patch<T>) -> Option<T> {
    patch.set().copied()
}
