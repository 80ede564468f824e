//! What a person sees while it runs: a table that is drawn again in place on a terminal, a line now and then elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Without a terminal, a line so often.
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_CELLS: usize = 40;

/// The link between kit and centre, as far as the demonstration itself decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    Cut,
    AgentDown,
}

/// One device's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) device: String,
    /// Units put on the link.
    pub(super) made: u64,
    /// Units at the centre.
    pub(super) stored: u64,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) phase: &'static str,
    pub(super) elapsed: Duration,
    pub(super) total: Duration,
    pub(super) link: Link,
    pub(super) connected: bool,
    pub(super) rows: Vec<Row>,
    /// Records that wait in the kit; `None` while the agent does not answer.
    pub(super) waiting: Option<u64>,
    pub(super) acknowledged_ago: Option<Duration>,
    pub(super) octets_up: u64,
    pub(super) pss_kib: u64,
}

/// Draws on standard output, or on standard error where that is kept for the JSON object.
pub(super) struct Display {
    out: Box<dyn Write + Send>,
    in_place: bool,
    drawn_lines: usize,
    last_line: Option<Duration>,
}

impl Display {
    pub(super) fn new(json: bool) -> Self {
        if json {
            let in_place = std::io::stderr().is_terminal();
            Self { out: Box::new(std::io::stderr()), in_place, drawn_lines: 0, last_line: None }
        } else {
            let in_place = std::io::stdout().is_terminal();
            Self { out: Box::new(std::io::stdout()), in_place, drawn_lines: 0, last_line: None }
        }
    }

    /// Something happened that stays on the screen.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        self.print(&format!("{text}\n"));
    }

    /// Shows where it stands.
    pub(super) fn show(&mut self, snapshot: &Snapshot) {
        if self.in_place {
            self.clear();
            let text = table(snapshot);
            self.drawn_lines = text.lines().count();
            self.print(&text);
        } else if self.last_line.is_none_or(|last| snapshot.elapsed >= last + LINE_EVERY) {
            self.last_line = Some(snapshot.elapsed);
            self.print(&format!("{}\n", line(snapshot)));
        }
    }

    fn clear(&mut self) {
        if self.drawn_lines > 0 {
            // Up to the table's first line, then erase to the end of the screen.
            let up = self.drawn_lines;
            self.drawn_lines = 0;
            self.print(&format!("\x1b[{up}A\x1b[J"));
        }
    }

    /// A screen that is gone is no reason to stop.
    fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

fn table(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let link = match (snapshot.link, snapshot.connected) {
        (Link::Cut, _) => "\x1b[31m✂ network cut\x1b[0m",
        (Link::AgentDown, _) => "\x1b[31m✝ agent killed\x1b[0m",
        (Link::Up, true) => "\x1b[32m● connected\x1b[0m",
        (Link::Up, false) => "\x1b[33m○ connecting\x1b[0m",
    };
    let progress = snapshot.elapsed.as_secs_f64() / snapshot.total.as_secs_f64().max(1.0);
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "\n  {} {} {:>3} of {} s   {link}",
        snapshot.phase,
        bar(progress, BAR_CELLS),
        snapshot.elapsed.as_secs().min(snapshot.total.as_secs()),
        snapshot.total.as_secs(),
    );
    let _ = writeln!(text, "\n  {:<16} {:>14} {:>14}", "device", "made", "at the centre");
    for row in &snapshot.rows {
        let arrived = bar(share(row.stored, row.made), BAR_CELLS / 2);
        let _ = writeln!(text, "  {:<16} {:>14} {:>14}  {arrived}", row.device, grouped(row.made), grouped(row.stored));
    }
    let _ = writeln!(text, "\n  {}", state(snapshot));
    text
}

fn line(snapshot: &Snapshot) -> String {
    let link = match (snapshot.link, snapshot.connected) {
        (Link::Cut, _) => "network cut",
        (Link::AgentDown, _) => "agent killed",
        (Link::Up, true) => "connected",
        (Link::Up, false) => "connecting",
    };
    let rows: Vec<String> =
        snapshot.rows.iter().map(|row| format!("{} {}/{}", row.device, grouped(row.stored), grouped(row.made))).collect();
    format!("{:>4} s  {link:<12}  {}  {}", snapshot.elapsed.as_secs(), rows.join("  "), state(snapshot))
}

fn state(snapshot: &Snapshot) -> String {
    let waiting = snapshot.waiting.map_or_else(|| "queue ?".to_owned(), |waiting| format!("queue {}", grouped(waiting)));
    let acknowledged = snapshot
        .acknowledged_ago
        .map_or_else(|| "nothing acknowledged yet".to_owned(), |ago| format!("acknowledged {:.0} s ago", ago.as_secs_f64()));
    format!("{waiting} · {acknowledged} · {} octets up · agent {} KiB", grouped(snapshot.octets_up), grouped(snapshot.pss_kib))
}

fn bar(share: f64, cells: usize) -> String {
    let full = (0..cells).filter(|cell| (*cell as f64 + 0.5) / cells as f64 <= share).count();
    format!("{}{}", "━".repeat(full), "┄".repeat(cells - full))
}

/// A number with its digits in threes.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            phase: "measuring",
            elapsed: Duration::from_secs(30),
            total: Duration::from_secs(60),
            link: Link::Cut,
            connected: false,
            rows: vec![Row { device: "ecg-ads1298".to_owned(), made: 120_000, stored: 60_000 }],
            waiting: Some(17),
            acknowledged_ago: Some(Duration::from_secs(4)),
            octets_up: 1_234_567,
            pss_kib: 9_999,
        }
    }

    #[test]
    fn a_line_says_what_a_person_wants_to_know() {
        assert_eq!(
            line(&snapshot()),
            "  30 s  network cut   ecg-ads1298 60 000/120 000  queue 17 · acknowledged 4 s ago · 1 234 567 octets up · \
             agent 9 999 KiB"
        );
    }

    #[test]
    fn the_table_is_as_high_as_it_is_drawn() {
        let text = table(&snapshot());
        assert!(text.contains("✂ network cut") && text.ends_with('\n'));
        assert_eq!(bar(0.5, 4), "━━┄┄");
        assert_eq!((bar(0.0, 4).as_str(), bar(1.0, 4).as_str()), ("┄┄┄┄", "━━━━"));
    }

    #[test]
    fn digits_stand_in_threes() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
    }
}
