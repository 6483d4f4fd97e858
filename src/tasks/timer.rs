//! Does a small thing again and again.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Does `work`, which must be quick, every `period` until told to stop.
pub async fn every(period: Duration, stop: CancellationToken, work: impl Fn() + Send) {
    while stop.run_until_cancelled(sleep(period)).await.is_some() {
        work();
    }
}
