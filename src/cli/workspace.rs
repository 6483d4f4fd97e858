//! `planasonix workspace …`

use serde_json::json;

use super::{failure::Failure, migrate::db, output};
use crate::config::WorkspaceCommand;

/// Does what is asked with workspaces.
///
/// # Errors
/// The slug is taken or not there, or the database is away.
pub async fn run(command: WorkspaceCommand) -> Result<(), Failure> {
    match command {
        WorkspaceCommand::Create { slug, name, database, json } => {
            let id = db(&database)
                .await?
                .create_workspace(&slug, &name)
                .await?
                .ok_or_else(|| Failure::new(format!("there is a workspace {slug:?} already")))?;
            if json {
                output::json(&json!({"id": id, "slug": slug, "name": name}))
            } else {
                Ok(output::line(&format!("created workspace {slug} ({id})"))?)
            }
        }
        WorkspaceCommand::List { database, json } => {
            let rows = db(&database).await?.workspaces().await?;
            let rows = rows.into_iter().map(|row| {
                [
                    json!(row.id),
                    json!(row.slug),
                    json!(row.name),
                    json!(row.reenable_policy),
                    json!(row.max_agents),
                ]
            });
            output::rows(["id", "slug", "name", "reenable_policy", "max_agents"], rows.collect(), json)
        }
        WorkspaceCommand::Set { slug, max_agents, reenable_policy, database } => {
            if !db(&database).await?.set_workspace(&slug, reenable_policy, max_agents).await? {
                return Err(no_workspace(&slug));
            }
            Ok(output::line(&format!("changed workspace {slug}"))?)
        }
    }
}

/// The failure of a command that names a workspace which is not there.
pub fn no_workspace(slug: &str) -> Failure {
    Failure::new(format!("there is no workspace {slug:?}; `planasonix workspace list` shows those that are"))
}
