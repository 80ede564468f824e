//! What a person or a program reads: tables and JSON lines on standard output.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use serde::Serialize;

/// Writes a line; a reader that went away (`| head`) is no failure.
pub(super) fn line(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// One JSON object a line.
pub(super) fn json(items: &[impl Serialize]) -> io::Result<()> {
    items.iter().try_for_each(|item| line(&serde_json::to_string(item)?))
}

/// A table with a header, or a sentence where there are no rows.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>, none: &str) -> io::Result<()> {
    arranged(header, rows, none, ContentArrangement::Disabled)
}

/// A table whose cells are long texts: they are broken so that it fits a terminal.
pub(super) fn table_of_texts(header: &[&str], rows: Vec<Vec<String>>, none: &str) -> io::Result<()> {
    arranged(header, rows, none, ContentArrangement::Dynamic)
}

/// Columns of a terminal that texts are broken for.
const WIDTH: u16 = 100;

fn arranged(header: &[&str], rows: Vec<Vec<String>>, none: &str, arrangement: ContentArrangement) -> io::Result<()> {
    if rows.is_empty() {
        return line(none);
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING.header_separator(LineStyle::new('─', '─', '─', '─')))
        .set_content_arrangement(arrangement)
        .set_width(WIDTH);
    table.set_header(header).add_rows(rows);
    line(&table.to_string())
}

/// Seconds as a person says them.
pub(super) fn age(seconds: Option<u64>) -> String {
    match seconds {
        None => "never".into(),
        Some(s @ 0..=119) => format!("{s} s ago"),
        Some(s @ 120..=7_199) => format!("{} min ago", s / 60),
        Some(s @ 7_200..=172_799) => format!("{} h ago", s / 3_600),
        Some(s) => format!("{} days ago", s / 86_400),
    }
}

/// Octets as a person says them.
pub(super) fn octets(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{} KB", count / 1_000),
        _ => format!("{} MB", count / 1_000_000),
    }
}
