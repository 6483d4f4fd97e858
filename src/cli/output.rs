//! The one place that writes to standard output.

use std::io::{self, Write};

use planasonix_wire::terminal;
use serde::Serialize;
use serde_json::{Map, Value};

use super::failure::Failure;

/// Prints a text and ends the line. Control characters but line feeds are escaped; a value that may hold line feeds
/// goes through [`terminal::value`] first.
///
/// # Errors
/// Standard output is closed.
pub fn line(text: &str) -> io::Result<()> {
    print(&terminal::lines(text))
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Prints one object as a line of JSON.
///
/// # Errors
/// Standard output is closed.
pub fn json(object: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(object).map_err(io::Error::from)?;
    Ok(print(&terminal::json(&text))?)
}

/// Prints rows as a table, or each as a line of JSON.
///
/// # Errors
/// Standard output is closed.
pub fn rows<const COLUMNS: usize>(
    columns: [&str; COLUMNS],
    rows: Vec<[Value; COLUMNS]>,
    as_json: bool,
) -> Result<(), Failure> {
    if as_json {
        return rows.into_iter().try_for_each(|row| {
            let object: Map<_, _> = columns.iter().map(ToString::to_string).zip(row).collect();
            json(&object)
        });
    }
    let rows = rows.iter().map(|row| row.each_ref().map(cell));
    let mut table = comfy_table::Table::new();
    table.set_header(columns).add_rows(rows);
    Ok(line(&table.to_string())?)
}

/// A value as people read it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => terminal::value(text).into_owned(),
        Value::Array(words) => words.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cell_shows_what_a_terminal_would_obey() {
        assert_eq!(cell(&json!("a\u{1b}[2J\nb\u{202e}")), r"a\u{1b}[2J\nb\u{202e}");
        assert_eq!(cell(&json!(["a\r", "b"])), r"a\r b");
        assert_eq!(cell(&json!(null)), "-");
    }
}
