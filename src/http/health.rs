//! Is the process alive, is it ready. Public.

use axum::extract::State;
use planasonix_wire::envelope::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, answer::Answer, error::Problem};
use crate::domain::Error;

/// A plain yes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Probe {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

const OK: Probe = Probe { status: "ok" };

/// Is the process alive
#[utoipa::path(
    get, path = "/livez", operation_id = "livez", tag = "operation",
    responses((status = 200, description = "The process answers", body = Data<Probe>)),
)]
pub async fn livez() -> Answer<Data<Probe>> {
    Answer::ok(OK)
}

/// Is the service ready
///
/// Ready means: the start-up is complete, the database is reachable, its schema is one that this program serves,
/// and the process is not about to stop, as it is when a background task has failed. What the database said is
/// shared by all probes for one second. The message of a 503 names the reason.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "operation",
    responses((status = 200, description = "Requests are welcome", body = Data<Probe>)),
)]
pub async fn readyz(State(app): State<App>) -> Result<Answer<Data<Probe>>, Problem> {
    if app.stopping.is_cancelled() {
        return Err(Error::Unavailable("the process is about to stop".into()).into());
    }
    app.readiness.check().await?;
    Ok(Answer::ok(OK))
}
