//! What was appended, read again: records sorted into rows for the database and reservations that are still open. Knows no database.
//!
//! The writer follows the journal of its own process with it, and recovery reads those of dead ones.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::codec::{self, Frame, MAGIC, Record, Row};
use super::journal::Segment;

/// Read at once; some 700 calls.
const CHUNK: usize = 256 * 1024;

/// Reservations without their settlement, by the bytes of their names.
#[derive(Debug, Default)]
pub(super) struct Open {
    by_slip: HashMap<Box<[u8]>, Held, ahash::RandomState>,
    /// How many there are, by segment.
    by_segment: BTreeMap<u64, usize>,
    carried: Carried,
}

/// What a carried reservation is that is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Carried {
    /// In its own process: settled meanwhile.
    #[default]
    Settled,
    /// In what a dead process left: open, its first record is gone. Or settled meanwhile; the database knows then, and keeps the later state.
    Open,
}

#[derive(Debug)]
struct Held {
    /// The record's, as it stands in the journal.
    payload: Box<[u8]>,
    segment: u64,
    since: Instant,
    /// It is in the database already.
    shown: bool,
}

/// Records of some bytes.
#[derive(Debug, Default)]
pub(super) struct Sorted<'a> {
    /// Each row once.
    pub settled: Vec<Row<'a>>,
    /// Rows that are among the others already.
    pub again: Vec<Row<'a>>,
    pub tariffs: Vec<(i64, &'a str)>,
    /// So many of the bytes are whole records.
    pub length: usize,
    /// What follows is no record and never will be one.
    pub damaged: bool,
    /// Names of the settled ones.
    seen: HashSet<&'a [u8], ahash::RandomState>,
}

/// Where the reader of a journal is.
#[derive(Debug, Default)]
pub(super) struct Tail {
    segment: u64,
    /// Where the segment begins, in bytes appended since the start.
    base: u64,
    offset: u64,
    buffer: Vec<u8>,
}

/// The next bytes of a segment.
#[derive(Debug)]
pub(super) struct Chunk<'a> {
    pub segment: u64,
    pub bytes: &'a [u8],
    /// The reader was handed all that is written.
    pub last: bool,
}

// === impl Tail ===

impl Tail {
    /// What follows, if there is anything. `segments`: all that are there, oldest first.
    pub(super) fn next<'a>(&'a mut self, segments: &[Segment]) -> io::Result<Option<Chunk<'a>>> {
        let begin = u64::try_from(MAGIC.len()).unwrap_or_default();
        for segment in segments {
            if segment.number < self.segment {
                continue;
            }
            if segment.number > self.segment {
                (self.segment, self.base, self.offset) = (segment.number, segment.base, begin);
            }
            let left = usize::try_from(segment.length.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            if left == 0 {
                continue;
            }
            // a record may be larger than what is read at once
            let length = left.min(CHUNK.max(self.buffer.len()));
            self.buffer.resize(length, 0);
            segment.file.read_exact_at(&mut self.buffer, self.offset)?;
            let last = left == length && segments.last().is_some_and(|last| last.number == segment.number);
            return Ok(Some(Chunk { segment: segment.number, bytes: &self.buffer, last }));
        }
        Ok(None)
    }

    /// So many bytes of the chunk are done with. None: it held the beginning of one large record only.
    pub(super) fn advance(&mut self, length: usize) {
        self.offset += u64::try_from(length).unwrap_or_default();
        if length == 0 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        } else if self.buffer.len() > CHUNK {
            self.buffer = Vec::new();
        }
    }

    /// The rest of this segment cannot be read.
    pub(super) fn skip_segment(&mut self, segments: &[Segment]) {
        if let Some(segment) = segments.iter().find(|segment| segment.number == self.segment) {
            self.offset = segment.length;
        }
        self.buffer = Vec::new();
    }

    /// How far everything is read, in bytes appended since the start.
    pub(super) fn position(&self) -> u64 {
        self.base + self.offset
    }

    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

// === impl Open ===

impl Open {
    pub(super) fn new(carried: Carried) -> Self {
        Open { carried, ..Open::default() }
    }

    /// Sort the records of some bytes of a segment.
    pub(super) fn sort<'a>(&mut self, bytes: &'a [u8], segment: u64, now: Instant) -> Sorted<'a> {
        let mut sorted = Sorted::default();
        let mut rest = bytes;
        loop {
            match codec::frame(rest) {
                Frame::Whole { payload, rest: behind } => {
                    let Some(record) = codec::record(payload) else { break sorted.damaged = true };
                    self.take(record, payload, segment, now, &mut sorted);
                    rest = behind;
                }
                Frame::Partial => break,
                Frame::Bad => break sorted.damaged = true,
            }
        }
        sorted.length = bytes.len() - rest.len();
        sorted
    }

    fn take<'a>(&mut self, record: Record<'a>, payload: &[u8], segment: u64, now: Instant, sorted: &mut Sorted<'a>) {
        match record {
            Record::Reserved(row) => self.hold(row.slip, payload, segment, now),
            Record::Carried(row) => match (self.by_slip.get_mut(row.slip), self.carried) {
                (Some(held), _) => {
                    let before = std::mem::replace(&mut held.segment, segment);
                    self.count(before, segment);
                }
                (None, Carried::Open) => self.hold(row.slip, payload, segment, now),
                (None, Carried::Settled) => {}
            },
            Record::Settled(row) => {
                if let Some(held) = self.by_slip.remove(row.slip) {
                    self.leave(held.segment);
                }
                sorted.add(row);
            }
            Record::Tariff { id, rates } => sorted.tariffs.push((id, rates)),
        }
    }

    fn hold(&mut self, slip: &[u8], payload: &[u8], segment: u64, now: Instant) {
        let held = Held { payload: payload.into(), segment, since: now, shown: false };
        match self.by_slip.insert(slip.into(), held) {
            Some(before) => self.count(before.segment, segment),
            None => *self.by_segment.entry(segment).or_default() += 1,
        }
    }

    fn count(&mut self, from: u64, to: u64) {
        self.leave(from);
        *self.by_segment.entry(to).or_default() += 1;
    }

    fn leave(&mut self, segment: u64) {
        if let Some(count) = self.by_segment.get_mut(&segment) {
            *count -= 1;
            if *count == 0 {
                self.by_segment.remove(&segment);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_slip.len()
    }

    pub(super) fn in_segment(&self, segment: u64) -> usize {
        self.by_segment.get(&segment).copied().unwrap_or(0)
    }

    /// Their records, to be written again elsewhere.
    pub(super) fn payloads_in(&self, segment: u64) -> impl Iterator<Item = &[u8]> {
        self.by_slip.values().filter(move |held| held.segment == segment).map(|held| &*held.payload)
    }

    /// At most `limit` reservations that have lasted since before `then` and are not in the database.
    pub(super) fn lasting(&self, then: Instant, limit: usize) -> Vec<Row<'_>> {
        self.by_slip
            .values()
            .filter(|held| !held.shown && held.since <= then)
            .take(limit)
            .filter_map(Held::row)
            .collect()
    }

    pub(super) fn mark_shown(&mut self, then: Instant, limit: usize) {
        // in the same order as `lasting`, since nothing came between
        self.by_slip
            .values_mut()
            .filter(|held| !held.shown && held.since <= then)
            .take(limit)
            .for_each(|held| held.shown = true);
    }

    pub(super) fn all(&self) -> Vec<Row<'_>> {
        self.by_slip.values().filter_map(Held::row).collect()
    }
}

impl<'a> Sorted<'a> {
    /// No statement takes the same row twice. It may come twice: settled again, or under a name that a client chose.
    fn add(&mut self, row: Row<'a>) {
        if self.seen.insert(row.slip) {
            self.settled.push(row);
        } else {
            self.again.push(row);
        }
    }
}

impl Held {
    fn row(&self) -> Option<Row<'_>> {
        match codec::record(&self.payload)? {
            Record::Reserved(row) | Record::Carried(row) => Some(row),
            Record::Settled(_) | Record::Tariff { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::{put_reservation, put_settlement};
    use crate::store::tests::{entry, reservation};

    #[test]
    fn a_tail_torn_at_any_byte_costs_its_own_record_and_no_other() {
        let mut bytes = Vec::new();
        for n in 0..3 {
            put_reservation(&mut bytes, &reservation(n)).unwrap();
            put_settlement(&mut bytes, &entry(n), None).unwrap();
        }
        let whole = bytes.len();
        put_settlement(&mut bytes, &entry(3), None).unwrap();
        for length in whole..bytes.len() {
            for zeros in [0, 1000] {
                let mut torn = bytes[..length].to_vec();
                torn.resize(length + zeros, 0);
                let mut open = Open::default();
                let sorted = open.sort(&torn, 1, Instant::now());
                assert_eq!((sorted.settled.len(), sorted.length, open.len()), (3, whole, 0), "{length} {zeros}");
            }
        }
    }

    #[test]
    fn no_statement_gets_a_row_twice() {
        let mut bytes = Vec::new();
        for n in [1, 2, 1, 3, 3, 2] {
            put_reservation(&mut bytes, &reservation(n)).unwrap();
            put_settlement(&mut bytes, &entry(n), None).unwrap();
            put_settlement(&mut bytes, &entry(n), None).unwrap();
        }
        let mut open = Open::default();
        let sorted = open.sort(&bytes, 1, Instant::now());
        let names: HashSet<&[u8]> = sorted.settled.iter().map(|row| row.slip).collect();
        assert_eq!((names.len(), sorted.settled.len() + sorted.again.len()), (3, 12));
        assert_eq!(sorted.settled.len(), 3);
    }
}
