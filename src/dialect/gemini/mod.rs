//! Gemini: `generateContent` and `streamGenerateContent`, as AI Studio and Vertex speak them.
//!
//! `decode` reads requests and answers into the bridge's words, `encode` writes them; `tap` and `usage` serve the splice lane, `error`
//! says our errors in Google's words and `refusal` reads Google's. Everything is read in both spellings of protobuf's JSON
//! (`inlineData`, `inline_data`), enums also by number where the number means one thing; written is the official one, `inlineData`.
//! It does not know paths, keys or regions: a model's name is all it is told.
//! Truth: ai.google.dev "Gemini API reference" (v1beta) and the discovery document of aiplatform v1.

mod decode;
mod encode;
pub mod error;
mod media_type;
mod model;
mod reason;
mod refusal;
mod schema;
pub mod tap;
pub mod usage;

#[cfg(test)]
mod tests;

use crate::chat::{Request, Response};
use crate::dialect::codec::{
    Abilities, Encoded, Inbound, Manners, Origin, Outbound, Refusal, ReplyTo, StreamDecoder, StreamEncoder, To,
};
use crate::dialect::frame::Framing;
use crate::json::{Node, Wrong};

/// The dialect, from both sides.
#[derive(Debug, Clone, Copy)]
pub struct Gemini;

/// How a call's id begins when the model gave none. It is written to no Gemini, which pairs by order then.
const NAMELESS: &str = "call_nth_";
/// Stands before what another dialect's redacted thinking is sealed with, so that it comes back as redacted.
const REDACTED: &str = "redacted:";

// === impl Gemini ===

impl Inbound for Gemini {
    fn decode_request<'a>(&self, body: Node<'a>) -> Result<Request<'a>, Wrong> {
        decode::request::decode(body)
    }

    fn encode_response(&self, response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
        encode::response::encode(response, to)
    }

    fn stream_encoder(&self, to: &ReplyTo<'_>) -> Box<dyn StreamEncoder> {
        Box::new(encode::stream::Encoder::new(to))
    }
}

impl Outbound for Gemini {
    fn abilities(&self, _model: &str, _manners: &Manners) -> Abilities {
        Abilities {
            json_schema: true,
            json_object: true,
            custom_tools: false,
            // "a maximum length of 128" at Vertex, 64 in AI Studio's reference
            tool_name: 64,
            plain_names: false,
        }
    }

    fn encode_request(&self, request: &Request<'_>, to: &To<'_>) -> Encoded {
        encode::request::encode(request, to)
    }

    fn decode_response<'a>(&self, reply: Node<'a>, _from: &Origin<'_>) -> Result<Response<'a>, Wrong> {
        decode::response::decode(reply)
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn stream_decoder(&self, _from: &Origin<'_>) -> Box<dyn StreamDecoder> {
        Box::new(decode::stream::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Refusal {
        refusal::decode(status, body)
    }
}
