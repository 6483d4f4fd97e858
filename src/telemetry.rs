//! Logs: what is logged, and how. They go to standard error. Metrics: in [`exporter`].

pub mod exporter;

use std::io::{IsTerminal, stderr};

use planasonix_wire::terminal::{self, Escaping};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{ParseError, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, Logs};

/// Starts logging.
///
/// Libraries log at most at `info`, whatever is asked for: below it some of them write out the bytes of a
/// connection, and with them secrets.
///
/// # Errors
/// The filter cannot be read.
pub fn start(logs: &Logs) -> Result<(), ParseError> {
    let filter: EnvFilter = logs.log.parse()?;
    let ours = Targets::new()
        .with_default(LevelFilter::INFO)
        // Migrations say of each table that it is there already.
        .with_target("sqlx::postgres::notice", LevelFilter::WARN)
        .with_target("planasonix", LevelFilter::TRACE);
    let coloured = stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(coloured);
    // A value that a caller sent may stand in a line.
    let lines = match logs.log_format {
        LogFormat::Text if coloured => {
            lines.with_writer(|| Escaping::new(stderr(), terminal::coloured_lines)).boxed()
        }
        LogFormat::Text => lines.with_writer(|| Escaping::new(stderr(), terminal::lines)).boxed(),
        LogFormat::Json => {
            lines.with_writer(|| Escaping::new(stderr(), terminal::json)).json().flatten_event(true).boxed()
        }
    };
    tracing_subscriber::registry().with(lines.with_filter(ours).with_filter(filter)).init();
    Ok(())
}
