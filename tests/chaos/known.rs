//! Cells that are known to be wrong, each with the reason. One that is right again makes the test fail until it is taken out here.

use super::Cell;
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
    /// The provider speaks the client's dialect.
    Spliced,
    /// That, and the provider is one of these.
    Own(&'static [Family]),
}

const ALL: &[&str] = &["alone", "again", "group"];

const KNOWN: &[Known] = &[
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Whole),
        faults: &["an empty object"],
        why: "an object passes whatever is in it: the provider speaks the client's dialect",
    },
    Known {
        setups: ALL,
        who: Who::Own(&[Family::Responses, Family::Gemini]),
        mode: Some(Mode::Streamed),
        faults: &["an empty object"],
        why: "an object passes whatever is in it: the provider speaks the client's dialect",
    },
    Known {
        setups: ALL,
        who: Who::Own(&[Family::Chat, Family::Anthropic]),
        mode: Some(Mode::Streamed),
        faults: &["stops without its end mark"],
        why: "a stream that said why it stopped passes without its end mark: bytes are not added",
    },
    Known {
        setups: ALL,
        who: Who::Own(&[Family::Chat, Family::Anthropic]),
        mode: Some(Mode::Streamed),
        faults: &["ends without a finish"],
        why: "a stream that never says why it stopped passes",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Streamed),
        faults: &["finishes twice"],
        why: "what comes behind a finish passes, as long as the stream has not ended",
    },
    Known {
        setups: ALL,
        who: Who::Own(&[Family::Gemini]),
        mode: Some(Mode::Streamed),
        faults: &["an answer twice"],
        why: "what comes behind a finish passes, as long as the stream has not ended",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Streamed),
        faults: &["garbage behind some output", "no JSON behind some output", "not UTF-8 behind some output"],
        why: "events that nobody can read pass",
    },
    Known {
        setups: ALL,
        who: Who::Spliced,
        mode: Some(Mode::Whole),
        faults: &["an endless body that begins at once"],
        why: "an answer that is too large to be held is torn when it breaks off",
    },
    Known {
        setups: &["alone"],
        who: Who::Spliced,
        mode: None,
        faults: &["429 with an error of another form"],
        why: "an error passes in the provider's own form, which no SDK of the client's dialect may read",
    },
];

/// Why a cell is wrong, if that is known.
pub fn why(setup: &str, cell: &Cell) -> Option<&'static str> {
    let known = KNOWN.iter().find(|known| {
        let who = match known.who {
            Who::Spliced => cell.spliced(),
            Who::Own(families) => cell.spliced() && families.contains(&cell.family),
        };
        known.setups.contains(&setup)
            && who
            && known.mode.is_none_or(|mode| mode == cell.mode)
            && known.faults.contains(&&*cell.fault.name)
    });
    known.map(|known| known.why)
}
