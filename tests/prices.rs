//! Recorded answers of real providers, counted and priced.
//!
//! Every recorded answer with usage is read by its dialect, whole or as a stream, and its tally is what the provider's own numbers say, taken out of
//! the recording here without a line of the program's. Some are priced by hand: tokens times the vendor's list price. Where a provider tells what
//! it charged, that is the judge. The collection is `TOLLGATE_CORPUS`, or `../shared/corpus` beside the project; without it only the arithmetic is
//! tested.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use bytes::Bytes;
use serde_json::Value;
use tollgate::chat::{Dialect, Event, Usage};
use tollgate::config::prices::{Prices, Seller};
use tollgate::config::tariff::{Place, Tariff};
use tollgate::dialect::frame::Cutter;
use tollgate::dialect::{Origin, outbound};
use tollgate::json::Node;
use tollgate::meter::{Used, Worst, cost, lines, worst};
use tollgate::units::{NanoUsd, PicoUsd, Tokens};

/// Input, of it read from a cache, written for five minutes, for an hour, audio; output, of it reasoning, audio.
type Numbers = [u64; 8];

struct Recorded {
    id: String,
    dialect: Dialect,
    /// The answer, or the events of its stream.
    told: Vec<Value>,
    reply: Reply,
}

enum Reply {
    Whole(Vec<u8>),
    Stream(Vec<u8>),
}

// === reading the corpus ===

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("TOLLGATE_CORPUS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let found = [named, Some(beside)].into_iter().flatten().map(|folder| folder.join("exchanges")).find(|f| f.is_dir());
    if found.is_none() {
        eprintln!("no corpus beside the project: nothing recorded is counted");
    }
    found
}

fn recorded() -> Vec<Recorded> {
    let Some(folder) = folder() else { return Vec::new() };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    paths.iter().filter_map(|path| exchange(path)).collect()
}

fn exchange(path: &Path) -> Option<Recorded> {
    let file: Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("a file of the corpus")).expect("JSON");
    let dialect = match file["api"].as_str()?.split_once('.')? {
        ("cohere", "chat") => Dialect::Cohere,
        ("bedrock", "converse" | "converse-stream") => Dialect::Bedrock,
        ("gemini", "generateContent" | "streamGenerateContent") => Dialect::Gemini,
        ("anthropic", "messages") | ("vertex", "anthropic-rawPredict") => Dialect::Anthropic,
        (_, "chat") => Dialect::OpenAiChat,
        (_, "responses") => Dialect::OpenAiResponses,
        _ => return None,
    };
    let response = &file["response"];
    if response["status"].as_u64()? >= 400 {
        return None;
    }
    let (told, reply) = if let Some(text) = response["body_text"].as_str() {
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        let told: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
        // a stream as an array is not how we ask
        if told.is_empty() {
            return None;
        }
        (told, Reply::Stream(text.as_bytes().to_vec()))
    } else if let Some(binary) = response["body_base64"].as_str() {
        let binary = base64::engine::general_purpose::STANDARD.decode(binary).expect("base64");
        (response["decoded_events"].as_array()?.clone(), Reply::Stream(binary))
    } else {
        let body = &response["body_json"];
        if !body.is_object() || (dialect == Dialect::Gemini && !body["candidates"].is_array()) {
            return None;
        }
        (vec![body.clone()], Reply::Whole(body.to_string().into_bytes()))
    };
    Some(Recorded { id: file["id"].as_str()?.to_owned(), dialect, told, reply })
}

/// What the program makes of it.
fn tally(recorded: &Recorded) -> Option<Usage> {
    let codec = outbound(recorded.dialect);
    let origin = Origin { model: "some-model" };
    match &recorded.reply {
        Reply::Whole(body) => {
            let node = Node::parse_reply(body).expect("recorded JSON");
            codec.decode_response(node, &origin).unwrap_or_else(|e| panic!("{}: {e:?}", recorded.id)).usage
        }
        Reply::Stream(body) => {
            let mut decoder = codec.stream_decoder(&origin);
            let mut cutter = Cutter::new(codec.framing());
            let mut usage = None;
            let mut note = |events: &[Event<'_>]| {
                let mut told =
                    events.iter().filter_map(|event| if let Event::Usage(u) = event { Some(*u) } else { None });
                usage = told.next_back().or(usage);
            };
            let mut each = |frame: tollgate::dialect::Frame<'_>| {
                let mut events = Vec::new();
                decoder.push(frame, &mut events).unwrap_or_else(|e| panic!("{}: {e:?}", recorded.id));
                note(&events);
            };
            let cut = cutter.push(Bytes::copy_from_slice(body), |frame| {
                each(frame);
                Ok(())
            });
            cut.expect("recorded frames are whole");
            let end = cutter.finish(|frame| {
                each(frame);
                Ok(())
            });
            end.expect("recorded streams are whole");
            let mut events = Vec::new();
            // one that broke off has told what it has told
            let _ = decoder.finish(&mut events);
            note(&events);
            usage
        }
    }
}

// === what the recordings say ===

/// The provider's own numbers, in one convention.
fn numbers(recorded: &Recorded) -> Option<Numbers> {
    match recorded.dialect {
        Dialect::OpenAiChat => {
            let mut usages = recorded.told.iter().flat_map(|event| [&event["usage"], &event["x_groq"]["usage"]]);
            openai(usages.rfind(|usage| usage["prompt_tokens"].is_u64())?)
        }
        Dialect::OpenAiResponses => {
            let mut usages = recorded.told.iter().flat_map(|event| [&event["usage"], &event["response"]["usage"]]);
            // in one recording others follow
            openai(usages.find(|usage| usage["input_tokens"].is_u64())?)
        }
        Dialect::Anthropic => anthropic(&recorded.told),
        Dialect::Gemini => gemini(&recorded.told),
        Dialect::Bedrock => {
            let of = |event: &Value| {
                let places = [&event["usage"], &event["metadata"]["usage"], &event["payload"]["usage"]];
                places.into_iter().find(|usage| usage["inputTokens"].is_u64()).cloned()
            };
            let usage = recorded.told.iter().rev().find_map(of)?;
            let hour = usage["cacheDetails"].as_array().into_iter().flatten().filter(|detail| detail["ttl"] == "1h");
            let hour: u64 = hour.map(|detail| count(detail, "inputTokens")).sum();
            let (read, written) = (count(&usage, "cacheReadInputTokens"), count(&usage, "cacheWriteInputTokens"));
            let input = count(&usage, "inputTokens") + read + written;
            Some([input, read, written - hour, hour, 0, count(&usage, "outputTokens"), 0, 0])
        }
        Dialect::Cohere => {
            let of = |event: &Value| {
                let places = [&event["usage"], &event["delta"]["usage"]];
                places.into_iter().find(|usage| usage["billed_units"].is_object()).cloned()
            };
            let usage = recorded.told.iter().rev().find_map(of)?;
            let billed = &usage["billed_units"];
            let (input, output) = (count(billed, "input_tokens"), count(billed, "output_tokens"));
            let reasoning = count(&usage["tokens"], "reasoning_tokens").min(output);
            Some([input, count(&usage, "cached_tokens").min(input), 0, 0, 0, output, reasoning, 0])
        }
    }
}

fn count(of: &Value, name: &str) -> u64 {
    // Cohere writes whole numbers as floats
    of[name].as_u64().or_else(|| of[name].as_f64().map(|n| n as u64)).unwrap_or(0)
}

fn openai(usage: &Value) -> Option<Numbers> {
    let either = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64());
    let detail = |names: [&str; 2], member: &str| names.iter().find_map(|name| usage[*name][member].as_u64());
    let (of_input, of_output) =
        (["prompt_tokens_details", "input_tokens_details"], ["completion_tokens_details", "output_tokens_details"]);
    let input = either(["prompt_tokens", "input_tokens"])?;
    let output = either(["completion_tokens", "output_tokens"]).unwrap_or(0);
    let cached = detail(of_input, "cached_tokens").unwrap_or(0);
    let beside = ["prompt_cache_hit_tokens", "num_cached_tokens", "cache_read_input_tokens"];
    let cached = cached.max(beside.iter().map(|name| count(usage, name)).max().unwrap_or(0)).min(input);
    let written = detail(of_input, "cache_write_tokens").unwrap_or(count(usage, "cache_creation_input_tokens"));
    let reasoning = detail(of_output, "reasoning_tokens").unwrap_or(count(usage, "reasoning_tokens"));
    // xAI and Gemini count reasoning beside the output; the total shows it
    let more = usage["total_tokens"].as_u64().unwrap_or(0).saturating_sub(input + output);
    let output = output + more;
    let heard = detail(of_input, "audio_tokens").unwrap_or(0).min(input);
    let said = detail(of_output, "audio_tokens").unwrap_or(0).min(output);
    Some([input, cached, written.min(input - cached), 0, heard, output, reasoning.max(more).min(output), said])
}

/// The usage of `message_start`, with what `message_delta` says laid over it.
fn anthropic(told: &[Value]) -> Option<Numbers> {
    let mut usage = serde_json::Map::new();
    for event in told {
        for place in [&event["message"]["usage"], &event["usage"]] {
            let members = place.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
            usage.extend(members.map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    let usage = Value::from(usage);
    usage["input_tokens"].as_u64()?;
    let (mut input, mut output) = (count(&usage, "input_tokens"), count(&usage, "output_tokens"));
    let (read, mut written) = (count(&usage, "cache_read_input_tokens"), count(&usage, "cache_creation_input_tokens"));
    // summing up what was said before is billed as well, and not in the numbers beside
    for turn in usage["iterations"].as_array().into_iter().flatten().filter(|turn| turn["type"] == "compaction") {
        input += count(turn, "input_tokens");
        output += count(turn, "output_tokens");
        written += count(turn, "cache_creation_input_tokens");
    }
    let hour = count(&usage["cache_creation"], "ephemeral_1h_input_tokens");
    let thought = count(&usage["output_tokens_details"], "thinking_tokens");
    Some([input + read + written, read, written - hour, hour, 0, output, thought, 0])
}

/// Of a stream: the last that each member was.
fn gemini(told: &[Value]) -> Option<Numbers> {
    let mut usage = serde_json::Map::new();
    for event in told {
        let members = event["usageMetadata"].as_object().into_iter().flatten();
        usage.extend(members.map(|(name, value)| (name.clone(), value.clone())));
    }
    if usage.is_empty() {
        return None;
    }
    let usage = Value::from(usage);
    let audio = |names: &[&str]| -> u64 {
        let details = names.iter().flat_map(|name| usage[*name].as_array().into_iter().flatten());
        details.filter(|detail| detail["modality"] == "AUDIO").map(|detail| count(detail, "tokenCount")).sum()
    };
    let input = count(&usage, "promptTokenCount") + count(&usage, "toolUsePromptTokenCount");
    let thought = count(&usage, "thoughtsTokenCount");
    let output = count(&usage, "candidatesTokenCount") + thought;
    let heard = audio(&["promptTokensDetails", "toolUsePromptTokensDetails"]);
    let cached = count(&usage, "cachedContentTokenCount");
    Some([input, cached, 0, 0, heard, output, thought, audio(&["candidatesTokensDetails"])])
}

fn of_usage(usage: &Usage) -> Numbers {
    let Usage {
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        input_audio,
        output,
        reasoning,
        output_audio,
        server_tool_calls: _,
    } = *usage;
    [input, cache_read, cache_write_5m, cache_write_1h, input_audio, output, reasoning, output_audio].map(|t| t.0)
}

fn to_usage(numbers: Numbers, server_tool_calls: u32) -> Usage {
    let [input, cache_read, cache_write_5m, cache_write_1h, input_audio, output, reasoning, output_audio] =
        numbers.map(Tokens);
    Usage {
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        input_audio,
        output,
        reasoning,
        output_audio,
        server_tool_calls,
    }
}

// === the tally ===

#[test]
fn every_recorded_answer_is_counted_as_its_provider_counts() {
    let (mut wrong, mut counted) = (Vec::new(), BTreeMap::<&str, usize>::new());
    for recorded in recorded() {
        let (ours, theirs) = (tally(&recorded).as_ref().map(of_usage), numbers(&recorded));
        if ours.is_some() {
            *counted.entry(recorded.dialect.name()).or_default() += 1;
        }
        if ours != theirs {
            wrong.push(format!("{}: {ours:?}, the provider says {theirs:?}", recorded.id));
        }
    }
    eprintln!("counted: {counted:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    if folder().is_some() {
        assert!(counted.values().sum::<usize>() >= 300 && counted.len() == Dialect::ALL.len(), "{counted:?}");
    }
}

// === prices ===

fn tariff(kind: &str, place: Place, model: &str) -> Tariff {
    let seller = Seller { provider: kind, kind, at_vendor: true, place };
    let (_, tariff) = Prices::default().known_of(seller, model);
    Tariff::clone(&tariff.unwrap_or_else(|| panic!("{kind} {model} has no price")))
}

struct Priced {
    /// Of the corpus; empty: of another recording of this usage.
    id: &'static str,
    kind: &'static str,
    model: &'static str,
    numbers: Numbers,
    searches: u32,
    /// 1e-9 USD.
    cost: i64,
}

const fn priced(
    id: &'static str,
    kind: &'static str,
    model: &'static str,
    numbers: Numbers,
    searches: u32,
    cost: i64,
) -> Priced {
    Priced { id, kind, model, numbers, searches, cost }
}

/// By hand. Prices are USD per million tokens as the vendor's price list has them, so that each product is in 1e-6 USD.
#[rustfmt::skip]
const BY_HAND: [Priced; 32] = [
    // 2.50, cached 1.25, 10: 140 x 2.50 = 350; 1280 x 1.25 = 1600; 100 x 10 = 1000
    priced("openai.chat-022-6fa066", "openai", "gpt-4o", [1420, 1280, 0, 0, 0, 100, 0, 0], 0, 2_950_000),
    // 1.25, 10: 232 x 1.25 = 290; 96 x 10 = 960, of which 64 were thought
    priced("openai.chat-024-0eeca5", "openai", "gpt-5", [232, 0, 0, 0, 0, 96, 64, 0], 0, 1_250_000),
    // 1.25, 10: 190 x 1.25 = 237.5; 379 x 10 = 3790
    priced("openai.chat-026-fafa68", "openai", "gpt-5", [190, 0, 0, 0, 0, 379, 320, 0], 0, 4_027_500),
    // 0.40, 1.60: 23 x 0.40 = 9.2; 1 x 1.60 = 1.6
    priced("openai.chat-001-c40e09", "openai", "gpt-4.1-mini", [23, 0, 0, 0, 0, 1, 0, 0], 0, 10_800),
    // 0.15, cached 0.075, 0.60; this model has no price of its own for audio: 19 x 0.15 = 2.85; 1 x 0.075; 4 x 0.60 = 2.4
    priced("openai.chat-011-f3f847", "openai", "gpt-4o-mini", [20, 1, 0, 0, 2, 4, 3, 4], 0, 5_325),
    // 1.75, cached 0.175, 14: 213 x 1.75 = 372.75; 4352 x 0.175 = 761.6; 5 x 14 = 70
    priced("openai.responses-031-8eb72b", "openai", "gpt-5.2", [4565, 4352, 0, 0, 0, 5, 0, 0], 0, 1_204_350),
    // 0.05, 0.40: 197 x 0.05 = 9.85; 224 x 0.40 = 89.6
    priced("openai.responses-027-ad2a1f", "openai", "gpt-5-nano", [197, 0, 0, 0, 0, 224, 192, 0], 0, 99_450),
    // 1.10, 4.40: 80 x 1.10 = 88; 245 x 4.40 = 1078
    priced("openai.responses-021-5aa8cb", "openai", "o4-mini", [80, 0, 0, 0, 0, 245, 192, 0], 0, 1_166_000),
    // 0.25, 2: 63 x 0.25 = 15.75; 101 x 2 = 202
    priced("azure.responses-001-a3f0cf", "azure", "gpt-5-mini", [63, 0, 0, 0, 0, 101, 64, 0], 0, 217_750),
    // 1.10, 4.40: 19 x 1.10 = 20.9; 149 x 4.40 = 655.6
    priced("azure.chat-006-674f32", "azure", "o4-mini", [19, 0, 0, 0, 0, 149, 128, 0], 0, 676_500),
    // 0.02, no output: 7 x 0.02 = 0.14
    priced("", "openai", "text-embedding-3-small", [7, 0, 0, 0, 0, 0, 0, 0], 0, 140),
    // 0.15, no output: 38 x 0.15 = 5.7
    priced("", "mistral", "codestral-embed", [38, 0, 0, 0, 0, 0, 0, 0], 0, 5_700),
    // 3, cached 0.30, 15: 11 x 3 = 33; 2055 x 0.30 = 616.5; 100 x 15 = 1500
    priced("anthropic.messages-012-cb6179", "anthropic", "claude-sonnet-4-20250514", [2066, 2055, 0, 0, 0, 100, 0, 0], 0, 2_149_500),
    // written 3.75: 18 x 3 = 54; 1031 x 3.75 = 3866.25; 100 x 15 = 1500
    priced("anthropic.messages-018-eab829", "anthropic", "claude-sonnet-4-20250514", [1049, 0, 1031, 0, 0, 100, 0, 0], 0, 5_420_250),
    // 1, 5, and $10 per thousand searches: 11632 x 1; 126 x 5 = 630; a search = 10000
    priced("anthropic.messages-033-9b5961", "anthropic", "claude-haiku-4-5-20251001", [11632, 0, 0, 0, 0, 126, 0, 0], 1, 22_262_000),
    // 0.80, 4: 17 x 0.80 = 13.6; 87 x 4 = 348
    priced("anthropic.messages-059-0ca0a7", "anthropic", "claude-3-5-haiku-20241022", [17, 0, 0, 0, 0, 87, 0, 0], 0, 361_600),
    // 15, 75: 246 x 15 = 3690; 15 x 75 = 1125
    priced("anthropic.messages-019-9c637b", "anthropic", "claude-3-opus-20240229", [246, 0, 0, 0, 0, 15, 0, 0], 0, 4_815_000),
    // 5, 25: 1921 x 5 = 9605; 65 x 25 = 1625
    priced("anthropic.messages-021-0c0459", "anthropic", "claude-opus-4-6", [1921, 0, 0, 0, 0, 65, 0, 0], 0, 11_230_000),
    // at the profile of a region a tenth more, 3.30, written 4.125, 16.50: 3 x 3.30 = 9.9; 1712 x 4.125 = 7062; 227 x 16.50 = 3745.5
    priced("bedrock.converse-026-7b8226", "bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", [1715, 0, 1712, 0, 0, 227, 0, 0], 0, 10_817_400),
    // 0.035, 0.14: 13 x 0.035 = 0.455; 5 x 0.14 = 0.7
    priced("bedrock.converse-028-25d890", "bedrock", "us.amazon.nova-micro-v1:0", [13, 0, 0, 0, 0, 5, 0, 0], 0, 1_155),
    // 0.06 and nothing more for what is written, 0.24: 2556 x 0.06 = 153.36; 4 x 0.24 = 0.96
    priced("bedrock.converse-024-c93d2b", "bedrock", "us.amazon.nova-lite-v1:0", [2556, 0, 2492, 0, 0, 4, 0, 0], 0, 154_320),
    // 3, cached 0.30, 15: 12 x 3 = 36; 1028 x 0.30 = 308.4; 250 x 15 = 3750
    priced("bedrock.converse-stream-006-c6ac34", "bedrock", "us.anthropic.claude-3-7-sonnet-20250219-v1:0", [1040, 1028, 0, 0, 0, 250, 0, 0], 0, 4_094_400),
    // 3, 15: 476 x 3 = 1428; 77 x 15 = 1155
    priced("vertex.anthropic-rawPredict-002-50c731", "vertex", "claude-3-7-sonnet@20250219", [476, 0, 0, 0, 0, 77, 0, 0], 0, 2_583_000),
    // 1.25, 10: 194 x 1.25 = 242.5; 33 + 216 = 249 x 10 = 2490
    priced("gemini.generateContent-009-88f782", "gemini", "gemini-2.5-pro", [194, 0, 0, 0, 0, 249, 216, 0], 0, 2_732_500),
    // 0.30, 2.50: 190 x 0.30 = 57; 20 + 41 = 61 x 2.50 = 152.5
    priced("gemini.streamGenerateContent-001-ff2862", "gemini", "gemini-2.5-flash", [190, 0, 0, 0, 0, 61, 41, 0], 0, 209_500),
    // 2, 12: 65 x 2 = 130; 16 + 138 = 154 x 12 = 1848
    priced("gemini.generateContent-013-cf5f39", "gemini", "gemini-3-pro-preview", [65, 0, 0, 0, 0, 154, 138, 0], 0, 1_978_000),
    // what is billed, not what was read; 2.50, 10: 135 x 2.50 = 337.5; 78 x 10 = 780
    priced("cohere.chat-011-ebf62c", "cohere", "command-a-03-2025", [135, 135, 0, 0, 0, 78, 0, 0], 0, 1_117_500),
    // 0.0375, 0.15: 91 x 0.0375 = 3.4125; 31 x 0.15 = 4.65; 8.0625 is rounded up
    priced("cohere.chat-026-6efa36", "cohere", "command-r7b-12-2024", [91, 91, 0, 0, 0, 31, 0, 0], 0, 8_063),
    // 0.075, cached 0.0375, 0.30: 3 x 0.075 = 0.225; 1792 x 0.0375 = 67.2; 16 x 0.30 = 4.8
    priced("groq.chat-005-bdfcb6", "groq", "openai/gpt-oss-20b", [1795, 1792, 0, 0, 0, 16, 14, 0], 0, 72_225),
    // 0.59, 0.79: 359 x 0.59 = 211.81; 35 x 0.79 = 27.65
    priced("groq.chat-002-af568d", "groq", "llama-3.3-70b-versatile", [359, 0, 0, 0, 0, 35, 0, 0], 0, 239_460),
    // 1.25, cached 0.20, 2.50: 204 x 1.25 = 255; 192 x 0.20 = 38.4; 240 x 2.50 = 600. xAI says 8934000 x 1e-10
    priced("xai.responses-005-af5f3a", "xai", "grok-4.3", [396, 192, 0, 0, 0, 240, 210, 0], 0, 893_400),
    // 158 x 1.25 = 197.5; 320 x 0.20 = 64; 91 x 2.50 = 227.5. xAI says 4890000 x 1e-10
    priced("xai.responses-006-21ca2c", "xai", "grok-4.3", [478, 320, 0, 0, 0, 91, 59, 0], 0, 489_000),
];

#[test]
fn calls_cost_what_was_reckoned_by_hand() {
    for Priced { id, kind, model, numbers, searches, cost: by_hand } in BY_HAND {
        let tariff = tariff(kind, Place::Global, model);
        let used = Used { usage: to_usage(numbers, searches), ..Used::default() };
        assert_eq!(cost(&tariff, &used), Some(NanoUsd(by_hand)), "{id} {kind} {model}: {:#?}", lines(&tariff, &used));
        let sum: i128 = lines(&tariff, &used).iter().map(|line| line.amount.0).sum();
        assert_eq!(sum, PicoUsd::from(NanoUsd(by_hand)).0, "{id}");
        let ask = Worst {
            input: used.usage.input,
            output: used.usage.output,
            server_tool_calls: searches,
            ..Worst::default()
        };
        assert!(worst(&tariff, &ask) >= Some(NanoUsd(by_hand)), "{id}");
    }
}

#[test]
fn what_was_priced_by_hand_is_what_was_recorded() {
    let recorded: BTreeMap<String, Recorded> = recorded().into_iter().map(|item| (item.id.clone(), item)).collect();
    for Priced { id, numbers, searches, .. } in BY_HAND.iter().filter(|item| !item.id.is_empty()) {
        let Some(item) = recorded.get(*id) else {
            assert!(folder().is_none(), "{id} is not in the corpus");
            continue;
        };
        let usage = tally(item).unwrap_or_else(|| panic!("{id} has no usage"));
        assert_eq!((of_usage(&usage), usage.server_tool_calls), (*numbers, *searches), "{id}");
    }
}

/// xAI tells what it charged, in 1e-10 USD.
#[test]
fn every_call_that_xai_tells_the_price_of_costs_that() {
    let mut compared = 0;
    for recorded in recorded() {
        let charged = |event: &Value| {
            let usages = [event["usage"].clone(), event["response"]["usage"].clone()];
            usages.iter().find_map(|usage| usage["cost_in_usd_ticks"].as_i64())
        };
        let model = |event: &Value| {
            let names = [event["model"].clone(), event["response"]["model"].clone()];
            names.iter().find_map(|name| name.as_str().map(str::to_owned))
        };
        let Some(charged) = recorded.told.iter().rev().find_map(charged) else { continue };
        let Some(model) = recorded.told.iter().find_map(model) else { continue };
        let seller = Seller { provider: "xai", kind: "xai", at_vendor: true, place: Place::Global };
        let (_, tariff) = Prices::default().known_of(seller, &model);
        let usage = tally(&recorded).expect("has usage");
        // what its tools cost hangs on which they were
        let (Some(tariff), 0) = (tariff, usage.server_tool_calls) else { continue };
        let ours = cost(&tariff, &Used { usage, ..Used::default() });
        assert_eq!(ours, Some(NanoUsd((charged + 9) / 10)), "{} {model}: {usage:?}", recorded.id);
        compared += 1;
    }
    eprintln!("{compared} calls compared with what xAI charged");
    assert!(folder().is_none() || compared >= 5, "{compared}");
}
