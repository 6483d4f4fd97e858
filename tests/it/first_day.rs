//! An operator's first day, as the guide tells it: two replicas behind a load balancer, a rolling restart, a backup
//! and its restore. Commands and settings are taken from the guide itself.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    path::Path,
    process,
    time::{Duration, Instant},
};

use planasonix_wire::AgentId;
use regex::Regex;
use sqlx::AssertSqlSafe;
use tokio::time::sleep;

use crate::support::{
    database::Database,
    haproxy::Haproxy,
    process::Server,
    rows,
    storm::{self, Beat, Storm},
    turn,
    wire::Line,
};

const GUIDE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md"));
const AGENTS: usize = 500;
/// Five hundred agents' answers and pauses together are about a second.
const PAUSE: Duration = Duration::from_millis(950);
/// Short enough to be over before the storm is, so that who is not heard is called lost.
const FLAGS: [&str; 2] = ["--connected-window=12", "--heartbeat-interval=1"];

/// The only block of this language that holds `word`.
fn block(language: &str, word: &str) -> &'static str {
    let fence = Regex::new(&format!("(?s)```{language}\n(.*?)```")).unwrap();
    let blocks: Vec<_> = fence.captures_iter(GUIDE).map(|found| found.get(1).unwrap().as_str()).collect();
    let mut holding = blocks.into_iter().filter(|block| block.contains(word));
    let found = holding.next().unwrap();
    assert!(holding.next().is_none(), "{word} is in two blocks");
    found
}

/// The guide's balancer, without TLS, before these replicas.
fn balancer(replicas: &[SocketAddr; 2]) -> Option<Haproxy> {
    let mut settings = block("haproxy", "backend replicas").to_owned();
    for (written, ours) in [
        ("bind :8443 ssl crt /etc/haproxy/planasonix.pem", "bind fd@0"),
        ("10.0.0.11:8080", &replicas[0].to_string()),
        ("10.0.0.12:8080", &replicas[1].to_string()),
    ] {
        assert!(settings.contains(written), "{written}");
        settings = settings.replace(written, ours);
    }
    Haproxy::as_told(&settings)
}

/// Loopback addresses that nobody else uses, so that a replica comes back where it was.
fn addresses() -> [SocketAddr; 2] {
    let host = u8::try_from(process::id() % 250).unwrap() + 1;
    [1, 2].map(|last| {
        TcpListener::bind(SocketAddr::from(([127, 99, host, last], 0))).unwrap().local_addr().unwrap()
    })
}

/// What went wrong must be such that asking again mends it, and soon, however busy this machine is.
fn assert_mended(beats: &[Beat]) {
    let mut failing: HashMap<AgentId, u32> = HashMap::new();
    let mut failed = 0;
    for beat in beats {
        let bad = beat.accepted_at().is_none();
        assert!(!bad || beat.was_postponed() || beat.is_lost(), "{beat:?}");
        let running = failing.entry(beat.agent).or_default();
        *running = if bad { *running + 1 } else { 0 };
        assert!(*running < 4, "{beat:?}");
        failed += u32::from(bad);
    }
    println!("{} beats, {failed} of them sent again", beats.len());
}

#[tokio::test]
async fn a_rolling_restart_under_load_is_noticed_by_nobody() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let (url, addresses) = (database.url(), addresses());
    let start = async |at: SocketAddr| Server::start_at(at, &url, &FLAGS).await;
    let mut replicas = [start(addresses[0]).await, start(addresses[1]).await];
    let Some(proxy) = balancer(&addresses) else {
        println!("skipped: haproxy is not installed (Debian: apt-get install haproxy)");
        return;
    };
    let acme = replicas[0].workspace(&database.options, "acme").await;
    let agents = storm::agents(&acme, AGENTS).await;

    let (storm, began) = (Storm::start(&agents, proxy.address, PAUSE, 0), Instant::now());
    for replica in &mut replicas {
        sleep(Duration::from_secs(3)).await;
        database.shell(&format!("{} migrate", env!("CARGO_BIN_EXE_planasonix")), Path::new("/"));
        let at = replica.address;
        replica.terminate();
        assert!(replica.ended().await.success());
        *replica = start(at).await;
    }
    // Whoever was not heard from the second restart on has been found missing.
    sleep(Duration::from_secs(16)).await;
    let beats = storm.stop().await;
    println!("{} beats a second", beats.len() as u64 / began.elapsed().as_secs());
    assert_mended(&beats);
    for agent in &agents {
        let mut line = Line::open(proxy.address).await.unwrap();
        storm::insist(&mut line, &storm::heartbeat(agent, 0)).await;
    }

    let trails = rows::trails(&database.options).await;
    for agent in &agents {
        let types: Vec<_> = trails[&agent.id].iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(types, ["registered", "enrolled", "connected"]);
    }
}

/// With the rights that the guide grants, and no more.
#[tokio::test]
async fn a_role_that_does_not_own_the_schema_serves_and_cannot_change_the_past() {
    let database = Database::create().await;
    let role = format!("serve_{}", database.name());
    let grants = block("sql", "GRANT USAGE").replace("planasonix_serve", &role);
    let mut owner = database.connect().await;
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE ROLE {role} LOGIN; {grants}")))
        .execute(&mut owner)
        .await
        .unwrap();
    let server = Server::start(&database.url_for(&role), &["--events-retention=3600"]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let agent = acme.agent("etl").await;
    agent.beat().await;
    agent.rotate().await.beat().await;
    acme.revoke(agent.id).await.data(200);
    acme.enable(agent.id).await.enroll().await.beat().await;
    let mut serving = database.connect_as(&role).await;
    for change in ["UPDATE events SET reason = 'x'", "DELETE FROM events", "TRUNCATE events"] {
        sqlx::raw_sql(change).execute(&mut serving).await.unwrap_err();
    }
    drop((server, serving));
    sqlx::raw_sql(AssertSqlSafe(format!("DROP OWNED BY {role}; DROP ROLE {role}")))
        .execute(&mut owner)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_restored_backup_goes_on_where_it_was_made() {
    let (database, restored, folder) =
        (Database::create().await, Database::empty().await, tempfile::tempdir().unwrap());
    let mut server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let agents = storm::agents(&acme, 20).await;
    for agent in &agents {
        agent.beat().await;
    }
    let before = acme.operator.get("/api/agents/connected").await.data(200);
    server.terminate();
    assert!(server.ended().await.success());

    database.shell(block("sh", "pg_dump"), folder.path());
    let restore = block("sh", "pg_restore").lines().find(|line| line.starts_with("pg_restore")).unwrap();
    restored.shell(restore, folder.path());
    assert_eq!(restored.dump(), database.dump());

    let server = Server::start(&restored.url(), &[]).await;
    for agent in &agents {
        agent.at(server.address).beat().await;
    }
    let after = acme.operator.at(server.address).get("/api/agents/connected").await.data(200);
    let since = |rows: &serde_json::Value| -> Vec<_> {
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| (row["id"].clone(), row["connected_since"].clone()))
            .collect()
    };
    assert_eq!(since(&after), since(&before));
}
