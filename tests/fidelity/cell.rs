//! What becomes of one feature between one client and one provider: found out from what arrived and what was booked.

use serde::Deserialize;
use tollgate::chat::{How, Loss, Losses};
use tollgate::json::Paths;

use crate::marks::{Hay, Mark};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// The client's dialect, or the provider's of an answer, has no such thing.
    Unsaid,
    Native,
    Mapped,
    Emulated,
    Given,
    Changed,
    Reported,
    Refused,
}

/// What stands for a feature where it arrives.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Arrival {
    Marks(Vec<Mark>),
    Given(#[expect(dead_code, reason = "for who reads the data")] Given),
}

/// Nothing has to be sent: it is so anyway, for this reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    #[expect(dead_code, reason = "for who reads the data")]
    given: String,
}

/// What was written, and the book kept of it.
pub struct Outcome<'o> {
    pub hay: &'o Hay,
    pub losses: &'o Losses,
    /// Beginnings of places whose losses are another feature's, where this one arrives.
    pub beside: &'o [String],
    /// Where the losses' places are.
    pub text: &'o [u8],
    pub adapted: bool,
    /// Client and provider speak the same dialect.
    pub same: bool,
}

// === impl Cell ===

impl Cell {
    pub const ALL: [Cell; 8] = [
        Cell::Native,
        Cell::Mapped,
        Cell::Emulated,
        Cell::Given,
        Cell::Changed,
        Cell::Reported,
        Cell::Refused,
        Cell::Unsaid,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Cell::Unsaid => "-",
            Cell::Native => "native",
            Cell::Mapped => "mapped",
            Cell::Emulated => "emulated",
            Cell::Given => "given",
            Cell::Changed => "changed",
            Cell::Reported => "reported",
            Cell::Refused => "refused",
        }
    }
}

/// `Err`: a silent loss, or a false alarm.
pub fn judge(arrival: &Arrival, outcome: &Outcome<'_>) -> Result<Cell, String> {
    let Outcome { hay, adapted, same, .. } = *outcome;
    let missing: Vec<&Mark> = match arrival {
        Arrival::Marks(marks) => marks.iter().filter(|mark| !hay.has(mark)).collect(),
        Arrival::Given(_) => Vec::new(),
    };
    // of what does not arrive, any loss may be the one that says so
    let outcome = &Outcome { beside: if missing.is_empty() { outcome.beside } else { &[] }, ..*outcome };
    let booked = |how: How| counted(outcome).any(|loss| loss.how == how);
    let given = matches!(arrival, Arrival::Given(_));
    let cell = match (missing.is_empty(), booked(How::Dropped), booked(How::Changed)) {
        _ if booked(How::Essential) => Cell::Refused,
        (true, true, _) if !given => return Err(format!("it arrives, but is booked as dropped: {}", book(outcome))),
        (false, false, false) => return Err(format!("lost in silence: {missing:?} is not in what is written")),
        (true, false, false) if given => Cell::Given,
        (true, false, false) if adapted => Cell::Emulated,
        (true, false, false) => Cell::Mapped,
        (_, true, _) => Cell::Reported,
        (_, false, true) => Cell::Changed,
    };
    // between the two the request is forwarded as it is: that a translation would book it says only what this one vendor is not told
    Ok(if same { Cell::Native } else { cell })
}

fn place(loss: &Loss, paths: &mut Paths<'_>) -> String {
    let place = paths.of(loss.at);
    let dot = if place.is_empty() || loss.member.is_empty() { "" } else { "." };
    format!("{place}{dot}{}", loss.member)
}

/// The losses of this feature.
fn counted<'o>(outcome: &'o Outcome<'_>) -> impl Iterator<Item = &'o Loss> {
    let mut paths = Paths::new(outcome.text);
    let beside = |place: &str| outcome.beside.iter().any(|one| place.starts_with(one.as_str()));
    outcome.losses.iter().filter(move |loss| !beside(&place(loss, &mut paths)))
}

/// As `x-tollgate-dropped` says it.
fn book(outcome: &Outcome<'_>) -> String {
    let mut paths = Paths::new(outcome.text);
    let places: Vec<String> =
        counted(outcome).map(|loss| format!("{}={}", place(loss, &mut paths), loss.how.label())).collect();
    places.join(", ")
}
