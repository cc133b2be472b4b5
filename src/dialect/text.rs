//! How much a model has said in a frame, where nobody counts its tokens: the bytes of the strings that hold output, in whatever dialect. One pass,
//! without reading the JSON around them.

use memchr::{memchr, memchr2};

/// Members that hold what a model says, as text or as a tool call's arguments.
const OUTPUT: [&[u8]; 12] = [
    b"content",
    b"text",
    b"delta",
    b"arguments",
    b"partial_json",
    b"thinking",
    b"thought",
    b"reasoning",
    b"reasoning_content",
    b"refusal",
    b"input",
    b"transcript",
];

/// Bytes of output in a piece of JSON, as they are spelled there.
pub fn text_bytes(json: &[u8]) -> u64 {
    let (mut at, mut sum, mut is_output) = (0, 0u64, false);
    while let Some(opening) = json.get(at..).and_then(|rest| memchr(b'"', rest)).map(|found| at + found) {
        // a member's name counts for the value that follows it alone
        let between = json.get(at..opening).unwrap_or_default();
        let follows = is_output && between.trim_ascii() == b":";
        let Some(closing) = end_of_string(json, opening + 1) else { break };
        let string = json.get(opening + 1..closing).unwrap_or_default();
        if follows {
            sum += string.len() as u64;
            is_output = false;
        } else {
            is_output = OUTPUT.contains(&string);
        }
        at = closing + 1;
    }
    sum
}

fn end_of_string(json: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = at + memchr2(b'"', b'\\', json.get(at..)?)?;
        if json.get(found) == Some(&b'"') {
            return Some(found);
        }
        at = found + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_says_is_measured_in_every_dialect() {
        for (json, bytes) in [
            (
                r#"data: {"id":"x","choices":[{"delta":{"role":"assistant","content":"Hello"},"finish_reason":null}]}"#,
                5,
            ),
            (r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}"#, 9),
            (r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a\"b"}}"#, 4),
            (r#"{"type":"response.output_text.delta","item_id":"content","delta":"four"}"#, 4),
            (r#"{"candidates":[{"content":{"parts":[{"text":"ja"}],"role":"model"}}]}"#, 2),
            (r#"{"content":"","text":null,"x":"text"}"#, 0),
            (r#"{"content" : "spaced"}"#, 6),
            (r#"{"content":"cut o"#, 0),
            ("", 0),
        ] {
            assert_eq!(text_bytes(json.as_bytes()), bytes, "{json}");
        }
    }
}
