//! Usage as the OpenAI dialect reports it, in a whole reply or in one event.

use serde::Deserialize;

use crate::chat::Usage;
use crate::json::Object;
use crate::units::Tokens;

/// `usage` of chat completions (`prompt_tokens`), responses (`input_tokens`) and embeddings, in one shape: the names never meet.
#[derive(Deserialize)]
struct Reported {
    #[serde(default, alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(default, alias = "output_tokens")]
    completion_tokens: Option<u64>,
    #[serde(default, alias = "input_tokens_details")]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(default, alias = "output_tokens_details")]
    completion_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

/// The usage in a `usage` object's text. `None` when it is `null` or not one we understand.
pub fn read(usage: &str) -> Option<Usage> {
    let reported: Option<Reported> = serde_json::from_str(usage).ok()?;
    let reported = reported?;
    let input = reported.prompt_tokens?;
    let output = reported.completion_tokens.unwrap_or(0);
    let cached = reported.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0);
    let reasoning = reported.completion_tokens_details.and_then(|d| d.reasoning_tokens).unwrap_or(0);
    Some(Usage {
        input: Tokens(input),
        cache_read: Tokens(cached.min(input)),
        output: Tokens(output),
        // some vendors count reasoning beside the output instead of within it; the invariant holds for what we keep
        reasoning: Tokens(reasoning.min(output)),
        ..Usage::default()
    })
}

/// The usage of a whole reply.
pub fn of_reply(body: &[u8]) -> Option<Usage> {
    read(Object::scan(body).ok()?.get("usage")?)
}

/// The usage in the last bytes of a reply too large to keep: the object behind the last `"usage":`. Embeddings and chat
/// completions carry it near the end.
pub fn of_tail(tail: &[u8]) -> Option<Usage> {
    let at = memchr::memmem::rfind(tail, b"\"usage\"")?;
    let rest = tail.get(at + b"\"usage\"".len()..)?;
    let colon = rest.iter().position(|b| !b.is_ascii_whitespace()).filter(|p| rest[*p] == b':')?;
    let mut values =
        serde_json::Deserializer::from_slice(&rest[colon + 1..]).into_iter::<&serde_json::value::RawValue>();
    read(values.next()?.ok()?.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, cache_read: u64, output: u64, reasoning: u64) -> Option<Usage> {
        Some(Usage {
            input: Tokens(input),
            cache_read: Tokens(cache_read),
            output: Tokens(output),
            reasoning: Tokens(reasoning),
            ..Usage::default()
        })
    }

    #[test]
    fn every_shape_of_usage_is_read() {
        let chat = r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,
            "prompt_tokens_details":{"cached_tokens":5,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":3}}"#;
        assert_eq!(read(chat), usage(19, 5, 10, 3));
        let responses = r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":1},"output_tokens":87,
            "output_tokens_details":{"reasoning_tokens":2},"total_tokens":123}"#;
        assert_eq!(read(responses), usage(36, 1, 87, 2));
        assert_eq!(read(r#"{"prompt_tokens":8,"total_tokens":8}"#), usage(8, 0, 0, 0));
        assert_eq!(read(r#"{"prompt_tokens":8,"prompt_tokens_details":null}"#), usage(8, 0, 0, 0));
        assert_eq!(read("null"), None);
        assert_eq!(read("{}"), None);
        assert_eq!(read(r#"{"prompt_tokens":-1}"#), None);
    }

    #[test]
    fn a_reply_too_large_to_keep_is_read_from_its_tail() {
        let tail = br#"0.1,0.2]}],"model":"m","usage" : {"prompt_tokens":8,"total_tokens":8}}"#;
        assert_eq!(of_tail(tail), usage(8, 0, 0, 0));
        assert_eq!(of_tail(b"no such thing"), None);
        assert_eq!(of_tail(b"\"usage\""), None);
    }
}
