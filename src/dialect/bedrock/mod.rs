//! Bedrock Converse and ConverseStream, as providers speak it: requests are written, answers are read.
//!
//! Truth: botocore's service model of `bedrock-runtime` (2023-09-30) and the Amazon Bedrock User Guide. Signing, addresses and the model in
//! the path are the provider's business.

mod block;
mod citation;
mod error;
mod media;
mod message;
mod model;
mod part;
mod reasoning;
mod request;
mod response;
mod stream;
#[cfg(test)]
mod tests;
mod tool;
mod usage;
mod whole;

use crate::chat::{Issuer, Request, Response};
use crate::dialect::codec::{Abilities, Encoded, Manners, Origin, Outbound, Refusal, StreamDecoder, To};
use crate::dialect::frame::Framing;
use crate::json::{Node, Wrong};
use model::Family;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bedrock;

// === impl Bedrock ===

impl Outbound for Bedrock {
    fn abilities(&self, model: &str, _manners: &Manners) -> Abilities {
        Abilities {
            json_schema: Family::of(model).json_schema(),
            json_object: false,
            custom_tools: false,
            tool_name: 64,
            plain_names: true,
        }
    }

    fn encode_request(&self, request: &Request<'_>, to: &To<'_>) -> Encoded {
        request::encode(request, to)
    }

    fn decode_response<'a>(&self, reply: Node<'a>, from: &Origin<'_>) -> Result<Response<'a>, Wrong> {
        response::decode(reply, Issuer::of_bedrock_model(from.model))
    }

    fn framing(&self) -> Framing {
        Framing::EventStream
    }

    fn stream_decoder(&self, from: &Origin<'_>) -> Box<dyn StreamDecoder> {
        Box::new(stream::Decoder::new(Issuer::of_bedrock_model(from.model)))
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Refusal {
        error::decode(status, body)
    }
}
