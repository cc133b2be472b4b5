//! OpenAI chat completions, as clients speak it and as providers do, with what compatible vendors made of it.
//!
//! Requests: `request_in`, `turns_in`, `parts`, `tools_in` read, `request_out`, `turns_out`, `parts_out`, `tools_out` write. Answers:
//! `response_in`, `message_in` and `stream_in` read, `response_out` and `stream_out` write. What both sides share: `reasoning`, `finish`,
//! `annotations`, `rest`. Usage and errors are the whole grammar's: `openai::usage`, `openai::error`, `openai::refusal`.
//! Truth: OpenAI API reference, "Chat", and its OpenAPI description, 2.3.0; the vendors' own replies where they differ.

mod annotations;
mod finish;
mod message_in;
mod parts;
mod parts_out;
mod reasoning;
mod request_in;
mod request_out;
mod response_in;
mod response_out;
mod rest;
mod stream_audio;
mod stream_choice;
mod stream_in;
mod stream_out;
mod tools_in;
mod tools_out;
mod turns_in;
mod turns_out;

#[cfg(test)]
mod tests;

use crate::chat::{Request, Response};
use crate::dialect::{
    Abilities, Encoded, Framing, Inbound, Manners, Origin, Outbound, Refusal, ReplyTo, StreamDecoder, StreamEncoder, To,
};
use crate::json::{Node, Wrong};

/// The dialect.
#[derive(Debug, Clone, Copy)]
pub struct Chat;

impl Inbound for Chat {
    fn decode_request<'a>(&self, body: Node<'a>) -> Result<Request<'a>, Wrong> {
        request_in::read(body)
    }

    fn encode_response(&self, response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
        response_out::write(response, to)
    }

    fn stream_encoder(&self, to: &ReplyTo<'_>) -> Box<dyn StreamEncoder> {
        Box::new(stream_out::Encoder::new(to))
    }
}

impl Outbound for Chat {
    fn abilities(&self, _model: &str, manners: &Manners) -> Abilities {
        Abilities {
            json_schema: !manners.no_json_schema,
            json_object: true,
            // those who know the role know the tools: OpenAI itself, and Azure
            custom_tools: manners.developer_role,
            tool_name: 64,
            plain_names: true,
        }
    }

    fn encode_request(&self, request: &Request<'_>, to: &To<'_>) -> Encoded {
        request_out::write(request, to)
    }

    fn decode_response<'a>(&self, reply: Node<'a>, _from: &Origin<'_>) -> Result<Response<'a>, Wrong> {
        response_in::read(reply)
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn stream_decoder(&self, _from: &Origin<'_>) -> Box<dyn StreamDecoder> {
        Box::new(stream_in::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Refusal {
        super::refusal::decode_error(status, body)
    }
}
