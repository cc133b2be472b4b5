//! Cells that are known to be wrong, each with the reason. One that is right again makes the test fail until it is taken out here.

use super::Cell;
use super::client::Client;
use super::family::{Family, Mode};

/// Cells that are wrong for one reason.
struct Known {
    setups: &'static [&'static str],
    who: Who,
    /// `None`: both.
    mode: Option<Mode>,
    faults: &'static [&'static str],
    why: &'static str,
}

/// Which clients and providers.
enum Who {
    Any,
    /// The provider speaks the client's dialect.
    Spliced,
    /// That, and its streams have a mark at their end.
    Marked,
    /// That, and the provider is one of these.
    Own(&'static [Family]),
    /// These providers, asked by a client of chat completions.
    Asked(&'static [Family]),
}

const ALL: &[&str] = &["alone", "again", "group"];

const KNOWN: &[Known] = &[
    Known {
        setups: ALL,
        who: Who::Any,
        mode: None,
        faults: &["drips", "an endless line in its head"],
        why: "`first_byte` and `total` bound each read of the head, not all of them",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Whole),
        faults: &[
            "drips its body",
            "declares more than it sends, then closes",
            "declares more than it sends, then silence",
            "an endless body",
            "resets behind its head",
            "closes behind its head",
            "silence behind its head",
            "a chunk size that is no number",
            "a chunk larger than a u64",
            "a chunk of a negative size",
            "an endless chunk size",
            "a bad chunk behind some output",
            "a chunk without its line end",
            "resets in the middle of a chunk",
            "closes in the middle of a chunk",
            "silence in the middle of a chunk",
            "resets between two chunks",
            "closes between two chunks",
            "silence between two chunks",
            "resets in the middle of the first chunk",
            "closes in the middle of the first chunk",
            "silence in the middle of the first chunk",
            "closes without the last chunk",
            "resets without the last chunk",
            "silence without the last chunk",
        ],
        why: "the head goes out before the body is there: 200, and a torn body",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Whole),
        faults: &[
            "declares less than it sends",
            "ends with its connection, in the middle",
            "half a JSON",
            "a JSON and a half",
            "an empty answer",
            "spaces only",
            "null",
            "an array",
            "an empty object",
            "not UTF-8",
            "nested without end",
            "a page",
            "a byte order mark before JSON",
            "a stream for a whole answer",
        ],
        why: "what is no answer passes with status 200",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Streamed),
        faults: &[
            "half a JSON",
            "a JSON and a half",
            "an empty answer",
            "spaces only",
            "null",
            "an array",
            "an empty object",
            "not UTF-8",
            "nested without end",
            "a page",
            "a whole answer for a stream",
        ],
        why: "what is no stream passes with status 200",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: None,
        faults: &["an error with status 200"],
        why: "an error with status 200 passes as an answer, with the provider's address and credential in it",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: None,
        faults: &["a status of 999", "204", "205", "304", "302 to elsewhere"],
        why: "statuses that are neither an answer nor an error pass",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: None,
        faults: &["429 with an error of another form"],
        why: "an error of a form that no SDK of the client's dialect reads passes in the provider's words",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: None,
        faults: &["gzip that is none", "gzip that was not asked for"],
        why: "a content coding passes that nobody asked for",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: None,
        faults: &["no content type", "plain text for a type", "a content type of garbage"],
        why: "the provider's content type passes, or none",
    },
    Known {
        setups: ALL,
        who: Who::Asked(&[Family::Responses, Family::Gemini]),
        mode: None,
        faults: &["an empty object"],
        why: "an object without any member of an answer is an answer without text",
    },
    Known {
        setups: ALL,
        who: Who::Asked(&[Family::Responses]),
        mode: None,
        faults: &["an error with status 200"],
        why: "an object without any member of an answer is an answer without text",
    },
    Known {
        setups: ALL,
        who: Who::Marked,
        mode: Some(Mode::Streamed),
        faults: &[
            "declares more than it sends, then closes",
            "declares more than it sends, then silence",
            "closes without the last chunk",
            "resets without the last chunk",
            "silence without the last chunk",
        ],
        why: "an error event is written behind the end of a stream that had ended",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Streamed),
        faults: &["an error event, and never ends"],
        why: "a second error event is written behind the provider's",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Streamed),
        faults: &[
            "declares less than it sends",
            "an empty stream",
            "pings only",
            "opening and pings only",
            "opening and nothing more",
            "some output and nothing more",
            "the names of events only",
            "half an event",
            "half an event behind some output",
            "no blank line at the end",
        ],
        why: "a stream whose framing is whole and which has no end of its own passes without an error event",
    },
    Known {
        setups: ALL,
        who: Who::Marked,
        mode: Some(Mode::Streamed),
        faults: &["stops without its end mark"],
        why: "a stream whose framing is whole and which has no end of its own passes without an error event",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Streamed),
        faults: &[
            "garbage",
            "garbage behind some output",
            "no JSON in its first event",
            "no JSON behind some output",
            "an event of another form first",
            "not UTF-8 behind some output",
        ],
        why: "events that nobody can read pass",
    },
    Known {
        setups: ALL,
        who: Who::Marked,
        mode: Some(Mode::Streamed),
        faults: &["ends twice", "speaks on behind its end", "an error event behind its end"],
        why: "what comes behind the end passes",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Streamed),
        faults: &["finishes twice", "an answer twice"],
        why: "what comes behind the end passes",
    },
    Known {
        setups: ALL,
        who: Who::Own(&[Family::Chat, Family::Anthropic, Family::Gemini]),
        mode: Some(Mode::Streamed),
        faults: &["ends without a finish"],
        why: "a stream that never says why it stopped passes",
    },
];

/// Why a cell is wrong, if that is known.
pub fn why(setup: &str, cell: &Cell) -> Option<&'static str> {
    let known = KNOWN.iter().find(|known| {
        let who = match known.who {
            Who::Any => true,
            Who::Spliced => cell.spliced(),
            Who::Marked => cell.spliced() && cell.family != Family::Gemini,
            Who::Own(families) => cell.spliced() && families.contains(&cell.family),
            Who::Asked(families) => cell.client == Client::Chat && families.contains(&cell.family),
        };
        known.setups.contains(&setup)
            && who
            && known.mode.is_none_or(|mode| mode == cell.mode)
            && known.faults.contains(&&*cell.fault.name)
    });
    known.map(|known| known.why)
}
