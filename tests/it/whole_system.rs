//! The control plane and real agents, each a process of its own.

mod barred;
mod day;
mod interrupted;
mod joining;
mod leaving;

use planasonix_wire::AgentId;
use serde_json::Value;

use crate::support::{
    actors::{Agent, Caller, Workspace},
    agent_program::AgentHost,
    database::Database,
    process::Server,
    program::{Program, Running},
};

/// Agents beat every second, and nobody waits for the server's end.
const FLAGS: [&str; 2] = ["--heartbeat-interval=1", "--shutdown-delay=0"];

/// A control plane and one workspace.
struct System {
    server: Server,
    database: Database,
    acme: Workspace,
}

/// A host whose agent runs.
struct Member {
    id: AgentId,
    /// What its service finds in its environment.
    token: String,
    host: AgentHost,
    agent: Running,
}

impl System {
    async fn start(flags: &[&str]) -> Self {
        let database = Database::create().await;
        let flags = [&FLAGS, flags].concat();
        let server = Server::start(&database.url(), &flags).await;
        let acme = server.workspace(&database.options, "acme").await;
        Self { server, database, acme }
    }

    /// An agent that was registered, started with its token, and is connected.
    async fn member(&self, label: &str) -> Member {
        self.member_at(AgentHost::new(self.server.address), label).await
    }

    async fn member_at(&self, host: AgentHost, label: &str) -> Member {
        let pending = self.acme.register(label).await;
        let token = pending.token.token.unwrap();
        let agent = host.run(Some(&token));
        host.is("active").await;
        Member { id: pending.id, token, host, agent }
    }

    /// Sets the workspace's policy as its operator does.
    fn reenable_by(&self, policy: &str) {
        let arguments = ["workspace", "set", "--slug=acme", "--reenable-policy", policy];
        let set = Program::new(&arguments).variable("DATABASE_URL", &self.database.url()).run();
        assert!(set.status.success(), "{set:?}");
    }

    /// An agent's row in the connected view.
    async fn row(&self, agent: AgentId) -> Option<Value> {
        let rows = self.acme.operator.get("/api/agents/connected").await.data(200);
        rows.as_array().unwrap().iter().find(|row| row["id"] == agent.to_string()).cloned()
    }

    async fn is_connected(&self, agent: AgentId) -> bool {
        self.row(agent).await.is_some()
    }

    /// The agent's events of one type, newest first.
    async fn events(&self, agent: AgentId, of: &str) -> Vec<Value> {
        let events = self.acme.operator.get(&format!("/api/agents/{agent}/events?type={of}")).await.data(200);
        events.as_array().unwrap().clone()
    }

    /// Somebody who has what the agent has now.
    fn whoever_has_the_credential_of(&self, member: &Member) -> Agent {
        let credential = member.host.identity().credential.unwrap().expose().to_owned();
        Agent { id: member.id, me: Caller { token: Some(credential), ..self.acme.operator.clone() } }
    }
}
