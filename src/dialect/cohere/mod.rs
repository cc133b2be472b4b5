//! Cohere's chat, version 2, as providers speak it: requests are written, answers are read.
//!
//! Truth: the Cohere API reference, "Chat (v2)", and the types of its Python SDK.

mod citation;
mod error;
mod message;
mod request;
mod response;
mod stream;
#[cfg(test)]
mod tests;
mod tool;

use crate::chat::{Request, Response};
use crate::dialect::codec::{Abilities, Encoded, Manners, Origin, Outbound, Refusal, StreamDecoder, To};
use crate::dialect::frame::Framing;
use crate::json::{Node, Wrong};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cohere;

// === impl Cohere ===

impl Outbound for Cohere {
    /// A schema does not go together with tools or documents: then the encoder books it.
    fn abilities(&self, _model: &str, _manners: &Manners) -> Abilities {
        Abilities { json_schema: true, json_object: true, custom_tools: false, tool_name: 64, plain_names: true }
    }

    fn encode_request(&self, request: &Request<'_>, to: &To<'_>) -> Encoded {
        request::encode(request, to)
    }

    fn decode_response<'a>(&self, reply: Node<'a>, _from: &Origin<'_>) -> Result<Response<'a>, Wrong> {
        response::decode(reply)
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn stream_decoder(&self, _from: &Origin<'_>) -> Box<dyn StreamDecoder> {
        Box::new(stream::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Refusal {
        error::decode(status, body)
    }
}
