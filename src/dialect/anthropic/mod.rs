//! Anthropic messages, from both sides: what its clients send and read, what its providers take and say.
//!
//! Owns the grammar of `POST /v1/messages` (also Vertex's `rawPredict`, which leaves the model out of the body), its event stream, its
//! errors, and what its models are known to refuse (`model`). A request that was written in this dialect is written again as it was; the
//! rules in `turns` and `thinking` are for requests that come from another one. Paths, headers and keys are the provider's business.
//! Truth: Anthropic API reference, "Messages" and "Streaming messages" (platform.claude.com/docs), and the types of the official Python
//! SDK, 2.12; the recorded exchanges decide in doubt.

mod blocks_in;
mod blocks_out;
mod citation;
mod decode_request;
mod decode_response;
mod decode_stream;
mod encode_request;
mod encode_response;
mod encode_stream;
pub mod error;
mod leftover;
mod model;
mod queue;
mod refusal;
mod schema;
pub mod tap;
#[cfg(test)]
mod tests;
mod thinking;
mod tools_out;
mod turns;
pub mod usage;

use crate::chat::{Request, Response};
use crate::dialect::{
    Abilities, Encoded, Framing, Inbound, Manners, Origin, Outbound, Refusal, ReplyTo, StreamDecoder, StreamEncoder, To,
};
use crate::json::{Node, Wrong};

/// The dialect.
#[derive(Debug, Clone, Copy)]
pub struct Anthropic;

// === impl Anthropic ===

impl Inbound for Anthropic {
    fn decode_request<'a>(&self, body: Node<'a>) -> Result<Request<'a>, Wrong> {
        decode_request::request(body)
    }

    fn encode_response(&self, response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
        encode_response::response(response, to)
    }

    fn stream_encoder(&self, to: &ReplyTo<'_>) -> Box<dyn StreamEncoder> {
        Box::new(encode_stream::Encoder::new(to))
    }
}

impl Outbound for Anthropic {
    fn abilities(&self, model: &str, _manners: &Manners) -> Abilities {
        Abilities {
            json_schema: model::Model::of(model).is_some_and(model::Model::json_schema),
            json_object: false,
            custom_tools: false,
            tool_name: 128,
            plain_names: true,
        }
    }

    fn encode_request(&self, request: &Request<'_>, to: &To<'_>) -> Encoded {
        encode_request::request(request, to)
    }

    fn decode_response<'a>(&self, reply: Node<'a>, _from: &Origin<'_>) -> Result<Response<'a>, Wrong> {
        decode_response::response(reply)
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn stream_decoder(&self, _from: &Origin<'_>) -> Box<dyn StreamDecoder> {
        Box::new(decode_stream::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Refusal {
        refusal::read(status, body)
    }
}
