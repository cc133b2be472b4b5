//! What is promised of the codec, on made-up words and on recorded traffic.

mod corpus;
mod reader;
mod request;
mod stream;

use bytes::Bytes;
use serde_json::Value;

use super::Cohere;
use crate::chat::{Dialect, Event, Fold, Losses, Request};
use crate::dialect::codec::{Garbled, Manners, Origin, Outbound, To};
use crate::dialect::frame::{Cutter, Framing};

const MODEL: &str = "command-a-03-2025";

fn encode(request: &Request<'_>, model: &str) -> (Value, Losses) {
    let manners = Manners::default();
    let encoded = Cohere.encode_request(request, &To { model, manners: &manners });
    (serde_json::from_slice(&encoded.body).expect("a body is JSON"), encoded.losses)
}

/// `how member` of each loss, in order.
fn booked(losses: &Losses) -> Vec<String> {
    losses.iter().map(|loss| format!("{} {}", loss.how.label(), loss.member).trim().to_owned()).collect()
}

/// What a stream in pieces says up to its first error, and the error.
fn run(pieces: &[&[u8]]) -> (Fold, Result<(), Garbled>) {
    let mut cutter = Cutter::new(Framing::Sse);
    let mut decoder = Cohere.stream_decoder(&Origin { model: MODEL });
    let mut fold = Fold::new(Dialect::Cohere);
    let mut see = |frame: crate::dialect::Frame<'_>| {
        let mut events = Vec::new();
        decoder.push(frame, &mut events)?;
        events.into_iter().for_each(|event| fold.push(event));
        Ok(())
    };
    let mut result = Ok(());
    for piece in pieces {
        result = result.and_then(|()| cutter.push(Bytes::copy_from_slice(piece), &mut see));
    }
    result = result.and_then(|()| cutter.finish(&mut see));
    let mut events: Vec<Event<'static>> = Vec::new();
    let result = result.and_then(|()| decoder.finish(&mut events));
    events.into_iter().for_each(|event| fold.push(event));
    (fold, result)
}
