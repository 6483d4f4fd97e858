//! The one place that prints. A command's answer goes to standard output, all else to standard error.

use std::io::{self, Write};

use planasonix_wire::terminal;
use serde::Serialize;

/// Prints a line of the command's answer, or several. Control characters but line feeds are escaped; a value that may
/// hold line feeds goes through [`terminal::value`] first.
pub fn line(text: &str) {
    print(&terminal::lines(text));
}

/// Says to standard error what stood in the way, on one line.
pub fn complain(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "planasonix-agent: {}", terminal::value(text));
}

/// Prints the command's answer as JSON.
pub fn json(answer: &impl Serialize) {
    match serde_json::to_string_pretty(answer) {
        Ok(text) => print(&terminal::json(&text)),
        Err(error) => complain(&error.to_string()),
    }
}

fn print(text: &str) {
    // Nobody is left to tell if standard output is closed.
    let _ = writeln!(io::stdout(), "{text}");
}
