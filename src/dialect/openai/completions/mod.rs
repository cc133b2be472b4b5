//! Legacy completions for clients, carried to providers that have conversations only.
//!
//! A prompt is one turn of the user, the answer's text is the completion. Providers that have legacy completions themselves get them as
//! they are (splice). Truth: the OpenAI API reference and its OpenAPI description, 2.3.0, `CreateCompletionRequest` and
//! `CreateCompletionResponse`.

mod reply;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use crate::chat::{Losses, Request, Response};
use crate::dialect::codec::{Encoded, Inbound, ReplyTo, StreamEncoder};
use crate::json::{Node, Wrong};

/// The grammar of `/completions`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Completions;

impl Inbound for Completions {
    fn decode_request<'a>(&self, body: Node<'a>) -> Result<Request<'a>, Wrong> {
        request::read(body)
    }

    fn unsaid(&self, body: &Node<'_>) -> Losses {
        request::unsaid(body)
    }

    fn encode_response(&self, response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
        reply::encode(response, to)
    }

    fn stream_encoder(&self, to: &ReplyTo<'_>) -> Box<dyn StreamEncoder> {
        Box::new(stream::Encoder::new(to))
    }
}
