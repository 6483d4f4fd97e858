//! `healthcheck`: what a container asks.

use nix::sys::signal::Signal;

use super::serve;
use crate::support::{database::Database, program::Program};

#[tokio::test]
async fn a_ready_server_is_healthy_one_that_is_about_to_stop_or_gone_is_not() {
    let database = Database::create().await;
    let server = serve(&database, &["--shutdown-delay", "3"]).start().until_serving();
    let listen = server.address().to_string();
    let ask = || Program::new(&["healthcheck", "--listen", &listen]);
    ask().run().answer();
    server.signal(Signal::SIGTERM);
    server.until_it_says("stopping");
    assert!(ask().run().complaint().contains("is not ready: HTTP/1.1 503"), "{listen}");
    server.ended();
    assert!(ask().run().complaint().contains("does not answer"), "{listen}");
}

#[tokio::test]
async fn who_listens_everywhere_is_asked_at_the_loopback() {
    let database = Database::create().await;
    let server = serve(&database, &[]).start().until_serving();
    let everywhere = format!("0.0.0.0:{}", server.address().port());
    Program::new(&["healthcheck"]).variable("PLANASONIX_LISTEN", &everywhere).run().answer();
}
