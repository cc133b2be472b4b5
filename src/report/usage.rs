//! Sums of a period, told apart by what was asked for: as JSON and as CSV.

use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::usd;
use crate::store::query::{Dimension, Period, UsageQuery, UsageRow};
use crate::store::{Reader, StoreError, quoted};

/// Rows told at most.
const ROWS: u32 = 10_000;

#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    pub since: Timestamp,
    /// Not included.
    pub until: Timestamp,
    pub by: Vec<String>,
    /// The dearest first.
    pub rows: Vec<Row>,
    /// Of all rows, also of those that are left out.
    pub total: Row,
    /// There are more rows than are told.
    pub truncated: bool,
    /// Attempts that have ended and are not among these yet, since the database has not got them.
    pub behind: u64,
}

/// A map: what it is told apart by, then sums, then money.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    by: Vec<(String, Option<String>)>,
    sums: UsageRow,
}

/// `behind`: see [`Usage::behind`].
pub async fn usage(reader: &Reader, mut by: Vec<Dimension>, period: Period, behind: u64) -> Result<Usage, StoreError> {
    if by.as_slice() == [Dimension::Call] {
        // who and what: an id alone says nothing
        by.extend([Dimension::Key, Dimension::Model, Dimension::Provider]);
    }
    let names: Vec<String> = by.iter().map(|dimension| dimension.name().into_owned()).collect();
    let whole = UsageQuery { by: Vec::new(), period: period.clone(), limit: 1 };
    let total = reader.usage(&whole).await?.into_iter().next().unwrap_or_default();
    let found = reader.usage(&UsageQuery { by, period: period.clone(), limit: ROWS + 1 }).await?;
    let rows = usize::try_from(ROWS).unwrap_or(usize::MAX);
    let truncated = found.len() > rows;
    // without anything to tell rows apart by there is one, and it is the total
    let found = found.into_iter().take(rows).filter(|row| row.attempts > 0);
    Ok(Usage {
        since: period.from,
        until: period.to,
        rows: found.map(|row| Row::new(&names, row)).collect(),
        by: names,
        total: Row::new(&[], total),
        truncated,
        behind,
    })
}

// === impl Usage ===

impl Usage {
    /// With a header line (RFC 4180).
    pub fn csv(&self) -> String {
        let mut text = String::new();
        let sums = Row::new(&[], UsageRow::default());
        let names = self.by.iter().map(String::as_str);
        let names: Vec<&str> = names.chain(sums.counts().map(|(name, _)| name)).chain(["cost_usd"]).collect();
        for (n, name) in names.into_iter().chain(["cost_nano_usd"]).enumerate() {
            if n > 0 {
                text.push(',');
            }
            quoted(name, &mut text);
        }
        text.push_str("\r\n");
        for row in &self.rows {
            for (_, value) in &row.by {
                quoted(value.as_deref().unwrap_or_default(), &mut text);
                text.push(',');
            }
            for (_, count) in row.counts() {
                text.push_str(&format!("{count},"));
            }
            text.push_str(&format!("{},{}\r\n", usd(row.sums.cost), row.sums.cost.0));
        }
        text
    }
}

// === impl Row ===

impl Row {
    fn new(names: &[String], sums: UsageRow) -> Row {
        Row { by: names.iter().cloned().zip(sums.by.iter().cloned()).collect(), sums }
    }

    fn counts(&self) -> [(&'static str, u64); 16] {
        let s = &self.sums;
        [
            ("calls", s.calls),
            ("attempts", s.attempts),
            ("failed", s.failed),
            ("estimated", s.estimated),
            ("unpriced", s.unpriced),
            ("input_tokens", s.input_tokens),
            ("cache_read_tokens", s.cache_read_tokens),
            ("cache_write_5m_tokens", s.cache_write_5m_tokens),
            ("cache_write_1h_tokens", s.cache_write_1h_tokens),
            ("input_audio_tokens", s.input_audio_tokens),
            ("output_tokens", s.output_tokens),
            ("reasoning_tokens", s.reasoning_tokens),
            ("output_audio_tokens", s.output_audio_tokens),
            ("server_tool_calls", s.server_tool_calls),
            ("images", s.images),
            ("searches", s.searches),
        ]
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.by {
            map.serialize_entry(name, value)?;
        }
        for (name, count) in self.counts() {
            map.serialize_entry(name, &count)?;
        }
        map.serialize_entry("cost_usd", &usd(self.sums.cost))?;
        map.serialize_entry("cost_nano_usd", &self.sums.cost)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::NanoUsd;

    fn row() -> Row {
        let by = vec![Some("=1+1".to_owned()), None];
        let sums = UsageRow { by, calls: 2, output_tokens: 7, cost: NanoUsd(1_500_000_001), ..UsageRow::default() };
        Row::new(&["model".to_owned(), "key".to_owned()], sums)
    }

    #[test]
    fn a_row_is_a_map_with_money_to_its_last_digit() {
        let text = serde_json::to_string(&row()).unwrap();
        assert!(text.starts_with("{\"model\":\"=1+1\",\"key\":null,\"calls\":2,"), "{text}");
        assert!(text.ends_with("\"cost_usd\":\"1.500000001\",\"cost_nano_usd\":1500000001}"), "{text}");
    }

    #[test]
    fn a_table_has_as_many_names_as_values() {
        let time = Timestamp::UNIX_EPOCH;
        let by = vec!["model".to_owned(), "key".to_owned()];
        let usage =
            Usage { since: time, until: time, by, rows: vec![row()], total: row(), truncated: false, behind: 0 };
        let text = usage.csv();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), lines[1].len());
        assert_eq!((lines[0][0], lines[1][0], lines[1][1]), ("model", "\"'=1+1\"", ""));
        assert_eq!((lines[0][18], lines[1][18], lines[1][19]), ("cost_usd", "1.500000001", "1500000001"));
    }
}
