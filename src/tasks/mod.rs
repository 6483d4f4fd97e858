//! Background tasks, under one supervisor: a task that dies takes the process with it, since a control
//! plane that forgets to flush or to age is worse than one that restarts.

pub mod census;
pub mod prune;
pub mod reaper;
pub mod timer;

use std::future::Future;

use tokio::task::JoinError;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Runs tasks until it is told to stop, and tells when one of them died.
#[derive(Clone, Default)]
pub struct Supervisor {
    tasks: TaskTracker,
    died: CancellationToken,
}

impl Supervisor {
    /// Starts a task that ends only when its own token says so.
    pub fn spawn(
        &self,
        name: &'static str,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let died = self.died.clone();
        self.tasks.spawn(async move {
            let ended: Result<(), JoinError> = tokio::spawn(task).await;
            if let Err(error) = ended {
                tracing::error!(task = name, %error, "a background task died");
                died.cancel();
            } else if !stop.is_cancelled() {
                tracing::error!(task = name, "a background task ended by itself");
                died.cancel();
            }
        });
    }

    /// Ends when a task has died.
    pub async fn death(&self) {
        self.died.cancelled().await;
    }

    /// Waits for every task to end.
    pub async fn join(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
