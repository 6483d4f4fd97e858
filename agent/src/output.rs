//! The one place that prints. A command's answer goes to standard output, all else to standard error.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a line of the command's answer.
pub fn line(text: &str) {
    // Nobody is left to tell if standard output is closed.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Says to standard error what stood in the way, on one line.
pub fn complain(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "planasonix-agent: {text}");
}

/// Prints the command's answer as JSON.
pub fn json(answer: &impl Serialize) {
    match serde_json::to_string_pretty(answer) {
        Ok(text) => line(&text),
        Err(error) => complain(&error.to_string()),
    }
}
