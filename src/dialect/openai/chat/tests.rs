//! The dialect against recorded traffic of every vendor, and against what no recording has.

mod corpus;
mod requests;
mod responses;
mod streams;

use std::path::PathBuf;

use serde_json::Value;

use super::Chat;
use crate::chat::{Fold, Losses, Request, Response};
use crate::dialect::sse::{Event as Sse, Frames};
use crate::dialect::{
    Frame, Garbled, Inbound, Manners, Origin, Outbound, ReplyTo, StreamDecoder, StreamForm, ThinkingForm, To,
};
use crate::error::Error;
use crate::json::Node;

pub(super) const REPLY: ReplyTo<'static> =
    ReplyTo { id: "call-1", model: "m", created: 7, stream_usage: true, form: StreamForm::Sse, echo: "" };

/// A vendor's manners, as the table of vendors will have them.
pub(super) fn manners(provider: &str) -> Manners {
    Manners {
        max_completion_tokens: matches!(provider, "openai" | "azure"),
        developer_role: matches!(provider, "openai" | "azure" | "openrouter"),
        cache_control: matches!(provider, "openrouter" | "vercel-gateway"),
        reasoning_object: matches!(provider, "openrouter" | "snowflake"),
        thinking: match provider {
            "mistral" => ThinkingForm::Parts,
            "gpustack" | "groq" => ThinkingForm::Reasoning,
            _ => ThinkingForm::ReasoningContent,
        },
        ..Manners::default()
    }
}

/// `None`, and a line said once for each test, when the corpus is not there.
pub(super) fn corpus() -> Option<PathBuf> {
    let path = std::env::var_os("TOLLGATE_CORPUS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    if !path.join("exchanges").is_dir() {
        println!("skipped: no corpus at {}", path.display());
        return None;
    }
    Some(path)
}

pub(super) fn sent(request: &Request<'_>, manners: &Manners) -> (Value, Losses) {
    let encoded = Chat.encode_request(request, &To { model: &request.model, manners });
    (serde_json::from_slice(&encoded.body).expect("JSON"), encoded.losses)
}

pub(super) fn request(text: &str) -> Request<'_> {
    Chat.decode_request(Node::parse(text.as_bytes()).expect("JSON")).expect("a request")
}

pub(super) fn response(text: &str) -> Response<'_> {
    Chat.decode_response(Node::parse_reply(text.as_bytes()).expect("JSON"), &Origin { model: "m" }).expect("a reply")
}

pub(super) fn replied(response: &Response<'_>) -> Value {
    serde_json::from_slice(&Chat.encode_response(response, &REPLY).body).expect("JSON")
}

/// A stream's bytes through the decoder, in chunks of `size`; its breaches of order fail the test.
pub(super) fn folded(stream: &[u8], size: usize) -> Result<(Response<'static>, Option<Error>), Garbled> {
    let mut fold = Fold::new(crate::chat::Dialect::OpenAiChat);
    decoded(stream, size, &mut |event| fold.push(event))?;
    assert_eq!(fold.faults, Vec::<String>::new());
    assert!(fold.ended || fold.error.is_some());
    let error = fold.error.take();
    Ok((fold.finish(), error))
}

/// Each event of a stream.
pub(super) fn decoded(stream: &[u8], size: usize, push: &mut dyn FnMut(crate::chat::Event<'_>)) -> Result<(), Garbled> {
    let mut decoder = Chat.stream_decoder(&Origin { model: "m" });
    let mut frames = Frames::default();
    for chunk in stream.chunks(size) {
        let mut ready = Vec::new();
        frames.push(bytes::Bytes::copy_from_slice(chunk), |frame| ready.push(frame)).expect("short frames");
        for frame in ready {
            one(&mut *decoder, &frame, push)?;
        }
    }
    one(&mut *decoder, &frames.finish(), push)?;
    let mut out = Vec::new();
    decoder.finish(&mut out)?;
    out.into_iter().for_each(push);
    Ok(())
}

fn one(
    decoder: &mut dyn StreamDecoder,
    frame: &[u8],
    push: &mut dyn FnMut(crate::chat::Event<'_>),
) -> Result<(), Garbled> {
    let event = Sse::read(frame);
    let Some(data) = &event.data else { return Ok(()) };
    let mut out = Vec::new();
    decoder.push(Frame { name: event.name, data, exception: false }, &mut out)?;
    out.into_iter().for_each(push);
    Ok(())
}

/// A stream decoded and written again for a client.
pub(super) fn relayed(stream: &[u8], to: &ReplyTo<'_>) -> (Vec<u8>, Losses) {
    let mut encoder = Chat.stream_encoder(to);
    let mut out = Vec::new();
    decoded(stream, stream.len().max(1), &mut |event| encoder.push(event, &mut out)).expect("a whole stream");
    (out, encoder.losses().clone())
}
