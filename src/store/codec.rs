//! Records of the journal as bytes. Pure: knows neither files nor times.
//!
//! A record is its payload's length and CRC-32 (IEEE 802.3, as in zlib), each four bytes, little-endian, and the payload: a byte for the kind,
//! then the members in a fixed order, numbers as LEB128, texts with their length in front. What may be missing has a bit in a byte of flags.

use super::entry::{Entry, Reservation};
use crate::chat::Usage;
use crate::units::Tokens;

/// First bytes of a segment: the format and its version.
pub(super) const MAGIC: [u8; 8] = *b"TGJRNL\x00\x01";
/// No payload is larger.
pub(super) const LARGEST: usize = 1 << 20;
const HEADER: usize = 8;

const RESERVED: u8 = 1;
const SETTLED: u8 = 2;
const TARIFF: u8 = 3;
/// A reservation written again in a later segment, so that its first one can go. It says nothing new.
const CARRIED: u8 = 4;

/// A payload, read. It borrows from the segment's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Reserved(Row<'a>),
    Carried(Row<'a>),
    Settled(Row<'a>),
    Tariff { id: i64, rates: &'a str },
}

/// A row as it stands in the journal. Times are microseconds since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// The bytes of `at`, `attempt` and `call`: the row's name.
    pub slip: &'a [u8],
    pub at: i64,
    pub attempt: u32,
    pub call: &'a str,
    pub key: Option<&'a str>,
    pub model: Option<&'a str>,
    pub provider: &'a str,
    pub upstream_model: Option<&'a str>,
    pub operation: &'a str,
    pub stream: bool,
    pub hold: Option<i64>,
    pub price_version: Option<&'a str>,
    /// See [`tags`].
    pub tags: &'a [u8],
    pub settled: Option<Settled<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled<'a> {
    pub ended: i64,
    pub status: u16,
    pub outcome: &'a str,
    pub answered: bool,
    pub usage: Option<Usage>,
    pub service_tier: Option<&'a str>,
    pub images: u32,
    pub searches: u32,
    pub cost: Option<i64>,
    pub estimated: bool,
    pub tariff: Option<i64>,
    pub first_token_ms: Option<u32>,
    pub duration_ms: u32,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A whole record; behind it are `rest`.
    Whole { payload: &'a [u8], rest: &'a [u8] },
    /// The beginning of one.
    Partial,
    /// No record, or a spoiled one.
    Bad,
}

/// The payload is larger than [`LARGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

// === writing ===

pub(super) fn put_reservation(out: &mut Vec<u8>, reservation: &Reservation) -> Result<(), TooLarge> {
    framed(out, |out| {
        out.push(RESERVED);
        put_row(out, reservation);
    })
}

pub(super) fn put_settlement(out: &mut Vec<u8>, entry: &Entry, tariff: Option<i64>) -> Result<(), TooLarge> {
    framed(out, |out| {
        out.push(SETTLED);
        put_row(out, &entry.reservation);
        put_settled(out, entry, tariff);
    })
}

pub(super) fn put_tariff(out: &mut Vec<u8>, id: i64, rates: &str) -> Result<(), TooLarge> {
    framed(out, |out| {
        out.push(TARIFF);
        out.extend_from_slice(&id.to_le_bytes());
        put_text(out, rates);
    })
}

/// `payload`: of a reservation.
pub(super) fn put_carried(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), TooLarge> {
    framed(out, |out| {
        out.push(CARRIED);
        out.extend_from_slice(payload.get(1..).unwrap_or_default());
    })
}

fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooLarge> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    write(out);
    let payload = out.get(start + HEADER..).unwrap_or_default();
    let (length, crc) = (payload.len(), crc32fast::hash(payload));
    let fit = u32::try_from(length).ok().filter(|_| length <= LARGEST);
    match (fit, out.get_mut(start..).and_then(|record| record.first_chunk_mut::<HEADER>())) {
        (Some(length), Some(header)) => {
            let [a, b, c, d] = length.to_le_bytes();
            let [e, f, g, h] = crc.to_le_bytes();
            *header = [a, b, c, d, e, f, g, h];
            Ok(())
        }
        (None | Some(_), _) => {
            out.truncate(start);
            Err(TooLarge)
        }
    }
}

fn put_row(out: &mut Vec<u8>, r: &Reservation) {
    out.extend_from_slice(&r.at.as_microsecond().to_le_bytes());
    put_number(out, r.attempt.into());
    put_text(out, r.call.as_str());
    out.push(flags([
        r.key.is_some(),
        r.model.is_some(),
        r.upstream_model.is_some(),
        r.hold.is_some(),
        r.price_version.is_some(),
        r.stream,
        false,
        false,
    ]));
    put_some(out, r.key.as_deref());
    put_some(out, r.model.as_deref());
    put_text(out, &r.provider);
    put_some(out, r.upstream_model.as_deref());
    put_text(out, &r.operation);
    if let Some(hold) = r.hold {
        put_signed(out, hold.0);
    }
    put_some(out, r.price_version.as_deref());
    put_number(out, wide(r.tags.len()));
    for (name, value) in &r.tags {
        put_text(out, name);
        put_text(out, value);
    }
}

fn put_settled(out: &mut Vec<u8>, e: &Entry, tariff: Option<i64>) {
    out.extend_from_slice(&e.ended.as_microsecond().to_le_bytes());
    put_number(out, e.status.into());
    put_text(out, &e.outcome);
    out.push(flags([
        e.answered,
        e.usage.is_some(),
        e.service_tier.is_some(),
        e.cost.is_some(),
        e.estimated,
        tariff.is_some(),
        e.first_token_ms.is_some(),
        false,
    ]));
    if let Some(usage) = &e.usage {
        counts(usage).into_iter().for_each(|count| put_number(out, count));
    }
    put_some(out, e.service_tier.as_deref());
    put_number(out, e.images.into());
    put_number(out, e.searches.into());
    if let Some(cost) = e.cost {
        put_signed(out, cost.0);
    }
    if let Some(id) = tariff {
        out.extend_from_slice(&id.to_le_bytes());
    }
    if let Some(milliseconds) = e.first_token_ms {
        put_number(out, milliseconds.into());
    }
    put_number(out, e.duration_ms.into());
}

/// Every count of a usage, in the order of the journal and of the table's columns.
pub(super) fn counts(usage: &Usage) -> [u64; 9] {
    let Usage {
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        input_audio,
        output,
        reasoning,
        output_audio,
        server_tool_calls,
    } = usage;
    [
        input.0,
        cache_read.0,
        cache_write_5m.0,
        cache_write_1h.0,
        input_audio.0,
        output.0,
        reasoning.0,
        output_audio.0,
        u64::from(*server_tool_calls),
    ]
}

/// The other way round.
pub(super) fn usage_of(counts: [u64; 9]) -> Usage {
    let [
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        input_audio,
        output,
        reasoning,
        output_audio,
        server_tool_calls,
    ] = counts;
    Usage {
        input: Tokens(input),
        cache_read: Tokens(cache_read),
        cache_write_5m: Tokens(cache_write_5m),
        cache_write_1h: Tokens(cache_write_1h),
        input_audio: Tokens(input_audio),
        output: Tokens(output),
        reasoning: Tokens(reasoning),
        output_audio: Tokens(output_audio),
        server_tool_calls: u32::try_from(server_tool_calls).unwrap_or(u32::MAX),
    }
}

fn flags(bits: [bool; 8]) -> u8 {
    bits.into_iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(bit))
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Small magnitudes stay short (zigzag).
fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, u64::from_le_bytes(((number << 1) ^ (number >> 63)).to_le_bytes()));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, wide(text.len()));
    out.extend_from_slice(text.as_bytes());
}

fn put_some(out: &mut Vec<u8>, text: Option<&str>) {
    if let Some(text) = text {
        put_text(out, text);
    }
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

// === reading ===

/// The record that `bytes` begin with.
pub(super) fn frame(bytes: &[u8]) -> Frame<'_> {
    let Some((&[a, b, c, d, e, f, g, h], behind)) = bytes.split_first_chunk::<HEADER>() else { return Frame::Partial };
    let Ok(length) = usize::try_from(u32::from_le_bytes([a, b, c, d])) else { return Frame::Bad };
    if length == 0 || length > LARGEST {
        return Frame::Bad;
    }
    match behind.split_at_checked(length) {
        None => Frame::Partial,
        Some((payload, rest)) if crc32fast::hash(payload) == u32::from_le_bytes([e, f, g, h]) => {
            Frame::Whole { payload, rest }
        }
        Some(_) => Frame::Bad,
    }
}

/// `None`: not a payload that this program writes.
pub(super) fn record(payload: &[u8]) -> Option<Record<'_>> {
    let (&kind, rest) = payload.split_first()?;
    let mut bytes = Bytes(rest);
    let record = match kind {
        RESERVED => Record::Reserved(bytes.row()?),
        CARRIED => Record::Carried(bytes.row()?),
        SETTLED => {
            let row = bytes.row()?;
            Record::Settled(Row { settled: Some(bytes.settled()?), ..row })
        }
        TARIFF => Record::Tariff { id: bytes.fixed()?, rates: bytes.text()? },
        _ => return None,
    };
    bytes.0.is_empty().then_some(record)
}

/// The tags of [`Row::tags`].
pub(super) fn tags(bytes: &[u8]) -> Vec<(&str, &str)> {
    let mut bytes = Bytes(bytes);
    let count = bytes.number().unwrap_or(0);
    std::iter::from_fn(|| Some((bytes.text()?, bytes.text()?)))
        .take(usize::try_from(count).unwrap_or(usize::MAX))
        .collect()
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn row(&mut self) -> Option<Row<'a>> {
        let whole = self.0;
        let at = self.fixed()?;
        let attempt = self.small()?;
        let call = self.text()?;
        let slip = whole.get(..whole.len() - self.0.len())?;
        let [has_key, has_model, has_upstream, has_hold, has_version, stream, _, _] = self.flags()?;
        let key = self.some_text(has_key)?;
        let model = self.some_text(has_model)?;
        let provider = self.text()?;
        let upstream_model = self.some_text(has_upstream)?;
        let operation = self.text()?;
        let hold = if has_hold { Some(self.signed()?) } else { None };
        let price_version = self.some_text(has_version)?;
        let before = self.0;
        for _ in 0..self.number()? {
            self.text()?;
            self.text()?;
        }
        let tags = before.get(..before.len() - self.0.len())?;
        Some(Row {
            slip,
            at,
            attempt,
            call,
            key,
            model,
            provider,
            upstream_model,
            operation,
            stream,
            hold,
            price_version,
            tags,
            settled: None,
        })
    }

    fn settled(&mut self) -> Option<Settled<'a>> {
        let ended = self.fixed()?;
        let status = u16::try_from(self.number()?).ok()?;
        let outcome = self.text()?;
        let [answered, has_usage, has_tier, has_cost, estimated, has_tariff, has_first, _] = self.flags()?;
        let usage = if has_usage {
            let mut counts = [0; 9];
            for count in &mut counts {
                *count = self.number()?;
            }
            Some(usage_of(counts))
        } else {
            None
        };
        Some(Settled {
            ended,
            status,
            outcome,
            answered,
            usage,
            service_tier: self.some_text(has_tier)?,
            images: self.small()?,
            searches: self.small()?,
            cost: if has_cost { Some(self.signed()?) } else { None },
            estimated,
            tariff: if has_tariff { Some(self.fixed()?) } else { None },
            first_token_ms: if has_first { Some(self.small()?) } else { None },
            duration_ms: self.small()?,
        })
    }

    fn fixed(&mut self) -> Option<i64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(i64::from_le_bytes(*number))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        let half = i64::from_le_bytes((number >> 1).to_le_bytes());
        Some(if number & 1 == 0 { half } else { !half })
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// `Some(None)`: none is there, as told.
    fn some_text(&mut self, there: bool) -> Option<Option<&'a str>> {
        if there { self.text().map(Some) } else { Some(None) }
    }

    fn flags(&mut self) -> Option<[bool; 8]> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some([0, 1, 2, 3, 4, 5, 6, 7].map(|bit| byte >> bit & 1 == 1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::id::RequestId;
    use crate::units::NanoUsd;

    fn text() -> impl Strategy<Value = Arc<str>> {
        "\\PC{0,40}".prop_map(Arc::from)
    }

    fn some_text() -> impl Strategy<Value = Option<Arc<str>>> {
        prop_oneof![Just(None), text().prop_map(Some)]
    }

    fn moment() -> impl Strategy<Value = jiff::Timestamp> {
        (0i64..4_000_000_000_000_000).prop_map(|micros| jiff::Timestamp::from_microsecond(micros).unwrap())
    }

    prop_compose! {
        fn reservation()(
            call in "[a-z0-9-]{1,60}", attempt in any::<u32>(), at in moment(), key in some_text(),
            tags in prop::collection::vec((text(), text()), 0..5), model in some_text(), provider in text(),
            upstream_model in some_text(), operation in "[a-z_]{0,12}", stream in any::<bool>(),
            hold in any::<Option<i64>>(), price_version in some_text(),
        ) -> Reservation {
            Reservation {
                call: RequestId::from_client(call.as_bytes()).unwrap(), attempt, at, key, tags, model, provider,
                upstream_model, operation: operation.into(), stream, hold: hold.map(NanoUsd), price_version,
            }
        }
    }

    prop_compose! {
        fn entry()(
            reservation in reservation(), ended in moment(), status in any::<u16>(), outcome in "[a-z0-9_]{0,9}",
            bits in any::<[bool; 3]>(), counts in any::<([u64; 8], u32)>(), service_tier in some_text(),
            numbers in any::<[u32; 3]>(), cost in any::<Option<i64>>(), first_token_ms in any::<Option<u32>>(),
        ) -> Entry {
            let ([a, b, c, d, e, f, g, h], tools) = counts;
            let [answered, estimated, used] = bits;
            let [images, searches, duration_ms] = numbers;
            Entry {
                reservation, ended, status, outcome: outcome.into(), answered, estimated, service_tier, images, searches,
                usage: used.then(|| usage_of([a, b, c, d, e, f, g, h, tools.into()])),
                cost: cost.map(NanoUsd), rates: None, first_token_ms, duration_ms,
            }
        }
    }

    fn same(row: &Row<'_>, r: &Reservation) {
        assert_eq!((row.at, row.attempt, row.call), (r.at.as_microsecond(), r.attempt, r.call.as_str()));
        assert_eq!((row.key, row.model), (r.key.as_deref(), r.model.as_deref()));
        assert_eq!((row.provider, row.upstream_model), (&*r.provider, r.upstream_model.as_deref()));
        assert_eq!((row.operation, row.stream, row.hold), (&*r.operation, r.stream, r.hold.map(|h| h.0)));
        assert_eq!(row.price_version, r.price_version.as_deref());
        let told: Vec<(&str, &str)> = r.tags.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(tags(row.tags), told);
    }

    fn whole(bytes: &[u8]) -> (Record<'_>, &[u8]) {
        let Frame::Whole { payload, rest } = frame(bytes) else { panic!("no record") };
        (record(payload).unwrap(), rest)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(r in reservation(), e in entry(), tariff in any::<Option<i64>>(), rates in text()) {
            let mut bytes = Vec::new();
            put_reservation(&mut bytes, &r).unwrap();
            let reserved = bytes.get(HEADER..).unwrap().to_vec();
            put_tariff(&mut bytes, 7, &rates).unwrap();
            put_settlement(&mut bytes, &e, tariff).unwrap();
            put_carried(&mut bytes, &reserved).unwrap();

            let (Record::Reserved(row), rest) = whole(&bytes) else { panic!() };
            same(&row, &r);
            let (Record::Tariff { id: 7, rates: read }, rest) = whole(rest) else { panic!() };
            prop_assert_eq!(read, &*rates);
            let (Record::Settled(settled), rest) = whole(rest) else { panic!() };
            same(&settled, &e.reservation);
            let s = settled.settled.unwrap();
            prop_assert_eq!((s.ended, s.status, s.outcome), (e.ended.as_microsecond(), e.status, &*e.outcome));
            prop_assert_eq!((s.answered, s.estimated, s.usage), (e.answered, e.estimated, e.usage));
            prop_assert_eq!((s.service_tier, s.images, s.searches), (e.service_tier.as_deref(), e.images, e.searches));
            prop_assert_eq!((s.cost, s.tariff), (e.cost.map(|c| c.0), tariff));
            prop_assert_eq!((s.first_token_ms, s.duration_ms), (e.first_token_ms, e.duration_ms));
            let (Record::Carried(again), rest) = whole(rest) else { panic!() };
            prop_assert_eq!(again, row);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_record_torn_at_any_byte_is_no_record(e in entry()) {
            let mut bytes = Vec::new();
            put_settlement(&mut bytes, &e, None).unwrap();
            for length in 0..bytes.len() {
                prop_assert_eq!(frame(&bytes[..length]), Frame::Partial, "{}", length);
                // what a disk may leave behind a torn record
                let mut filled = bytes[..length].to_vec();
                filled.resize(bytes.len() + 64, 0);
                let other = matches!(frame(&filled), Frame::Whole { payload, .. } if payload != &bytes[HEADER..]);
                prop_assert!(!other, "{}", length);
            }
        }

        #[test]
        fn a_flipped_bit_is_found(e in entry(), bit in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            put_settlement(&mut bytes, &e, Some(1)).unwrap();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = frame(&bytes);
            let found = !matches!(read, Frame::Whole { .. });
            prop_assert!(found, "{:?}", read);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _read = (frame(&bytes), record(&bytes), tags(&bytes));
        }
    }

    #[test]
    fn what_is_too_large_leaves_nothing_behind() {
        let mut bytes = b"before".to_vec();
        assert_eq!(put_tariff(&mut bytes, 1, &"x".repeat(LARGEST)), Err(TooLarge));
        assert_eq!(bytes, b"before");
    }
}
