//! Records metrics and offers them to Prometheus.

use std::{net::TcpListener, time::Duration};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::sleep;

use crate::{http::metrics, meter};

/// From a cached answer to the longest wait that a request may have.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// From a lone beat to the most that one flush takes.
const SIZES: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 2_048.0, 4_096.0];
/// How often what was recorded is folded together, read or not.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts recording, for the whole process.
///
/// # Errors
/// Something records already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZES)?
        .install_recorder()?;
    meter::describe();
    Ok(handle)
}

/// Serves what was recorded until the process ends.
pub async fn serve(recorded: PrometheusHandle, listener: TcpListener) {
    let shown = recorded.clone();
    let upkeep = async {
        loop {
            sleep(UPKEEP).await;
            recorded.run_upkeep();
        }
    };
    tokio::select! {
        ended = metrics::serve(listener, move || shown.render()) => {
            if let Err(error) = ended {
                tracing::error!(%error, "metrics are served no more");
            }
        }
        () = upkeep => {}
    }
}
