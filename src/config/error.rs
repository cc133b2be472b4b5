//! What is wrong with a configuration, where, and what to write instead. Owns the wording's frame, not the words.
//!
//! A message never holds a secret: values are quoted only through `Quote`, which knows where a value came from.

use std::fmt;
use std::sync::Arc;

/// Line and column, counted from 1; both 0 when the fault has no place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// One fault. Shown as `conf.yaml:12:5: what is wrong: what to write`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub file: Arc<str>,
    pub place: Place,
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.place.line > 0 {
            write!(f, ":{}:{}", self.place.line, self.place.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Collects the faults of one load, so that all are told at once.
#[derive(Debug)]
pub(super) struct Faults {
    file: Arc<str>,
    found: Vec<Fault>,
    /// Those of other files that this one names.
    others: Vec<ConfigError>,
}

#[derive(Debug)]
struct Fault {
    place: Place,
    message: String,
    /// The entry at fault (`providers.openai`); empty for the top level.
    path: String,
    kind: FaultKind,
}

#[derive(Debug, PartialEq, Eq)]
enum FaultKind {
    /// Something is written wrongly.
    Wrong,
    /// Something is missing: perhaps only because what was written could not be read.
    Missing,
}

// === impl Faults ===

impl Faults {
    pub fn new(file: impl Into<Arc<str>>) -> Self {
        Faults { file: file.into(), found: Vec::new(), others: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.others.is_empty()
    }

    pub fn wrong(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) {
        self.add(place, path.into(), message.into(), FaultKind::Wrong);
    }

    /// A fault that is not told when something else under the same path could not be read.
    pub fn missing(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) {
        self.add(place, path.into(), message.into(), FaultKind::Missing);
    }

    /// Faults of another file, which are told behind those of this one.
    pub fn others(&mut self, errors: Vec<ConfigError>) {
        self.others.extend(errors);
    }

    fn add(&mut self, place: Place, path: String, message: String, kind: FaultKind) {
        // A path holds names as typed: nothing of them may move a terminal's cursor.
        let message = if message.chars().any(char::is_control) { message.escape_debug().to_string() } else { message };
        self.found.push(Fault { place, message, path, kind });
    }

    /// In the order of the file.
    pub fn into_errors(self) -> Vec<ConfigError> {
        let wrong: Vec<&str> =
            self.found.iter().filter(|f| f.kind == FaultKind::Wrong).map(|f| f.path.as_str()).collect();
        let mut errors: Vec<ConfigError> = self
            .found
            .iter()
            .filter(|f| f.kind == FaultKind::Wrong || !wrong.iter().any(|path| related(path, &f.path)))
            .map(|f| ConfigError { file: self.file.clone(), place: f.place, message: f.message.clone() })
            .collect();
        errors.sort_by_key(|error| error.place);
        errors.dedup();
        errors.extend(self.others);
        errors
    }
}

/// One path is the other, or holds it.
fn related(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.is_empty() || long == short || long.strip_prefix(short).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// `path.key`, for the paths of faults.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Quotes a text for an error: control characters escaped, cut at 80 characters.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{:?}...", text.get(..at).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// The candidate for a "did you mean", or `None` when none is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            let longest = candidate.chars().count().max(word.chars().count());
            *distance <= (longest / 3).max(1) && *distance < longest
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_thing_is_not_told_when_its_entry_could_not_be_read() {
        let mut faults = Faults::new("c.yaml");
        faults.wrong(Place { line: 3, column: 1 }, "providers.a", "unknown key \"apikey\"");
        faults.missing(Place { line: 2, column: 1 }, "providers.a", "no api_key");
        faults.missing(Place { line: 5, column: 1 }, "providers.ab", "no api_key");
        let shown: Vec<String> = faults.into_errors().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["c.yaml:3:1: unknown key \"apikey\"", "c.yaml:5:1: no api_key"]);
    }

    #[test]
    fn errors_come_in_the_order_of_the_file() {
        let mut faults = Faults::new("c.yaml");
        faults.wrong(Place { line: 9, column: 1 }, "b", "late");
        faults.wrong(Place { line: 2, column: 4 }, "a", "early");
        let lines: Vec<u32> = faults.into_errors().iter().map(|e| e.place.line).collect();
        assert_eq!(lines, [2, 9]);
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        assert_eq!(nearest("modles", ["models", "keys", "listen"]), Some("models"));
        assert_eq!(nearest("Timeout", ["timeouts", "keys"]), Some("timeouts"));
        assert_eq!(nearest("zzzz", ["models", "keys"]), None);
        assert_eq!(nearest("3", ["1", "2"]), None);
    }

    #[test]
    fn quoted_text_cannot_move_the_cursor_or_fill_the_screen() {
        assert_eq!(quote("a\x1b[2Jb\n"), r#""a\u{1b}[2Jb\n""#);
        assert!(quote(&"x".repeat(10_000)).len() < 100);
        let mut faults = Faults::new("c.yaml");
        faults.wrong(Place::default(), "", "providers.a\x1b[2J: odd");
        assert_eq!(faults.into_errors()[0].to_string(), "c.yaml: providers.a\\u{1b}[2J: odd");
    }
}
