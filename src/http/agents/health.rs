use axum::extract::State;
use planasonix_wire::{
    AgentId,
    agent::{Health, HealthStatus},
    envelope::Data,
};

use crate::{
    db::agents::HealthRow,
    domain::health::{Figures, Heard, Verdict, judge},
    http::{App, answer::Answer, auth::Reader, error::Problem, extract::AgentPath},
};

/// Get agent health status
///
/// Figures are the last known ones; they are `null` while the agent has not beaten since its enrollment. A heartbeat
/// that is ahead of the database's clock, because that was set back, counts as none.
#[utoipa::path(
    get, path = "/api/agents/{id}/health", operation_id = "getAgentHealth", tag = "agents",
    security(("apiKey" = ["agents:read"])),
    params(("id" = AgentId, Path, description = "The agent")),
    responses((status = 200, description = "How the agent is doing", body = Data<Health>)),
)]
pub async fn health(
    reader: Reader,
    State(app): State<App>,
    path: AgentPath,
) -> Result<Answer<Data<Health>>, Problem> {
    let id = path.id()?;
    let window = app.rhythm.window;
    let row = reader
        .workspace
        .read("health", |mut rows| async move { rows.agents().health(id, window).await })
        .await?;
    Ok(Answer::ok(shown(id, row)))
}

fn shown(agent_id: AgentId, row: HealthRow) -> Health {
    let Verdict { status, reasons } =
        judge(row.status, Heard::of(row.heartbeat_at.is_some(), row.connected, row.excused), &row.figures);
    let (heartbeat_at, figures) = match status {
        HealthStatus::Unknown if reasons.is_empty() => (None, Figures::default()),
        _ => (row.heartbeat_at, row.figures),
    };
    Health {
        agent_id,
        status,
        heartbeat_at,
        cpu_percent: figures.cpu_percent,
        memory_percent: figures.memory_percent,
        disk_free_gb: figures.disk_free_gb,
        active_jobs: figures.active_jobs,
        queue_depth: figures.queue_depth,
        last_error: figures.last_error,
        reasons: reasons.into_iter().map(ToOwned::to_owned).collect(),
        clock_skew_ms: figures.clock_skew_ms,
    }
}
