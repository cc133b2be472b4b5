//! Usage as Gemini reports it (`usageMetadata`), in a whole reply, in an event, or in a reply's last bytes.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::chat::Usage;
use crate::units::Tokens;

/// The counts. Of the prompt's, the cached ones are part; results of the provider's tools and thoughts stand beside.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Reported {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    total_token_count: Option<u64>,
    prompt_tokens_details: Option<List<Audio>>,
    tool_use_prompt_tokens_details: Option<List<Audio>>,
    candidates_tokens_details: Option<List<Audio>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reply {
    usage_metadata: Option<Reported>,
    candidates: Option<List<Searches>>,
}

/// A list of which only a summary is kept, so that reading it allocates nothing.
#[derive(Debug, Default)]
pub(super) struct List<G>(pub G);

/// The summary.
pub(super) trait Gather: Default {
    type Item;
    fn add(&mut self, item: Self::Item);
}

/// Tokens of audio.
#[derive(Debug, Default)]
struct Audio(u64);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfModality {
    #[serde(default)]
    modality: Modality,
    #[serde(default)]
    token_count: Option<u64>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Modality {
    audio: bool,
}

/// Searches the provider ran; billed by their number.
#[derive(Debug, Default)]
struct Searches(u32);

#[derive(Deserialize)]
struct Searched {
    #[serde(default, rename = "groundingMetadata")]
    grounding: Option<Grounding>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Grounding {
    #[serde(default, rename = "webSearchQueries")]
    queries: Option<List<Queries>>,
}

#[derive(Debug, Default)]
struct Queries(u32);

/// Whether a text is there; it is not kept.
#[derive(Debug, Default)]
pub(super) struct Filled(pub bool);

// === reading ===

/// The usage in a `usageMetadata` object's text. `None` when it counts nothing.
pub fn read(usage: &str) -> Option<Usage> {
    serde_json::from_str::<Option<Reported>>(usage).ok()??.usage()
}

/// The usage of a whole reply; of a stream that came as one array, the last.
pub fn of_reply(body: &[u8]) -> Option<Usage> {
    let Ok(reply) = serde_json::from_slice::<Reply>(body) else { return of_tail(body) };
    let mut usage = reply.usage_metadata?.usage()?;
    usage.server_tool_calls = reply.candidates.map_or(0, |searches| searches.0.0);
    Some(usage)
}

/// The usage in the last bytes of a reply too large to keep.
pub fn of_tail(tail: &[u8]) -> Option<Usage> {
    const NAME: &[u8] = b"\"usageMetadata\"";
    let rest = tail.get(memchr::memmem::rfind(tail, NAME)? + NAME.len()..)?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(value).into_iter::<Reported>().next()?.ok()?.usage()
}

// === impl Reported ===

impl Reported {
    pub(super) fn usage(&self) -> Option<Usage> {
        let Reported {
            prompt_token_count,
            cached_content_token_count,
            tool_use_prompt_token_count,
            candidates_token_count,
            thoughts_token_count,
            total_token_count,
            prompt_tokens_details,
            tool_use_prompt_tokens_details,
            candidates_tokens_details,
        } = self;
        prompt_token_count.or(*candidates_token_count).or(*total_token_count)?;
        let count = |tokens: &Option<u64>| tokens.unwrap_or(0);
        let audio = |list: &Option<List<Audio>>| list.as_ref().map_or(0, |list| list.0.0);
        let input = count(prompt_token_count).saturating_add(count(tool_use_prompt_token_count));
        let reasoning = count(thoughts_token_count);
        let output = count(candidates_token_count).saturating_add(reasoning);
        let heard = audio(prompt_tokens_details).saturating_add(audio(tool_use_prompt_tokens_details));
        Some(Usage {
            input: Tokens(input),
            cache_read: Tokens(count(cached_content_token_count).min(input)),
            input_audio: Tokens(heard.min(input)),
            output: Tokens(output),
            reasoning: Tokens(reasoning),
            output_audio: Tokens(audio(candidates_tokens_details).min(output)),
            ..Usage::default()
        })
    }
}

// === impl Grounding ===

impl Grounding {
    pub(super) fn searches(&self) -> u32 {
        self.queries.as_ref().map_or(0, |queries| queries.0.0)
    }
}

// === impl List ===

impl<'de, G: Gather> Deserialize<'de> for List<G>
where
    G::Item: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each<G>(PhantomData<G>);
        impl<'de, G: Gather> Visitor<'de> for Each<G>
        where
            G::Item: Deserialize<'de>,
        {
            type Value = List<G>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<G>, A::Error> {
                let mut gathered = G::default();
                while let Some(item) = items.next_element()? {
                    gathered.add(item);
                }
                Ok(List(gathered))
            }
        }
        from.deserialize_seq(Each(PhantomData))
    }
}

impl Gather for Audio {
    type Item = OfModality;
    fn add(&mut self, item: OfModality) {
        if item.modality.audio {
            self.0 = self.0.saturating_add(item.token_count.unwrap_or(0));
        }
    }
}

impl Gather for Searches {
    type Item = Searched;
    fn add(&mut self, item: Searched) {
        self.0 = self.0.saturating_add(item.grounding.map_or(0, |grounding| grounding.searches()));
    }
}

impl Gather for Queries {
    type Item = Filled;
    fn add(&mut self, Filled(there): Filled) {
        self.0 = self.0.saturating_add(u32::from(there));
    }
}

// === impl Modality ===

impl<'de> Deserialize<'de> for Modality {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Modality;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a modality")
            }
            fn visit_str<E>(self, word: &str) -> Result<Modality, E> {
                Ok(Modality { audio: word == "AUDIO" })
            }
            fn visit_u64<E>(self, number: u64) -> Result<Modality, E> {
                Ok(Modality { audio: number == 4 })
            }
        }
        from.deserialize_any(Word)
    }
}

// === impl Filled ===

impl<'de> Deserialize<'de> for Filled {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw: &'de RawValue = Deserialize::deserialize(from)?;
        Ok(Filled(!matches!(raw.get(), "\"\"" | "null")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(usage: Usage) -> [u64; 6] {
        [usage.input, usage.cache_read, usage.input_audio, usage.output, usage.reasoning, usage.output_audio]
            .map(|t| t.0)
    }

    const GROUNDED: &str = r#"{"candidates":[{"groundingMetadata":{"webSearchQueries":["","a \"usageMetadata\" b"]}}],
        "usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":30,"totalTokenCount":222,"toolUsePromptTokenCount":73,
        "promptTokensDetails":[{"modality":"TEXT","tokenCount":6},{"modality":"AUDIO","tokenCount":4}],
        "cachedContentTokenCount":5,"thoughtsTokenCount":109,"candidatesTokensDetails":[{"modality":4,"tokenCount":2}],"x":{}}}"#;

    #[test]
    fn tools_results_are_input_and_thoughts_are_output() {
        let usage = of_reply(GROUNDED.as_bytes()).unwrap();
        assert_eq!(counts(usage), [83, 5, 4, 139, 109, 2]);
        assert_eq!(usage.server_tool_calls, 1);
    }

    #[test]
    fn the_last_bytes_are_enough() {
        let tail = &GROUNDED.as_bytes()[60..];
        assert_eq!(of_tail(tail).map(counts), Some([83, 5, 4, 139, 109, 2]));
        let array = format!("[{GROUNDED},\r\n{{\"usageMetadata\": {{\"promptTokenCount\":1}}}}]");
        assert_eq!(of_reply(array.as_bytes()).map(counts), Some([1, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn what_counts_nothing_is_no_usage() {
        assert_eq!(read("{}"), None);
        assert_eq!(read("null"), None);
        assert_eq!(of_reply(b"{\"candidates\":[]}"), None);
        assert_eq!(of_reply(b"<html>"), None);
        assert_eq!(of_tail(b"{\"usageMetadata\""), None);
    }
}
