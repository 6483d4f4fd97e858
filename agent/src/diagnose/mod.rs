//! `planasonix-agent diagnose`: what support needs to know, one block a probe, without a secret.
//!
//! Each probe has a limit, and what it needs from an earlier one that failed is not tried, so a report
//! takes half a minute where everything is dead.

mod certificate;
mod credential;
mod finding;
mod local;
mod network;
mod race;
mod reach;
mod route;
mod service;
mod socks;
mod tls;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

pub use self::finding::{Finding, Verdict};
use crate::{
    client::{Client, install_provider},
    config::Config,
    output, privileges,
    timing::Timing,
};

/// The flags of `diagnose`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Options {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Also send an empty heartbeat with the stored credential; the agent shows as connected for a while.
    #[arg(long)]
    pub check_credential: bool,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether no probe found a problem, and none was kept from looking.
    pub ok: bool,
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

/// Examines, prints, and answers 0 when all is well, [`privileges::EXIT_UNKNOWN`] when no more is wrong than that this user may
/// not see everything, else 1.
pub async fn run(config: &Config, options: Options) -> ExitCode {
    let report = examine(config, options).await;
    if options.json {
        output::json(&report);
    } else {
        for finding in &report.findings {
            output::line(&finding.to_string());
        }
    }
    match report.worst() {
        Some(Verdict::Problem) => ExitCode::FAILURE,
        Some(_) => ExitCode::from(privileges::EXIT_UNKNOWN),
        None => ExitCode::SUCCESS,
    }
}

impl Report {
    fn new(findings: Vec<Finding>) -> Self {
        let mut report = Self { ok: false, findings };
        report.ok = report.worst().is_none();
        report
    }

    /// What keeps the report from being ok.
    fn worst(&self) -> Option<Verdict> {
        let found = |verdict| self.findings.iter().any(|finding| finding.verdict == verdict);
        [Verdict::Problem, Verdict::Unknown].into_iter().find(|verdict| found(*verdict))
    }
}

/// Makes every probe.
pub async fn examine(config: &Config, options: Options) -> Report {
    install_provider();
    let mut findings = vec![local::program(), local::settings(config)];
    let timing = Timing { connect: reach::PATIENCE, request: reach::PATIENCE, ..Timing::default() };
    let client = Client::new(config, &timing).ok();
    let (stored, bearer) = credential::stored(config);
    let mut ready = false;
    if let Some(url) = &config.api_host {
        let network;
        (network, ready) = network::examine(config, url, client.as_ref()).await;
        findings.extend(network);
    }
    findings.push(stored);
    if options.check_credential {
        findings.push(match (client, bearer) {
            (Some(client), Some(bearer)) if ready => credential::asked(&client, &bearer).await,
            (_, None) => Finding::skipped(credential::ASKED, "there is no credential"),
            _ => Finding::skipped(credential::ASKED, "the control plane cannot be asked"),
        });
    }
    findings.extend([local::runtime_folder(config), service::examine().await]);
    Report::new(findings)
}
