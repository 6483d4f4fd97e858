//! What every attack starts from: a private Postgres with the schema of the program under test, the workspace of
//! the attacker and the one of its neighbour.

use std::net::{Ipv4Addr, SocketAddr};

use planasonix_wire::WorkspaceId;
use serde_json::Value;
use sqlx::{PgConnection, query, query_as, raw_sql};

use super::{
    Args,
    actor::Act,
    client::get,
    paced::{Paced, Requests},
    subject::{Program, Subject},
};
use crate::{
    Result,
    database::{self, Database},
    fill, report,
};

/// Where the attackers' connections come from: this address and those after it. The benchmark itself and
/// `hangups` use 127.0.0.1.
pub const ATTACKERS: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 1, 1), 8);
const NEIGHBOUR: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 2, 1), 1);
/// Numbers of the neighbour's agents.
const NEIGHBOUR_FIRST: u64 = 1_000_000;
const NEIGHBOUR_AGENTS: u64 = 2_000;
/// The pace of the neighbour's requests needs this many keys to stay within the limit of each.
const NEIGHBOUR_KEYS: usize = 3;
const NEIGHBOUR_CONNECTIONS: u32 = 16;
/// Agents of the attacker that a stream of the connected view has to send.
const CONNECTED_AGENTS: u64 = 2_500;
/// Contained in the labels of the attacker's other agents, and in no other label.
pub const ATTACKER_LABEL: &str = "qzheldqz";

pub struct Arena {
    pub args: Args,
    pub program: Program,
    pub connection: PgConnection,
    /// Stopped and removed when dropped.
    _database: Database,
    attacker: WorkspaceId,
    /// An admin key of the attacker.
    pub admin: String,
    neighbour_gets: Vec<String>,
}

/// Something that an attack must show.
pub struct Check {
    pub attack: &'static str,
    pub must: String,
    pub seen: String,
    pub holds: bool,
}

/// What Postgres counted so far.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    pub transactions: f64,
    pub sessions: f64,
}

impl Arena {
    pub async fn build(args: Args) -> Result<Self> {
        let database = Database::start_empty(&args.database).await?;
        let program = Program::find(&args.subject, &database.url, database.folder.clone())?;
        program.run(&["migrate"]).await?;
        let mut connection = database.connect().await?;
        let attacker = workspace(&program, "attacker").await?;
        let neighbour = workspace(&program, "neighbour").await?;
        fill::agents(&mut connection, attacker, 0..CONNECTED_AGENTS).await?;
        let neighbours = NEIGHBOUR_FIRST..NEIGHBOUR_FIRST + NEIGHBOUR_AGENTS;
        fill::agents(&mut connection, neighbour, neighbours.clone()).await?;
        lengthen_labels(&mut connection, attacker).await?;
        label_agents(&mut connection, attacker, ATTACKER_LABEL, args.agents).await?;
        let admin = program.api_key("attacker", "admin:organization").await?;
        let mut neighbour_gets = Vec::new();
        for _ in 0..NEIGHBOUR_KEYS {
            let key = program.api_key("neighbour", "agents:read").await?;
            let path = |number| format!("/api/agents/{}", fill::agent(number).0);
            neighbour_gets.extend(neighbours.clone().step_by(100).map(|number| get(&path(number), &key)));
        }
        Ok(Self { args, program, _database: database, connection, attacker, admin, neighbour_gets })
    }

    pub fn seconds(&self) -> f64 {
        f64::from(self.args.seconds)
    }

    /// Starts the program under test, and lets it meet the neighbour's keys and agents.
    pub async fn serve(&mut self) -> Result<Subject> {
        let subject = self.program.serve(self.args.memory).await?;
        let warm_up = super::actor::Actor::start(&self.neighbour(subject.address, 3.0), false).await?;
        warm_up.finish().await?;
        Ok(subject)
    }

    /// The neighbour's requests and heartbeats.
    pub fn neighbour(&self, address: SocketAddr, seconds: f64) -> Vec<Act> {
        let act = |requests, rate: u32| {
            Act::Paced(Paced {
                address,
                sources: NEIGHBOUR,
                connections: NEIGHBOUR_CONNECTIONS,
                requests,
                rate: Some(rate.into()),
                together: false,
                most: None,
                seconds,
                hold: false,
            })
        };
        let heartbeats = Requests::Heartbeats { first: NEIGHBOUR_FIRST, agents: NEIGHBOUR_AGENTS };
        vec![
            act(Requests::Texts(self.neighbour_gets.clone()), self.args.gets),
            act(heartbeats, self.args.heartbeats),
        ]
    }

    /// A fresh key of the attacker, with its whole allowance.
    pub async fn attacker_key(&self, scope: &str) -> Result<String> {
        self.program.api_key("attacker", scope).await
    }

    /// Makes the attacker's enrolled agents connected, as if each had just sent a heartbeat.
    pub async fn connect_agents(&mut self) -> Result<()> {
        query(
            "UPDATE agent_liveness
             SET last_seen_at = now(), connected_since = now(), remote_ip = '127.0.0.1'
             WHERE workspace_id = $1 AND credential IS NOT NULL",
        )
        .bind(self.attacker.uuid())
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// Waits first until the sessions have reported what they did.
    pub async fn settled_counters(&mut self) -> Result<Counters> {
        database::settle().await;
        self.counters().await
    }

    pub async fn counters(&mut self) -> Result<Counters> {
        let (transactions, sessions): (i64, i64) = query_as(
            "SELECT xact_commit + xact_rollback, sessions FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&mut self.connection)
        .await?;
        let number = |count: i64| report::count(count.unsigned_abs());
        Ok(Counters { transactions: number(transactions), sessions: number(sessions) })
    }
}

pub async fn workspace(program: &Program, slug: &str) -> Result<WorkspaceId> {
    let made = program.run(&["workspace", "create", "--slug", slug, "--name", slug, "--json"]).await?;
    let made: Value = serde_json::from_str(&made)?;
    let id = made.get("id").and_then(Value::as_str).ok_or("workspace create gave no id")?;
    Ok(id.parse().map_err(|_| "workspace create gave a malformed id")?)
}

/// Gives every agent of the workspace a label of the greatest length, which a stream has to send.
async fn lengthen_labels(connection: &mut PgConnection, workspace: WorkspaceId) -> Result<()> {
    query("UPDATE agents SET label = rpad(label, 255, '-'), label_key = rpad(label_key, 255, '-') WHERE workspace_id = $1")
        .bind(workspace.uuid())
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds agents that never enrolled, whose labels begin with `label`.
pub async fn label_agents(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    label: &str,
    agents: u32,
) -> Result<()> {
    query(
        "WITH registered AS (
            INSERT INTO agents (workspace_id, label, label_key, platform)
            SELECT $1, $2 || '-' || number, $2 || '-' || number, 'linux' FROM generate_series(1, $3) AS number
            RETURNING id
         )
         INSERT INTO agent_liveness (agent_id, workspace_id) SELECT id, $1 FROM registered",
    )
    .bind(workspace.uuid())
    .bind(label)
    .bind(i32::try_from(agents)?)
    .execute(&mut *connection)
    .await?;
    raw_sql("VACUUM ANALYZE agents").execute(&mut *connection).await?;
    raw_sql("VACUUM ANALYZE agent_liveness").execute(connection).await?;
    Ok(())
}
