//! A control plane of a test's own, built as the program builds it.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use planasonix::{
    api_keys,
    db::{Budget, Db, LaneSizes},
    domain::{Scope, agent::ReenablePolicy, api_key::NewKey, presence::Rhythm},
    enrollment::Lives,
    http::{Admission, server::limit_buffers},
    lifecycle::{Service, Settings},
};
use planasonix_wire::{AgentId, ApiKeyId, WorkspaceId};
use tokio::sync::oneshot;

use super::{
    actors::{Caller, Workspace},
    database::Database,
    haproxy::Haproxy,
    http, rows, time,
};

/// A running control plane with a database of its own. It stops when dropped.
pub struct App {
    pub address: SocketAddr,
    pub database: Database,
    pub http: reqwest::Client,
    db: Db,
    _stops: Vec<oneshot::Sender<()>>,
    _proxy: Option<Haproxy>,
}

/// How many servers an app has, behind a proxy of its own: what the tests see must not depend on it.
fn replicas() -> usize {
    std::env::var("TEST_REPLICAS").map_or(1, |text| text.parse().expect("TEST_REPLICAS is a number"))
}

/// What the program runs with unless told otherwise.
pub fn defaults() -> Settings {
    Settings {
        lives: Lives { enrollment_token: Duration::from_hours(5), credential: Duration::from_hours(30 * 24) },
        rhythm: Rhythm {
            window: Duration::from_mins(2),
            interval: Duration::from_secs(30),
            min_interval: Duration::ZERO,
            most_per_second: 10_000,
        },
        events_retention: None,
        shutdown_delay: Duration::ZERO,
        lanes: LaneSizes { reads: 4, writes: 4 },
        admission: Admission::default(),
        installers: super::agents::installers(),
    }
}

/// A server on this database, until the answer's second part is dropped.
fn serve(database: &Database, settings: Settings) -> (SocketAddr, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    limit_buffers(&listener);
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let service = Service::start(database.options.clone(), listener, settings);
    tokio::spawn(service.run(async { drop(stopped.await) }));
    (address, stop)
}

impl App {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// An app with other settings.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::of(replicas(), change).await
    }

    /// An app of one server however many the others have: for what one process does with its connections, or
    /// counts or remembers for itself.
    pub async fn one_process(change: impl FnOnce(&mut Settings)) -> Self {
        Self::of(1, change).await
    }

    async fn of(servers: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = defaults();
        change(&mut settings);
        let database = Database::create().await;
        let serve = |_| serve(&database, settings.clone());
        let (addresses, stops): (Vec<_>, Vec<_>) = (0..servers).map(serve).unzip();
        let proxy = (servers > 1).then(|| Haproxy::among(&addresses).expect("haproxy is installed"));
        let address = proxy.as_ref().map_or(addresses[0], |proxy| proxy.address);
        let db = Db::new(database.options.clone(), LaneSizes { reads: 1, writes: 1 });
        let http = http::builder().pool_max_idle_per_host(64).build().unwrap();
        Self { address, database, http, db, _stops: stops, _proxy: proxy }
    }

    /// Somebody without a credential.
    pub fn anonymous(&self) -> Caller {
        self.caller(None)
    }

    /// Somebody who presents this token as bearer.
    pub fn bearer(&self, token: &str) -> Caller {
        self.caller(Some(token.to_owned()))
    }

    fn caller(&self, token: Option<String>) -> Caller {
        Caller { http: self.http.clone(), base: format!("http://{}", self.address), token }
    }

    /// A new workspace, with an operator who may read and write.
    pub async fn workspace(&self, slug: &str) -> Workspace {
        let id = self.db.create_workspace(slug, slug).await.unwrap().unwrap();
        let (_, operator) = self.operator(id, &[Scope::AgentsRead, Scope::AgentsWrite]).await;
        Workspace { id, operator }
    }

    /// An operator with a new API key of these scopes.
    pub async fn operator(&self, workspace: WorkspaceId, scopes: &[Scope]) -> (ApiKeyId, Caller) {
        let new = NewKey { name: "test".to_owned(), scopes: scopes.to_vec(), expires_in_days: Some(1) };
        let key = api_keys::create(&self.db.workspace(workspace, Budget::default()), new).await.unwrap();
        (key.id, self.bearer(&key.secret))
    }

    /// Revokes an API key, as the command line does.
    pub async fn revoke_key(&self, key: ApiKeyId) {
        assert!(self.db.revoke_api_key(key).await.unwrap());
    }

    /// Sets what enabling an agent of a workspace asks of it, as the command line does.
    pub async fn reenable_by(&self, slug: &str, policy: ReenablePolicy) {
        assert!(self.db.set_workspace(slug, Some(policy), None).await.unwrap());
    }

    /// Sets how many agents a workspace may have, as the command line does.
    pub async fn limit_agents(&self, slug: &str, most: i32) {
        assert!(self.db.set_workspace(slug, None, Some(most)).await.unwrap());
    }

    /// The number of agents that is kept for a workspace's limit, and the true one.
    pub async fn agent_count(&self, slug: &str) -> (i64, i64) {
        rows::agent_count(&self.database.options, slug).await
    }

    /// Lets time pass for everything stored but the audit trail.
    pub async fn time_passes(&self, time: Duration) {
        time::passes(&mut self.database.connect().await, time).await;
    }

    /// Lets time pass for these agents alone, and not for the keys of those who look at them.
    pub async fn time_passes_for(&self, agents: &[AgentId], time: Duration) {
        time::passes_for(&mut self.database.connect().await, agents, time).await;
    }

    /// Lets time pass for the audit trail alone.
    pub async fn events_age(&self, time: Duration) {
        time::passes_for_events(&mut self.database.connect().await, time).await;
    }

    /// Lets an API key's time run out.
    pub async fn expire_key(&self, key: ApiKeyId) {
        sqlx::query("UPDATE api_keys SET expires_at = now() WHERE id = $1")
            .bind(key.uuid())
            .execute(&mut self.database.connect().await)
            .await
            .unwrap();
    }

    /// The types and reasons of an agent's audit trail, oldest first.
    pub async fn events(&self, agent: AgentId) -> Vec<(String, Option<String>)> {
        sqlx::query_as("SELECT type, reason FROM events WHERE agent_id = $1 ORDER BY id")
            .bind(agent.uuid())
            .fetch_all(&mut self.database.connect().await)
            .await
            .unwrap()
    }

    /// The types alone.
    pub async fn event_types(&self, agent: AgentId) -> Vec<String> {
        self.events(agent).await.into_iter().map(|(event, _)| event).collect()
    }
}
