//! Rows as text: CSV (RFC 4180, with a header) and JSON lines. One list of columns for both.

use std::borrow::Cow;

use futures_util::Stream;
use futures_util::stream::try_unfold;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::codec::counts;
use super::db::StoreError;
use super::entry::StoredEntry;
use super::query::Format;
use super::stored::Pages;

enum Cell<'a> {
    Text(Cow<'a, str>),
    Number(i64),
    Truth(bool),
    /// In CSV, as JSON text.
    Tags(&'a StoredEntry),
    None,
}

/// A row with the names of its columns.
struct Line<'a>([(&'static str, Cell<'a>); COLUMNS]);

const COLUMNS: usize = 34;

struct Tags<'a>(&'a StoredEntry);

pub(super) fn export(pages: Pages, format: Format) -> impl Stream<Item = Result<String, StoreError>> + Send {
    try_unfold((pages, true), move |(mut pages, first)| async move {
        let page = pages.next().await?;
        let header = first && format == Format::Csv;
        if page.is_none() && !header {
            return Ok(None);
        }
        let mut text = String::new();
        if header {
            text.push_str(&HEADER.join(","));
            text.push_str("\r\n");
        }
        for entry in page.unwrap_or_default() {
            let line = Line::of(&entry);
            match format {
                Format::Csv => line.csv(&mut text),
                Format::JsonLines => {
                    let json = serde_json::to_string(&line);
                    text.push_str(&json.map_err(|error| StoreError::Unavailable(error.to_string()))?);
                    text.push('\n');
                }
            }
        }
        Ok(Some((text, (pages, false))))
    })
}

const HEADER: [&str; COLUMNS] = [
    "call",
    "attempt",
    "at",
    "ended",
    "state",
    "key",
    "tags",
    "model",
    "provider",
    "upstream_model",
    "operation",
    "stream",
    "status",
    "outcome",
    "answered",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "server_tool_calls",
    "images",
    "searches",
    "service_tier",
    "cost_nano_usd",
    "estimated",
    "hold_nano_usd",
    "price_version",
    "tariff",
    "first_token_ms",
    "duration_ms",
];

// === impl Line ===

impl<'a> Line<'a> {
    fn of(entry: &'a StoredEntry) -> Self {
        let r = &entry.reservation;
        let text = |text: Option<&'a str>| text.map_or(Cell::None, |text| Cell::Text(text.into()));
        let number = |number: Option<i64>| number.map_or(Cell::None, Cell::Number);
        let [input, read, write_5m, write_1h, input_audio, output, reasoning, output_audio, tools] = match &entry.usage
        {
            Some(usage) => counts(usage).map(|count| Cell::Number(i64::try_from(count).unwrap_or(i64::MAX))),
            None => [const { Cell::None }; 9],
        };
        let cells = [
            Cell::Text(r.call.as_str().into()),
            Cell::Number(r.attempt.into()),
            Cell::Text(r.at.to_string().into()),
            entry.ended.map_or(Cell::None, |ended| Cell::Text(ended.to_string().into())),
            Cell::Text(entry.state.name().into()),
            text(r.key.as_deref()),
            Cell::Tags(entry),
            text(r.model.as_deref()),
            Cell::Text((&*r.provider).into()),
            text(r.upstream_model.as_deref()),
            Cell::Text((&*r.operation).into()),
            Cell::Truth(r.stream),
            number(entry.status.map(i64::from)),
            text(entry.outcome.as_deref()),
            Cell::Truth(entry.answered),
            input,
            read,
            write_5m,
            write_1h,
            input_audio,
            output,
            reasoning,
            output_audio,
            tools,
            Cell::Number(entry.images.into()),
            Cell::Number(entry.searches.into()),
            text(entry.service_tier.as_deref()),
            number(entry.cost.map(|cost| cost.0)),
            Cell::Truth(entry.estimated),
            number(r.hold.map(|hold| hold.0)),
            text(r.price_version.as_deref()),
            // more digits than a spreadsheet or JavaScript keeps
            entry.tariff.map_or(Cell::None, |tariff| Cell::Text(format!("{tariff:016x}").into())),
            number(entry.first_token_ms.map(i64::from)),
            number(entry.duration_ms.map(i64::from)),
        ];
        let mut names = HEADER.into_iter();
        Line(cells.map(|cell| (names.next().unwrap_or_default(), cell)))
    }

    fn csv(&self, out: &mut String) {
        for (index, (_, cell)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            match cell {
                Cell::Text(text) => quoted(text, out),
                Cell::Number(number) => out.push_str(&number.to_string()),
                Cell::Truth(truth) => out.push_str(if *truth { "true" } else { "false" }),
                Cell::Tags(entry) if entry.reservation.tags.is_empty() => {}
                Cell::Tags(entry) => quoted(&serde_json::to_string(&Tags(entry)).unwrap_or_default(), out),
                Cell::None => {}
            }
        }
        out.push_str("\r\n");
    }
}

/// A text as a cell of CSV: in quotes where the text would be misread without. A text that a spreadsheet would take for a formula gets an apostrophe in front: names and
/// tags come from strangers.
pub fn quoted(text: &str, out: &mut String) {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !formula && !text.contains([',', '"', '\r', '\n']) {
        out.push_str(text);
        return;
    }
    out.push('"');
    if formula {
        out.push('\'');
    }
    out.push_str(&text.replace('"', "\"\""));
    out.push('"');
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, cell) in &self.0 {
            match cell {
                Cell::Text(text) => map.serialize_entry(name, text)?,
                Cell::Number(number) => map.serialize_entry(name, number)?,
                Cell::Truth(truth) => map.serialize_entry(name, truth)?,
                Cell::Tags(entry) => map.serialize_entry(name, &Tags(entry))?,
                Cell::None => map.serialize_entry(name, &())?,
            }
        }
        map.end()
    }
}

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.reservation.tags.iter().map(|(name, value)| (&**name, &**value)))
    }
}
