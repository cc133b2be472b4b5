//! OpenAI responses: `POST /v1/responses`, from both sides.
//!
//! A conversation is a list of items (messages, calls, results, reasoning) and so is the answer: one reader (`item`) serves requests,
//! replies and the stream's `output_item.done`. Owns nothing of the splice lane, whose tap is `openai::stream`.
//! Truth: the OpenAI API reference, "Responses", and its OpenAPI description 2.3.0; what vendors make of it, in recorded traffic.

mod citation;
mod content;
mod decode_request;
mod decode_response;
mod echo;
mod encode_request;
mod encode_response;
mod envelope;
mod error;
mod input;
mod item;
mod output;
mod seals;
mod stream_decoder;
mod stream_encoder;
mod stream_frames;
mod stream_items;
mod stream_parts;
mod tools;
mod turns;
mod usage;

#[cfg(test)]
mod tests;

use super::refusal;
use crate::chat::{Request, Response};
use crate::dialect::{
    Abilities, Encoded, Framing, Inbound, Manners, Origin, Outbound, Refusal, ReplyTo, StreamDecoder, StreamEncoder, To,
};
use crate::json::{Node, Wrong};

/// The codec.
#[derive(Debug, Clone, Copy)]
pub struct Responses;

// === impl Responses ===

impl Inbound for Responses {
    fn decode_request<'a>(&self, body: Node<'a>) -> Result<Request<'a>, Wrong> {
        decode_request::read(body)
    }

    fn echo(&self, request: &Request<'_>) -> String {
        echo::members(request)
    }

    fn encode_response(&self, response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
        encode_response::write(response, to)
    }

    fn stream_encoder(&self, to: &ReplyTo<'_>) -> Box<dyn StreamEncoder> {
        Box::new(stream_encoder::Encoder::new(to))
    }
}

impl Outbound for Responses {
    fn abilities(&self, _model: &str, _manners: &Manners) -> Abilities {
        // names: `FunctionToolParam` in the OpenAPI description
        Abilities { json_schema: true, json_object: true, custom_tools: true, tool_name: 128, plain_names: true }
    }

    fn encode_request(&self, request: &Request<'_>, to: &To<'_>) -> Encoded {
        encode_request::write(request, to)
    }

    fn decode_response<'a>(&self, reply: Node<'a>, from: &Origin<'_>) -> Result<Response<'a>, Wrong> {
        decode_response::read(reply, from)
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn stream_decoder(&self, _from: &Origin<'_>) -> Box<dyn StreamDecoder> {
        Box::new(stream_decoder::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Refusal {
        refusal::decode_error(status, body)
    }
}
