//! Usage as the OpenAI dialect reports it, in a whole reply or in one event; and as it is written for chat completions.
//!
//! Truth: OpenAI API reference, `CompletionUsage` and `ResponseUsage`. Vendors' own spellings are read where their replies showed them.

use crate::chat::Usage;
use crate::json::{Members, Node, Object, Writer};
use crate::units::Tokens;

/// The members of a `usage` object that [`take`] understands, but for the details.
const KNOWN: [&str; 14] = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_cache_hit_tokens",
    "prompt_cache_miss_tokens",
    "cached_tokens",
    "num_cached_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "reasoning_tokens",
    "audio_prompt_tokens",
];

/// What we read of the details; another member there that is not zero keeps the whole object.
const KNOWN_DETAILS: [&str; 5] =
    ["cached_tokens", "audio_tokens", "reasoning_tokens", "cache_write_tokens", "text_tokens"];

/// The usage in a `usage` object's text. `None` when it is `null` or not one we understand.
pub fn read(usage: &str) -> Option<Usage> {
    of_members(Node::parse_reply(usage.as_bytes()).ok()?.as_object()?)
}

/// The usage of chat completions (`prompt_tokens`), responses (`input_tokens`) or embeddings, in one shape: the names never meet.
pub fn of_members(usage: &Members<'_>) -> Option<Usage> {
    let number = |name: &str| usage.get(name).and_then(Node::as_u64);
    let first = |names: &[&str]| names.iter().find_map(|name| number(name));
    let details = |names: [&str; 2]| names.iter().find_map(|name| usage.get(name)?.as_object());
    let of_input = details(["prompt_tokens_details", "input_tokens_details"]);
    let of_output = details(["completion_tokens_details", "output_tokens_details"]);
    let within = |object: Option<&Members<'_>>, name: &str| object?.get(name).and_then(Node::as_u64);

    let input = first(&["prompt_tokens", "input_tokens"])?;
    let mut output = first(&["completion_tokens", "output_tokens"]).unwrap_or(0);
    let mut reasoning = within(of_output, "reasoning_tokens").or(number("reasoning_tokens")).unwrap_or(0);
    // xAI counts reasoning beside the output, Google's compatible endpoint hides it: the total tells
    let beside = number("total_tokens").unwrap_or(0).saturating_sub(input.saturating_add(output));
    if beside > 0 && (reasoning == 0 || reasoning == beside) {
        reasoning = beside;
        output = output.saturating_add(beside);
    }
    let cached = within(of_input, "cached_tokens")
        .or_else(|| {
            first(&["prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens", "cache_read_input_tokens"])
        })
        .unwrap_or(0)
        .min(input);
    let terms = usage.get("cache_creation").and_then(Node::as_object);
    let hour = within(terms, "ephemeral_1h_input_tokens").unwrap_or(0).min(input - cached);
    let written = within(of_input, "cache_write_tokens").or_else(|| number("cache_creation_input_tokens")).unwrap_or(0);
    let audio = within(of_input, "audio_tokens").or_else(|| number("audio_prompt_tokens")).unwrap_or(0);
    Some(Usage {
        input: Tokens(input),
        cache_read: Tokens(cached),
        cache_write_5m: Tokens(written.saturating_sub(hour).min(input - cached - hour)),
        cache_write_1h: Tokens(hour),
        input_audio: Tokens(audio.min(input)),
        output: Tokens(output),
        // some vendors report more reasoning than output; the invariant holds for what we keep
        reasoning: Tokens(reasoning.min(output)),
        output_audio: Tokens(within(of_output, "audio_tokens").unwrap_or(0).min(output)),
        server_tool_calls: server_tool_calls(usage),
    })
}

fn server_tool_calls(usage: &Members<'_>) -> u32 {
    let searches = ["server_tool_use_details", "server_tool_use"]
        .iter()
        .find_map(|name| usage.get(name)?.as_object()?.get("web_search_requests")?.as_u64());
    u32::try_from(searches.unwrap_or(0)).unwrap_or(u32::MAX)
}

/// The usage of a chat completion, and as a JSON object what of it [`write`] would not say (a price, a vendor's timings).
pub fn take(usage: Node<'_>) -> (Option<Usage>, Option<String>) {
    let Ok(members) = usage.object() else { return (None, None) };
    let read = of_members(&members);
    let mut rest = Vec::new();
    let mut w = Writer::new(&mut rest);
    w.object();
    let mut any = false;
    for (name, node) in members.iter().filter(|(name, node)| !KNOWN.contains(name) && !node.is_null()) {
        let told = name.ends_with("_tokens_details") && node.as_object().is_some_and(is_told);
        if !told {
            any = true;
            w.name(name).raw(node.raw);
        }
    }
    w.end_object();
    (read, any.then(|| String::from_utf8(rest).unwrap_or_default()))
}

fn is_told(details: &Members<'_>) -> bool {
    details.iter().all(|(name, node)| KNOWN_DETAILS.contains(&name) || node.as_u64() == Some(0) || node.is_null())
}

/// The `usage` object of a chat completion. `rest`: see [`take`].
pub fn write(w: &mut Writer<'_>, usage: &Usage, rest: Option<&str>) {
    let Usage {
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        input_audio,
        output,
        reasoning,
        output_audio,
        server_tool_calls,
    } = *usage;
    let rest = rest.and_then(|rest| Node::parse_reply(rest.as_bytes()).ok()?.object().ok()).unwrap_or_default();
    w.object();
    w.name("prompt_tokens").number(input.0);
    w.name("completion_tokens").number(output.0);
    w.name("total_tokens").number(input.0.saturating_add(output.0));
    if rest.get("prompt_tokens_details").is_none() {
        w.name("prompt_tokens_details").object();
        w.name("cached_tokens").number(cache_read.0);
        w.name("audio_tokens").number(input_audio.0);
        let written = cache_write_5m.0.saturating_add(cache_write_1h.0);
        w.number_if("cache_write_tokens", (written > 0).then_some(written));
        w.end_object();
    }
    if rest.get("completion_tokens_details").is_none() {
        w.name("completion_tokens_details").object();
        w.name("reasoning_tokens").number(reasoning.0);
        w.name("audio_tokens").number(output_audio.0);
        w.end_object();
    }
    if server_tool_calls > 0 && rest.get("server_tool_use_details").is_none() {
        w.name("server_tool_use_details").object();
        w.name("web_search_requests").number(server_tool_calls.into());
        w.end_object();
    }
    for (name, node) in rest.iter() {
        w.name(name).raw(node.raw);
    }
    w.end_object();
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
    let colon = rest.iter().position(|b| !b.is_ascii_whitespace()).filter(|p| rest.get(*p) == Some(&b':'))?;
    let mut values =
        serde_json::Deserializer::from_slice(rest.get(colon + 1..)?).into_iter::<&serde_json::value::RawValue>();
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
    fn vendors_spellings_are_read_and_the_parts_never_exceed_the_whole() {
        let deepseek =
            r#"{"prompt_tokens":10,"completion_tokens":2,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6}"#;
        assert_eq!(read(deepseek), usage(10, 4, 2, 0));
        let xai = r#"{"prompt_tokens":10,"completion_tokens":2,"total_tokens":19,"completion_tokens_details":{"reasoning_tokens":7}}"#;
        assert_eq!(read(xai), usage(10, 0, 9, 7));
        let google = r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#;
        assert_eq!(read(google), usage(35, 0, 74, 62));
        let written = r#"{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":6,"cache_write_tokens":9,"audio_tokens":99},
            "completion_tokens":1,"completion_tokens_details":{"audio_tokens":5},"cache_creation":{"ephemeral_1h_input_tokens":3}}"#;
        assert_eq!(
            read(written),
            Some(Usage {
                cache_write_5m: Tokens(1),
                cache_write_1h: Tokens(3),
                input_audio: Tokens(10),
                output_audio: Tokens(1),
                ..usage(10, 6, 1, 0).unwrap()
            })
        );
    }

    #[test]
    fn what_was_read_is_written_and_what_was_not_understood_beside_it() {
        let text = r#"{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,"cost":0.0001,
            "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0,"video_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":1,"audio_tokens":0,"accepted_prediction_tokens":1}}"#;
        let (read, rest) = take(Node::parse(text.as_bytes()).unwrap());
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out), &read.unwrap(), rest.as_deref());
        let (out, text): (serde_json::Value, serde_json::Value) =
            (serde_json::from_slice(&out).unwrap(), serde_json::from_str(text).unwrap());
        for name in ["prompt_tokens", "completion_tokens", "total_tokens", "cost", "completion_tokens_details"] {
            assert_eq!(out[name], text[name], "{name}");
        }
        assert_eq!(out["prompt_tokens_details"], serde_json::json!({"cached_tokens": 4, "audio_tokens": 0}));
    }

    #[test]
    fn a_reply_too_large_to_keep_is_read_from_its_tail() {
        let tail = br#"0.1,0.2]}],"model":"m","usage" : {"prompt_tokens":8,"total_tokens":8}}"#;
        assert_eq!(of_tail(tail), usage(8, 0, 0, 0));
        assert_eq!(of_tail(b"no such thing"), None);
        assert_eq!(of_tail(b"\"usage\""), None);
    }
}
