//! The Planasonix pipeline agent: enrolls a host with the control plane, keeps it connected, and takes it
//! away again.
//!
//! From the outside in: [`cli`] reads the command line and starts a command; [`run`] is the loop that keeps
//! the agent connected, [`enroll`] the way in, [`uninstall`] the way out; [`status`] and [`diagnose`] tell how it
//! stands. They stand on [`client`] (the API, with a typed answer to each
//! request), [`identity`] (who this installation is, on the disk), [`host`] and [`facts`] (what is told of
//! the host), [`runtimes`] (the folder where pipeline runtimes and the agent meet), [`plain_file`] (files that
//! others may have put there), [`authorities`] (files of certificates), [`subprocess`] (queries of other programs)
//! and [`systemd`].
//!
//! What every part needs stands in one place each: settings in [`config`], waiting times in [`timing`], the
//! clock in [`clock`], chance in [`entropy`], secrets in [`secret`], printing in [`output`], the log in
//! [`telemetry`], signals in [`signals`], encodings in [`text`]. [`core_dumps`] and [`privileges`] limit what a crash
//! and a command of root can expose.

pub mod authorities;
mod certificates;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod core_dumps;
pub mod diagnose;
pub mod enroll;
pub mod entropy;
pub mod facts;
pub mod host;
pub mod identity;
pub mod output;
pub mod plain_file;
pub mod privileges;
pub mod run;
pub mod runtimes;
pub mod secret;
#[cfg(windows)]
pub mod service;
pub mod signals;
pub mod status;
pub mod subprocess;
pub mod systemd;
pub mod telemetry;
pub mod text;
pub mod timing;
pub mod uninstall;

pub use cli::main;
