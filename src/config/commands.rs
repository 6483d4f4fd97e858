//! What may be asked of workspaces and API keys.

use clap::Subcommand;
use planasonix_wire::ApiKeyId;

use super::Database;
use crate::domain::{Scope, agent::ReenablePolicy};

/// What to do with workspaces.
#[derive(Debug, Subcommand)]
pub enum WorkspaceCommand {
    /// Create a workspace.
    Create {
        /// Its short name, unique: lower-case letters, digits and hyphens.
        #[arg(long, value_parser = slug)]
        slug: String,
        /// Its name for people.
        #[arg(long)]
        name: String,
        /// Which database.
        #[command(flatten)]
        database: Database,
        /// Answer with one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List workspaces.
    List {
        /// Which database.
        #[command(flatten)]
        database: Database,
        /// Answer with one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Change a workspace's settings.
    Set {
        /// The workspace.
        #[arg(long)]
        slug: String,
        /// How many agents it may have.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..), required_unless_present = "reenable_policy")]
        max_agents: Option<i32>,
        /// What enabling a revoked agent asks of it: enrollment (it enrolls anew) or rotation (it is handed a
        /// new credential).
        #[arg(long, value_name = "POLICY")]
        reenable_policy: Option<ReenablePolicy>,
        /// Which database.
        #[command(flatten)]
        database: Database,
    },
}

fn slug(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 63 lower-case letters, digits and hyphens".to_owned())
    }
}

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// Create an API key. Its secret is shown once.
    Create {
        /// The workspace's slug.
        #[arg(long)]
        workspace: String,
        /// Its name for people.
        #[arg(long)]
        name: String,
        /// What it may do; repeat for more.
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// In how many days it ends; never unless given.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=36_500))]
        expires_in_days: Option<i32>,
        /// Which database.
        #[command(flatten)]
        database: Database,
        /// Answer with one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List a workspace's API keys.
    List {
        /// The workspace's slug.
        #[arg(long)]
        workspace: String,
        /// Which database.
        #[command(flatten)]
        database: Database,
        /// Answer with one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Revoke an API key; the very next request with it is refused.
    Revoke {
        /// The key: `key_…`.
        id: ApiKeyId,
        /// Which database.
        #[command(flatten)]
        database: Database,
    },
}
