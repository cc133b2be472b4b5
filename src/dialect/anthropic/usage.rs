//! Usage as Anthropic reports it: cached input beside the rest, in a stream in two parts of which the later counts.
//!
//! Truth: Anthropic API reference, `Usage`; "Prompt caching" (the three kinds of input add up); "Compaction" (what a compaction used is
//! not in the totals, only in `iterations`).

use serde::Deserialize;

use crate::chat::{Losses, Usage};
use crate::json::{Object, Writer};
use crate::units::Tokens;

/// A `usage` object, as far as it went.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Reported {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation: Option<Written>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
    #[serde(default)]
    server_tool_use: Option<ServerTools>,
    #[serde(default)]
    iterations: Option<Vec<Iteration>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Written {
    #[serde(default)]
    ephemeral_5m_input_tokens: Option<u64>,
    #[serde(default)]
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct ServerTools {
    #[serde(default)]
    web_search_requests: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Iteration {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

// === impl Reported ===

impl Reported {
    /// `None`: not a usage object, or `null`.
    pub(super) fn read(json: &str) -> Option<Reported> {
        // serde reads arrays as structs too
        json.trim_start().starts_with('{').then(|| serde_json::from_str(json).ok())?
    }

    /// What a later event says replaces what an earlier one said.
    pub(super) fn merge(&mut self, later: Reported) {
        fn take<T>(place: &mut Option<T>, later: Option<T>) {
            if later.is_some() {
                *place = later;
            }
        }
        take(&mut self.input_tokens, later.input_tokens);
        take(&mut self.output_tokens, later.output_tokens);
        take(&mut self.cache_read_input_tokens, later.cache_read_input_tokens);
        take(&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        take(&mut self.cache_creation, later.cache_creation);
        take(&mut self.output_tokens_details, later.output_tokens_details);
        take(&mut self.server_tool_use, later.server_tool_use);
        take(&mut self.iterations, later.iterations);
    }

    /// `None`: it counts nothing.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.input_tokens.is_none() && self.output_tokens.is_none() {
            return None;
        }
        let split = self.cache_creation.unwrap_or_default();
        let hour = split.ephemeral_1h_input_tokens.unwrap_or(0);
        let five = split.ephemeral_5m_input_tokens.unwrap_or(0);
        let mut written = self.cache_creation_input_tokens.unwrap_or(hour.saturating_add(five));
        let mut read = self.cache_read_input_tokens.unwrap_or(0);
        let mut fresh = self.input_tokens.unwrap_or(0);
        let mut output = self.output_tokens.unwrap_or(0);
        let hour = hour.min(written);
        for counts in self.iterations.iter().flatten() {
            if counts.kind.as_deref() == Some("compaction") {
                fresh = fresh.saturating_add(counts.input_tokens.unwrap_or(0));
                output = output.saturating_add(counts.output_tokens.unwrap_or(0));
                read = read.saturating_add(counts.cache_read_input_tokens.unwrap_or(0));
                written = written.saturating_add(counts.cache_creation_input_tokens.unwrap_or(0));
            }
        }
        let tools = self.server_tool_use.unwrap_or_default();
        // what was fetched is billed by its tokens alone
        let calls = tools.web_search_requests.unwrap_or(0);
        let thought = self.output_tokens_details.and_then(|details| details.thinking_tokens).unwrap_or(0);
        Some(Usage {
            input: Tokens(fresh.saturating_add(read).saturating_add(written)),
            cache_read: Tokens(read),
            cache_write_5m: Tokens(written - hour),
            cache_write_1h: Tokens(hour),
            input_audio: Tokens(0),
            output: Tokens(output),
            reasoning: Tokens(thought.min(output)),
            output_audio: Tokens(0),
            server_tool_calls: u32::try_from(calls).unwrap_or(u32::MAX),
        })
    }
}

/// Which `usage` object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Of a whole answer, or of `message_start`.
    Whole,
    /// Of `message_delta`: what was cached is split only where it is not all of the usual term.
    Delta,
}

/// What of a usage has no word here.
pub(super) fn untold(usage: &Usage, losses: &mut Losses) {
    losses.untold(&[("usage.input_audio", usage.input_audio), ("usage.output_audio", usage.output_audio)]);
}

/// In Anthropic's convention: input without what was cached. `tier`: as the answer's `service_tier` says.
pub(super) fn write(w: &mut Writer<'_>, usage: Usage, tier: Option<&str>, form: Form) {
    let Usage {
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        input_audio: _, // booked, see `untold`
        output,
        reasoning,
        output_audio: _,
        server_tool_calls,
    } = usage;
    let written = cache_write_5m.0.saturating_add(cache_write_1h.0);
    w.object();
    w.name("input_tokens").number(input.0.saturating_sub(cache_read.0).saturating_sub(written));
    w.name("cache_creation_input_tokens").number(written);
    w.name("cache_read_input_tokens").number(cache_read.0);
    // the split has its place in `message_start`, but is not known yet there
    if form == Form::Whole || cache_write_1h.0 > 0 {
        w.name("cache_creation").object();
        w.name("ephemeral_5m_input_tokens").number(cache_write_5m.0);
        w.name("ephemeral_1h_input_tokens").number(cache_write_1h.0);
        w.end_object();
    }
    w.name("output_tokens").number(output.0);
    if reasoning.0 > 0 {
        w.name("output_tokens_details").object();
        w.name("thinking_tokens").number(reasoning.0);
        w.end_object();
    }
    if server_tool_calls > 0 {
        w.name("server_tool_use").object();
        w.name("web_search_requests").number(u64::from(server_tool_calls));
        w.name("web_fetch_requests").number(0);
        w.end_object();
    }
    if form == Form::Whole {
        w.string_if(
            "service_tier",
            match tier {
                Some("standard" | "default") => Some("standard"),
                Some("priority") => Some("priority"),
                Some("batch") => Some("batch"),
                _ => None,
            },
        );
    }
    w.end_object();
}

/// The usage of a whole reply.
pub fn of_reply(body: &[u8]) -> Option<Usage> {
    Reported::read(Object::scan(body).ok()?.get("usage")?)?.usage()
}

/// The usage in the last bytes of a reply too large to keep: the object behind the last `"usage":`, which stands behind the content.
pub fn of_tail(tail: &[u8]) -> Option<Usage> {
    const NAME: &[u8] = b"\"usage\"";
    let rest = tail.get(memchr::memmem::rfind(tail, NAME)? + NAME.len()..)?.trim_ascii_start().strip_prefix(b":")?;
    let rest = rest.trim_ascii_start();
    if !rest.starts_with(b"{") {
        return None;
    }
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Reported>();
    values.next()?.ok()?.usage()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str) -> Usage {
        Reported::read(json).unwrap().usage().unwrap()
    }

    #[test]
    fn cached_input_is_part_of_the_input() {
        let read = usage(
            r#"{"input_tokens":4,"cache_creation_input_tokens":30,"cache_read_input_tokens":200,
                "cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"output_tokens":7,
                "output_tokens_details":{"thinking_tokens":3},"server_tool_use":{"web_search_requests":2,"web_fetch_requests":1},
                "service_tier":"standard"}"#,
        );
        assert_eq!(
            read,
            Usage {
                input: Tokens(234),
                cache_read: Tokens(200),
                cache_write_5m: Tokens(10),
                cache_write_1h: Tokens(20),
                output: Tokens(7),
                reasoning: Tokens(3),
                server_tool_calls: 2,
                ..Usage::default()
            }
        );
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out), read, Some("default"), Form::Whole);
        assert_eq!(usage(std::str::from_utf8(&out).unwrap()), read);
        assert!(String::from_utf8(out).unwrap().contains(r#""input_tokens":4,"#));
    }

    #[test]
    fn later_counts_win_and_missing_ones_stay() {
        let mut reported = Reported::read(
            r#"{"input_tokens":10,"cache_creation_input_tokens":6,"cache_creation":{"ephemeral_1h_input_tokens":6},"output_tokens":1}"#,
        )
        .unwrap();
        reported
            .merge(Reported::read(r#"{"output_tokens":20,"cache_read_input_tokens":3,"input_tokens":null}"#).unwrap());
        let usage = reported.usage().unwrap();
        assert_eq!((usage.input, usage.output, usage.cache_write_1h), (Tokens(19), Tokens(20), Tokens(6)));
    }

    #[test]
    fn what_a_compaction_used_is_added() {
        let usage = usage(
            r#"{"input_tokens":10,"output_tokens":5,"iterations":[
                {"type":"compaction","input_tokens":100,"output_tokens":50},{"type":"message","input_tokens":10,"output_tokens":5}]}"#,
        );
        assert_eq!((usage.input, usage.output), (Tokens(110), Tokens(55)));
    }

    #[test]
    fn a_reply_is_read_whole_or_from_its_tail() {
        let reply = br#"{"content":[{"type":"text","text":"say \"usage\": 1"}],"usage" : {"input_tokens":3,"output_tokens":4} , "x":1}"#;
        assert_eq!(of_reply(reply), of_tail(&reply[20..]));
        assert_eq!(of_reply(reply).map(|u| (u.input, u.output)), Some((Tokens(3), Tokens(4))));
        for odd in [&b"no such thing"[..], b"\"usage\"", b"\"usage\":null}", b"\"usage\":{}", b"\"usage\":[1]"] {
            assert_eq!(of_tail(odd), None);
        }
    }
}
