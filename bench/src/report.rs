//! Tables, and the same as lines of JSON.

use planasonix::cli::output;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Result;

/// One row: names and what stands under them.
pub type Row = Vec<(&'static str, String)>;

pub fn rows(title: &str, rows: &[Row], as_json: bool) -> Result<()> {
    let mut table = comfy_table::Table::new();
    let Some(first) = rows.first() else { return Ok(()) };
    table.set_header(first.iter().map(|(name, _)| *name));
    table.add_rows(rows.iter().map(|row| row.iter().map(|(_, cell)| cell)));
    output::line(&format!("\n{title}\n{table}"))?;
    if as_json {
        for row in rows {
            let cells = row.iter().map(|(name, cell)| ((*name).to_owned(), json(cell)));
            line(&[("table".to_owned(), title.into())].into_iter().chain(cells).collect())?;
        }
    }
    Ok(())
}

fn line(object: &Map<String, Value>) -> Result<()> {
    Ok(output::line(&serde_json::to_string(object)?)?)
}

/// A number where it is one.
fn json(cell: &impl Serialize) -> Value {
    let value = serde_json::to_value(cell).unwrap_or_default();
    let number = value.as_str().and_then(|text| text.parse::<f64>().ok());
    number.map_or(value, Value::from)
}

/// The value that so great a part of the sorted values does not exceed.
pub fn percentile(sorted: &[u32], part: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a position in a list"
    )]
    let position = (part * sorted.len().saturating_sub(1) as f64) as usize;
    sorted.get(position).copied().map_or(0.0, f64::from)
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub fn megabytes(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let bytes = bytes as f64;
    format!("{:.1}", bytes / 1_048_576.0)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn count(number: u64) -> f64 {
    number as f64
}
