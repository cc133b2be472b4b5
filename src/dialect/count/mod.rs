//! Counting the tokens of a conversation before it is sent: asked of a provider that can, estimated here where none can.
//!
//! A provider that counts is asked with the body its own dialect's encoder wrote, put into the question's frame ([`question`]). Truth:
//! Anthropic API reference, "Count tokens in a Message"; Gemini API reference and the service description `aiplatform.v1`, `countTokens`;
//! Amazon Bedrock's, `CountTokens`.

mod estimate;
#[cfg(test)]
mod tests;

use super::codec::{Garbled, To};
use super::operation::Operation;
use crate::json::{Node, Object, Writer, Wrong};
use crate::units::Tokens;

pub use estimate::{estimate, text, warm};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub tokens: Tokens,
    /// Not counted by who would answer: the caller is told.
    pub estimated: bool,
}

/// What of a messages body the question for its tokens may hold.
const MESSAGES: [&str; 13] = [
    "model",
    "anthropic_version",
    "anthropic_beta",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "cache_control",
    "output_config",
    "output_format",
    "mcp_servers",
    "context_management",
];

/// The same at Vertex, of a `generateContent` body.
const VERTEX_CONTENT: [&str; 4] = ["contents", "systemInstruction", "tools", "generationConfig"];

/// The same at Bedrock, of a Converse body.
const CONVERSE: [&str; 4] = ["messages", "system", "toolConfig", "additionalModelRequestFields"];

/// What of a client's question is the conversation, as the dialect's decoder reads it.
pub fn conversation(from: Operation, body: Node<'_>) -> Result<Node<'_>, Wrong> {
    if from != Operation::CountContentTokens || body.as_object().is_none_or(|m| m.get("contents").is_some()) {
        return Ok(body);
    }
    let at = body.at;
    let mut members = body.object()?;
    let inner = members.take("generateContentRequest").or_else(|| members.take("generate_content_request"));
    inner.ok_or(Wrong::new(at, "\"contents\" or \"generateContentRequest\" is missing"))
}

/// The operation by which a provider that offers `of` counts, if there is one.
pub fn counts(of: Operation) -> Option<Operation> {
    match of {
        Operation::Messages => Some(Operation::CountMessageTokens),
        Operation::GenerateContent => Some(Operation::CountContentTokens),
        Operation::Converse => Some(Operation::CountConverseTokens),
        _ => None,
    }
}

/// Ask for the tokens of a conversation that its dialect's encoder has written.
pub fn question(to: Operation, conversation: &[u8], whom: &To<'_>) -> Result<Vec<u8>, Garbled> {
    let whole = Object::scan(conversation)?;
    let mut body = Vec::with_capacity(conversation.len() + 64);
    let mut w = Writer::new(&mut body);
    let some = |w: &mut Writer<'_>, names: &[&str]| {
        for name in names {
            w.raw_if(name, whole.get(name));
        }
    };
    w.object();
    match to {
        Operation::CountMessageTokens => some(&mut w, &MESSAGES),
        Operation::CountConverseTokens => {
            w.name("input").object();
            w.name("converse").object();
            some(&mut w, &CONVERSE);
            w.end_object();
            w.end_object();
        }
        Operation::CountContentTokens if whom.manners.vertex => some(&mut w, &VERTEX_CONTENT),
        Operation::CountContentTokens => {
            w.name("generateContentRequest").object();
            let folder = if whom.model.contains('/') { "" } else { "models/" };
            w.name("model").strings(&[folder, whom.model]);
            for member in whole.members.iter().filter(|member| member.name != "model") {
                w.name(&member.name).raw(whole.text.get(member.value.clone()).unwrap_or("null"));
            }
            w.end_object();
        }
        _ => return Err(Garbled::new("not an operation that counts")),
    }
    w.end_object();
    Ok(body)
}

/// Read the answer of a provider that counted.
pub fn read_answer(of: Operation, reply: &[u8]) -> Result<Count, Garbled> {
    let name = match of {
        Operation::CountContentTokens => "totalTokens",
        Operation::CountConverseTokens => "inputTokens",
        _ => "input_tokens",
    };
    // an answer of zero is left out by Google's JSON
    let zero = (of == Operation::CountContentTokens).then_some(0);
    let tokens = Node::parse_reply(reply)?.object()?.take_u64(name)?.or(zero);
    let tokens = tokens.ok_or(Garbled::new("a count without tokens"))?;
    Ok(Count { tokens: Tokens(tokens), estimated: false })
}

/// Write a count for the client.
pub fn answer(from: Operation, count: Count) -> Vec<u8> {
    let name = match from {
        Operation::CountContentTokens => "totalTokens",
        Operation::CountConverseTokens => "inputTokens",
        _ => "input_tokens",
    };
    let Count { tokens, estimated: _ } = count; // stands in a header
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name(name).number(tokens.0);
    w.end_object();
    body
}
