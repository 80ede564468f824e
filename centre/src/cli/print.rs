//! Tables that a person reads, and lines that a program reads.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use serde::Serialize;

/// One JSON object, one line.
pub(super) fn json(output: &mut dyn Write, item: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(item)?;
    writeln!(output, "{text}")
}

/// A table with a header, or a sentence where there are no rows.
pub(super) fn table(output: &mut dyn Write, header: &[&str], rows: Vec<Vec<String>>, none: &str) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(output, "{none}");
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING.header_separator(LineStyle::new('─', '─', '─', '─')))
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied()).add_rows(rows);
    writeln!(output, "{table}")
}

/// A time as a table shows it: seconds, UTC.
pub(super) fn time(microseconds: i64) -> String {
    let seconds = jiff::Timestamp::from_second(microseconds.div_euclid(1_000_000));
    seconds.map_or_else(|_| "unknown".to_owned(), |time| time.to_string())
}
