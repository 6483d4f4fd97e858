//! The signals that end the agent, and the one that has it read its settings again.

use std::io;

/// Ends when the process is asked to stop: SIGTERM or Ctrl-C; on Windows Ctrl-C, Ctrl-Break, the console's closing,
/// or a shutdown, which is how containers are stopped.
pub fn stop() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }
    #[cfg(windows)]
    {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};

        let (mut interrupt, mut stop) = (ctrl_c()?, ctrl_break()?);
        let (mut close, mut shutdown) = (ctrl_close()?, ctrl_shutdown()?);
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = stop.recv() => {}
                _ = close.recv() => {}
                _ = shutdown.recv() => {}
            }
        })
    }
}

/// The wish that the settings be read again: SIGHUP. Windows has none.
#[derive(Debug)]
pub struct Reload {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Reload {
    /// From now on SIGHUP does not end the process.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};

            Ok(Self { hangup: signal(SignalKind::hangup())? })
        }
        #[cfg(windows)]
        Ok(Self {})
    }

    /// Waits for the next one.
    pub async fn wanted(&mut self) {
        #[cfg(unix)]
        if self.hangup.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}
