//! The most that a request can make a model use: an upper bound, for what is put aside before it is asked. Cheap: a search for words, and a walk
//! over the members of the body where one of them matters.

use memchr::memmem;

use super::needs::Body;
use crate::config::policy::Info;
use crate::dialect::Operation;
use crate::json::Object;
use crate::json::scan::unquote;
use crate::units::Tokens;

/// Of a model that nobody says a window or a longest answer of.
const WINDOW: u64 = 1_000_000;
const LONGEST: u64 = 128_000;
/// Calls of tools that a provider runs itself, where the request bounds them nowhere.
const SERVER_TOOL_CALLS: u32 = 16;
/// Choices that are believed.
const CHOICES: u64 = 128;

/// What a request can use at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Most {
    bytes: u64,
    /// Only a conversation has output.
    converses: bool,
    /// The output that the request itself allows of each choice, if it says so.
    pub asked: Option<Tokens>,
    pub choices: u32,
    /// As it stands in the request: `flex`, `priority`, ..
    pub service_tier: Option<Box<str>>,
    pub server_tool_calls: u32,
    /// It asks to stay in a region.
    pub regional: bool,
    pub cache_write: bool,
    pub cache_hour: bool,
    pub audio: bool,
    pub images: bool,
}

/// The most that a call with this body can make a model use.
pub fn most(operation: Operation, body: &[u8]) -> Most {
    let has = |word: &str| memmem::find(body, word.as_bytes()).is_some();
    let read = Body::new(operation, body);
    let asked = read.most_output();
    let members = (has("\"n\"") || has("\"best_of\"") || has("andidate") || has("\"service"))
        .then(|| Object::scan(body).ok())
        .flatten();
    let number = |object: &Object<'_>, name: &str| object.get(name)?.parse::<u64>().ok();
    let choices = members.as_ref().map_or(1, |object| {
        let of_gemini = ["generationConfig", "generation_config"].iter().find_map(|name| {
            let config = Object::scan(object.get(name)?.as_bytes()).ok()?;
            number(&config, "candidateCount").or_else(|| number(&config, "candidate_count"))
        });
        ["n", "best_of"].iter().filter_map(|name| number(object, name)).chain(of_gemini).max().unwrap_or(1)
    });
    let service_tier = members.as_ref().and_then(|object| {
        let text = object.get("service_tier").or_else(|| object.get("serviceTier"))?;
        unquote(text).map(|text| text.into_owned().into_boxed_str())
    });
    let server_tools = ["web_search", "google_search", "googleSearch", "file_search", "code_interpreter", "web_fetch"];
    Most {
        bytes: body.len() as u64,
        converses: read.is_conversation(),
        asked: (asked > 0).then_some(Tokens(asked)),
        choices: u32::try_from(choices.clamp(1, CHOICES)).unwrap_or(1),
        service_tier,
        server_tool_calls: if server_tools.iter().any(|tool| has(tool)) { SERVER_TOOL_CALLS } else { 0 },
        regional: has("\"inference_geo\""),
        cache_write: has("\"cache_control\"") || has("\"cachePoint\""),
        cache_hour: has("\"1h\""),
        audio: has("audio"),
        images: has("\"image") || has("nlineData") || has("nline_data"),
    }
}

// === impl Most ===

impl Most {
    /// No more tokens than bytes, nor than the model's window.
    pub fn input(&self, info: Info) -> Tokens {
        Tokens(self.bytes.min(info.context.unwrap_or(WINDOW)))
    }

    /// Of each choice.
    pub fn output(&self, info: Info) -> Tokens {
        let can = info.max_output.or(info.context).unwrap_or(LONGEST);
        if self.converses { self.asked.unwrap_or(Tokens(can)) } else { Tokens(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_may_use_is_bounded_by_its_words_and_its_model() {
        let info = Info { context: Some(128_000), max_output: Some(16_384), ..Info::default() };
        let of = |body: &str| most(Operation::ChatCompletions, body.as_bytes());
        let plain = of(r#"{"model":"m","messages":[]}"#);
        assert_eq!((plain.input(info), plain.output(info), plain.choices), (Tokens(27), Tokens(16_384), 1));
        assert!(!plain.audio && !plain.images && !plain.cache_write && plain.server_tool_calls == 0);
        let asked = of(r#"{"model":"m","max_tokens":7,"n":3,"service_tier":"flex","tools":[{"type":"web_search"}]}"#);
        assert_eq!((asked.output(info), asked.choices, asked.service_tier.as_deref()), (Tokens(7), 3, Some("flex")));
        assert_eq!(asked.server_tool_calls, 16);
        let gemini =
            most(Operation::GenerateContent, br#"{"generationConfig":{"candidateCount":2,"maxOutputTokens":9}}"#);
        assert_eq!((gemini.output(info), gemini.choices), (Tokens(9), 2));
        assert_eq!(most(Operation::Embeddings, b"{\"input\":\"x\"}").output(info), Tokens(0));
        // an endless prompt is no longer than the window
        assert_eq!(of(&format!("{{\"x\":\"{}\"}}", "x".repeat(200_000))).input(info), Tokens(128_000));
        assert_eq!(of(r#"{"n":99999999999}"#).choices, 128);
    }
}
