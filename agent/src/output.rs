//! The one place that prints. A command's answer goes to standard output, all else to standard error.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a line of the command's answer.
pub fn line(text: &str) {
    // Nobody is left to tell if standard output is closed.
    let _ = writeln!(io::stdout(), "{}", printable(text));
}

/// Says to standard error what stood in the way, on one line.
pub fn complain(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "planasonix-agent: {}", printable(text));
}

/// Replaces control characters but line feeds. Labels, file names and messages come from elsewhere, and root's terminal
/// would obey the escape sequences in them.
fn printable(text: &str) -> String {
    let replace = |character: char| if character.is_control() && character != '\n' { '?' } else { character };
    text.chars().map(replace).collect()
}

/// Prints the command's answer as JSON.
pub fn json(answer: &impl Serialize) {
    match serde_json::to_string_pretty(answer) {
        Ok(text) => line(&text),
        Err(error) => complain(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_not_printed() {
        assert_eq!(printable("a\u{1b}]0;x\u{7}b\u{9b}1m\nc é"), "a?]0;x?b?1m\nc é");
    }
}
