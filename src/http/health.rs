//! Is the process alive, is it ready. Public.

use axum::extract::State;
use planasonix_wire::envelope::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, answer::Answer, error::Problem};
use crate::{db::Budget, domain::Error};

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
/// Ready means: the database is reachable, its schema is one that this program serves, and the process is not
/// about to stop, as it is when a background task has died.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "operation",
    responses((status = 200, description = "Requests are welcome", body = Data<Probe>)),
)]
pub async fn readyz(State(app): State<App>) -> Result<Answer<Data<Probe>>, Problem> {
    if app.stopping.is_cancelled() {
        return Err(Error::Unavailable("the process is about to stop".into()).into());
    }
    let schema = app.db.check_schema(&Budget::default()).await?;
    schema.map_err(|mismatch| Problem::unavailable(mismatch.to_string()))?;
    Ok(Answer::ok(OK))
}
