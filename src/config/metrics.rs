//! Who may look inside.

use std::net::SocketAddr;

use clap::Args;

/// Who may look inside.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Where to serve metrics for Prometheus, at `/metrics`, to anybody who can reach it; off unless given.
    #[arg(long, env = "PLANASONIX_METRICS_LISTEN", value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,
}
