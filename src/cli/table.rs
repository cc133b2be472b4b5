//! Tables for people, 100 columns wide at most; in colour on a terminal, unless `NO_COLOR` is set.

use std::fmt::Write as _;
use std::io::IsTerminal;

use clap::ValueEnum;

const WIDTH: usize = 100;
/// A first column is not made narrower than this.
const NARROWEST: usize = 20;
const GAP: &str = "  ";

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Quiet,
    Heading,
}

#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<Cell>),
    /// Over all columns, and cut.
    Line(Cell),
    /// Over all columns, in as many lines as it takes.
    Text(Cell),
}

/// The first column is text and stands left, the others right.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

// === impl Cell ===

impl Cell {
    /// What a terminal could take for a command is shown as `?`.
    pub fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Cell { text: text.as_ref().chars().map(|c| if c.is_control() { '?' } else { c }).collect(), tone }
    }

    pub fn plain(text: impl AsRef<str>) -> Self {
        Cell::new(text, Tone::Plain)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

// === impl Table ===

impl Table {
    pub fn heading(&mut self, names: &[&str]) {
        self.row(names.iter().map(|name| Cell::new(name, Tone::Quiet)).collect());
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(Row::Cells(cells));
    }

    pub fn line(&mut self, text: impl AsRef<str>, tone: Tone) {
        self.rows.push(Row::Line(Cell::new(text, tone)));
    }

    /// What must be read to its end.
    pub fn wrapped(&mut self, text: impl AsRef<str>, tone: Tone) {
        self.rows.push(Row::Text(Cell::new(text, tone)));
    }

    /// Its text, as this process' standard output takes it.
    pub fn for_stdout(&self) -> String {
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        self.text(color)
    }

    fn text(&self, color: bool) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            match row {
                Row::Line(cell) => paint(&mut line, &fit(&cell.text, WIDTH), cell.tone, color),
                Row::Text(cell) => {
                    let lines: Vec<String> =
                        wrap(&cell.text).iter().map(|part| painted(part, cell.tone, color)).collect();
                    line = lines.join("\n");
                }
                Row::Cells(cells) => {
                    for (n, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                        let shown = fit(&cell.text, *width);
                        let room = " ".repeat(width.saturating_sub(shown.chars().count()));
                        if n > 0 {
                            line.push_str(GAP);
                            line.push_str(&room);
                        }
                        paint(&mut line, &shown, cell.tone, color);
                        if n == 0 {
                            line.push_str(&room);
                        }
                    }
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            widths.resize(widths.len().max(cells.len()), 0);
            widths.iter_mut().zip(cells).for_each(|(width, cell)| *width = cell.width().max(*width));
        }
        let all = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        if let Some(first) = widths.first_mut() {
            *first = first.saturating_sub(all.saturating_sub(WIDTH)).max((*first).min(NARROWEST));
        }
        widths
    }
}

/// So many characters at most; what is cut is said to be.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(width.saturating_sub(1)).collect();
    shown.push('…');
    shown
}

/// At spaces; the lines that follow stand further in.
fn wrap(text: &str) -> Vec<String> {
    let indent = match text.len() - text.trim_start().len() {
        0 => 10,
        leading => leading + 2,
    };
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > indent && line + word.trim_end().chars().count() > WIDTH {
            lines.push(" ".repeat(indent));
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

fn painted(text: &str, tone: Tone, color: bool) -> String {
    let mut out = String::new();
    paint(&mut out, text, tone, color);
    out
}

fn paint(out: &mut String, text: &str, tone: Tone, color: bool) {
    let code = match tone {
        Tone::Plain => "",
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "31",
        Tone::Quiet => "2",
        Tone::Heading => "1",
    };
    if !color || code.is_empty() {
        out.push_str(text);
    } else {
        // writing to a String cannot fail
        let _ = write!(out, "\u{1b}[{code}m{text}\u{1b}[0m");
    }
}

// === numbers for people ===

/// `850 ms`, `1.2 s`, `23 s`, `12 min`, `3 h 12 min`, `4 d 3 h`.
pub fn time(millis: u64) -> String {
    let seconds = millis / 1000;
    let two = |large: u64, unit: &str, small: u64, less: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {less}"),
    };
    match seconds {
        0 => format!("{millis} ms"),
        1..10 if !millis.is_multiple_of(1000) => format!("{}.{} s", seconds, millis % 1000 / 100),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// `12 s ago`, `just now`.
pub fn ago(then: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let millis = now.as_millisecond().saturating_sub(then.as_millisecond());
    match u64::try_from(millis).unwrap_or(0) / 1000 {
        0 => "just now".to_owned(),
        seconds => format!("{} ago", time(seconds * 1000)),
    }
}

/// `1 account`, `2 accounts`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_columns_and_its_width() {
        let mut table = Table::default();
        table.heading(&["TARGET", "CALLS"]);
        table.row(vec![Cell::plain("m".repeat(200)), Cell::new("7", Tone::Bad)]);
        table.row(vec![Cell::plain("a\u{1b}[31m"), Cell::plain("12345")]);
        table.line("x".repeat(300), Tone::Quiet);
        let plain = table.text(false);
        assert!(plain.lines().all(|line| line.chars().count() <= WIDTH), "{plain}");
        assert!(!plain.contains('\u{1b}'), "nobody's text moves the cursor");
        let ends: Vec<&str> = plain.lines().take(3).map(|line| line.rsplit("  ").next().unwrap().trim()).collect();
        assert_eq!(ends, ["CALLS", "7", "12345"]);
        let painted = table.text(true);
        assert!(painted.contains("\u{1b}[31m7\u{1b}[0m"));
        let stripped =
            ["\u{1b}[31m", "\u{1b}[2m", "\u{1b}[0m"].iter().fold(painted, |text, code| text.replace(code, ""));
        assert_eq!(stripped, plain, "colour takes no room");
    }

    #[test]
    fn what_must_be_read_to_its_end_takes_more_lines() {
        let mut table = Table::default();
        table.wrapped(format!("refused   {}", "word ".repeat(60)), Tone::Bad);
        let text = table.text(false);
        assert_eq!(text.matches("word").count(), 60);
        assert!(text.lines().count() == 4 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("          word")));
        assert!(table.text(true).lines().all(|line| line.starts_with("\u{1b}[31m") && line.ends_with("\u{1b}[0m")));
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        for (millis, said) in [
            (0, "0 ms"),
            (850, "850 ms"),
            (1250, "1.2 s"),
            (23_000, "23 s"),
            (180_000, "3 min"),
            (11_520_000, "3 h 12 min"),
            (4 * 86_400_000 + 3 * 3_600_000, "4 d 3 h"),
        ] {
            assert_eq!(time(millis), said);
        }
    }
}
