//! From the first moment of a process to its first request: probes are answered, and signals end it.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use reqwest::Method;
use tokio::task::spawn_blocking;

use super::on;
use crate::{
    dev_postgres::sandbox::Sandbox,
    support::{
        actors::Caller,
        ask::eventually,
        database::Database,
        http,
        program::{Program, Running},
        rows::{self, Held},
    },
};

/// A database that is not there: nothing listens on this port.
const AWAY: &str = "postgres://planasonix@127.0.0.1:1/planasonix";
const SECOND: Duration = Duration::from_secs(1);

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// `planasonix serve` on this database, and somebody without a credential who calls it.
fn serve(database_url: &str, flags: &[&str]) -> (Running, Caller) {
    let address = free_address();
    let listen = address.to_string();
    let arguments = [&["serve", "--shutdown-delay", "0", "--listen", &listen], flags].concat();
    let running = Program::new(&arguments).variable("DATABASE_URL", database_url).start();
    (running, caller(address))
}

fn caller(address: SocketAddr) -> Caller {
    Caller { http: http::client(), base: format!("http://{address}"), token: None }
}

/// Waits until it answers probes.
async fn until_alive(caller: &Caller) {
    let livez = || caller.request(Method::GET, "/livez").send();
    eventually(async || livez().await.ok().filter(|answer| answer.status() == 200)).await;
}

/// Why it is not ready.
async fn reason(caller: &Caller) -> String {
    let error = caller.get("/readyz").await.error(503, "unavailable");
    error["message"].as_str().unwrap().to_owned()
}

/// Asks it to stop; it must end soon, and in order.
#[track_caller]
fn assert_stops(running: Running) {
    let asked = Instant::now();
    let ended = running.stop();
    assert!(asked.elapsed() < 2 * SECOND, "{:?}", asked.elapsed());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[tokio::test]
async fn serve_without_a_database_answers_probes_and_stops() {
    let started = Instant::now();
    let (running, caller) = serve(AWAY, &["--cors-origin", "https://a.example"]);
    until_alive(&caller).await;
    assert!(started.elapsed() < 5 * SECOND, "{:?}", started.elapsed());
    assert!(reason(&caller).await.contains("waiting for the database"));
    assert_stops(running);
}

#[tokio::test]
async fn serve_without_a_database_refuses_other_routes_in_the_envelope() {
    let (_running, caller) = serve(AWAY, &["--cors-origin", "https://a.example"]);
    until_alive(&caller).await;
    let agent = "plnx_agent_01jq8x5g2m4n6p8r0s2t4v6w8y_";
    for path in ["/api/agents", "/api/agents/connected", "/api/openapi.json", "/docs/", "/no/such/path"] {
        let error = caller.get(path).await.error(503, "unavailable");
        assert!(error.get("action").is_none(), "{path}: {error}");
    }
    for path in ["/api/agents/enroll", "/api/agents/agt_x/heartbeat"] {
        let error = caller.with_token(agent).post_nothing(path).await.error(503, "unavailable");
        assert_eq!(error["action"], "retry", "{path}");
    }
    let request = caller.request(Method::GET, "/api/agents").header("origin", "https://a.example");
    let answer = caller.send(request).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example"));
    caller.post_nothing("/livez").await.error(405, "method_not_allowed");
}

/// A server that accepts and says nothing, as one behind a broken network does.
#[tokio::test]
async fn serve_on_a_silent_database_stops() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://planasonix@{}/planasonix", silent.local_addr().unwrap());
    let (running, caller) = serve(&url, &[]);
    until_alive(&caller).await;
    assert!(reason(&caller).await.contains("waiting for the database"));
    assert_stops(running);
}

#[tokio::test]
async fn serve_while_migrating_says_so_and_then_serves() {
    let database = Database::create().await;
    let held = Held::migrations(&database.options).await;
    let (running, caller) = serve(&database.url(), &["--migrate"]);
    until_alive(&caller).await;
    eventually(async || reason(&caller).await.contains("migrating").then_some(())).await;
    held.let_go().await;
    let running = running.until_serving();
    // On the connection that was kept open meanwhile, too.
    caller.get("/readyz").await.data(200);
    caller.get("/api/agents").await.error(401, "unauthenticated");
    // The client must get to close its end of the connection, which the server waits for.
    spawn_blocking(|| assert_stops(running)).await.unwrap();
}

#[tokio::test]
async fn migration_of_a_stopped_process_leaves_no_lock() {
    let database = Database::create().await;
    let held = Held::migrations(&database.options).await;
    let waits = async |count| {
        let look = async || (rows::waiting_for_a_lock(&database.options).await == count).then_some(());
        eventually(look).await;
    };
    let (running, _) = serve(&database.url(), &["--migrate"]);
    waits(1).await;
    assert_stops(running);
    waits(0).await;

    let running = on(&database, &["migrate"]).start();
    waits(1).await;
    let told = running.stop().complaint();
    assert!(told.contains("run `planasonix migrate` again"), "{told}");
    waits(0).await;
    held.let_go().await;
    on(&database, &["migrate"]).run().answer();
}

#[tokio::test]
async fn dev_that_starts_answers_probes_and_stops() {
    let home = Sandbox::new();
    let address = free_address();
    let (listen, folder) = (address.to_string(), home.dir.to_str().unwrap());
    let running = Program::new(&["dev", "--listen", &listen, "--data-dir", folder]).start();
    let caller = caller(address);
    until_alive(&caller).await;
    let why = reason(&caller).await;
    assert!(why.contains("starting the private Postgres"), "{why}");
    assert_stops(running);
}

/// Process 1 of a container has no default action for a signal: one without a handler is ignored.
#[cfg(target_os = "linux")]
mod process_one {
    use std::{fs, path::Path};

    use nix::{
        sys::signal::{Signal, kill},
        unistd::{Pid, geteuid},
    };

    use super::*;

    /// Whether a process has a handler for a signal.
    fn handles(process: u32, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (signal as i32 - 1) != 0
    }

    #[tokio::test]
    async fn signal_handlers_are_there_before_anything_waits() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://planasonix@{}/planasonix", silent.local_addr().unwrap());
        let migrate = Program::new(&["migrate"]).variable("DATABASE_URL", &url).start();
        let (serve, caller) = serve(&url, &[]);
        until_alive(&caller).await;
        for running in [&migrate, &serve] {
            for signal in [Signal::SIGTERM, Signal::SIGINT] {
                eventually(async || handles(running.id(), signal).then_some(())).await;
            }
        }
    }

    /// Only root may make a namespace of processes; for others the test above looks at the handlers.
    #[tokio::test]
    async fn serve_as_process_one_stops_while_it_waits() {
        if !geteuid().is_root() {
            return;
        }
        let address = free_address();
        let (listen, program) = (address.to_string(), env!("CARGO_BIN_EXE_planasonix"));
        let arguments = ["--pid", "--fork", "--kill-child", program, "serve", "--listen", &listen];
        let running = Program::at(Path::new("unshare"), &arguments).variable("DATABASE_URL", AWAY).start();
        until_alive(&caller(address)).await;
        let unshare = running.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        let asked = Instant::now();
        kill(Pid::from_raw(children.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
        let ended = running.ended();
        assert!(asked.elapsed() < 2 * SECOND, "{:?}", asked.elapsed());
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
}
