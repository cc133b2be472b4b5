//! What can be asked of the ledger, and what comes back. Types only; the SQL is in [`super::report`] and [`super::export`].

use std::borrow::Cow;

use jiff::Timestamp;

use crate::units::NanoUsd;

/// Something rows can be told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// A row per attempt.
    Call,
    Model,
    Key,
    Team,
    Project,
    Agent,
    User,
    /// Any other tag.
    Tag(String),
    Provider,
    /// Days and hours of UTC.
    Day,
    Hour,
}

/// Rows whose `what` is this text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub what: Dimension,
    pub is: String,
}

/// Which rows: all conditions hold, and the attempt began in the period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// Included.
    pub from: Timestamp,
    /// Not included.
    pub to: Timestamp,
    pub filter: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spending {
    pub cost: NanoUsd,
    /// Rows it is the sum of.
    pub count: u64,
    /// Holds of attempts that are still running, here or in another process, as far as they are in the database.
    pub held: NanoUsd,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    pub by: Vec<Dimension>,
    pub period: Period,
    /// Rows at most, the dearest first.
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageRow {
    /// A text for each of the query's `by`, in its order; `None` where a row has none.
    pub by: Vec<Option<String>>,
    /// Calls whose first attempt is among these.
    pub calls: u64,
    pub attempts: u64,
    /// Attempts that were not the client's answer.
    pub failed: u64,
    /// Attempts whose numbers are ours.
    pub estimated: u64,
    /// Attempts that ended, and nobody knows what they cost.
    pub unpriced: u64,
    pub input_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_5m_tokens: u64,
    pub cache_write_1h_tokens: u64,
    pub input_audio_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub output_audio_tokens: u64,
    pub server_tool_calls: u64,
    pub images: u64,
    pub searches: u64,
    pub cost: NanoUsd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// With a header line (RFC 4180).
    Csv,
    /// An object a line.
    JsonLines,
}

// === impl Dimension ===

impl Dimension {
    /// `model`, `key`, `tag:NAME`, ... `None`: there is no such thing, or the tag's name is none.
    pub fn parse(text: &str) -> Option<Dimension> {
        Some(match text {
            "call" => Dimension::Call,
            "model" => Dimension::Model,
            "key" => Dimension::Key,
            "provider" => Dimension::Provider,
            "day" => Dimension::Day,
            "hour" => Dimension::Hour,
            _ => match text.strip_prefix("tag:") {
                Some(name) => {
                    let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
                    let known = (1..=64).contains(&name.len()) && name.bytes().all(fit);
                    return known.then(|| Dimension::tag(name));
                }
                None => return Some(Dimension::tag(text)).filter(|d| !matches!(d, Dimension::Tag(_))),
            },
        })
    }

    /// As it is read by [`Dimension::parse`].
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Dimension::Call => "call",
            Dimension::Model => "model",
            Dimension::Key => "key",
            Dimension::Team => "team",
            Dimension::Project => "project",
            Dimension::Agent => "agent",
            Dimension::User => "user",
            Dimension::Provider => "provider",
            Dimension::Day => "day",
            Dimension::Hour => "hour",
            Dimension::Tag(name) => return Cow::Owned(format!("tag:{name}")),
        })
    }

    /// A tag: the well-known ones have columns.
    pub fn tag(name: &str) -> Dimension {
        match name {
            "team" => Dimension::Team,
            "project" => Dimension::Project,
            "agent" => Dimension::Agent,
            "user" => Dimension::User,
            other => Dimension::Tag(other.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_read_as_people_type_them() {
        for (text, dimension) in [
            ("call", Some(Dimension::Call)),
            ("team", Some(Dimension::Team)),
            ("tag:team", Some(Dimension::Team)),
            ("tag:cost.center", Some(Dimension::Tag("cost.center".into()))),
            ("tag:", None),
            ("tag:a b", None),
            ("weather", None),
        ] {
            assert_eq!(Dimension::parse(text), dimension, "{text}");
            let again = dimension.as_ref().and_then(|dimension| Dimension::parse(&dimension.name()));
            assert_eq!(again, dimension, "{text}");
        }
    }
}
