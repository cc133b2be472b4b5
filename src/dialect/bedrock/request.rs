//! A request as the body of Converse and ConverseStream, which are the same; the model stands in the path.
//!
//! Truth: botocore's service model of `bedrock-runtime` (`ConverseRequest`): names, limits, alphabets.

use std::borrow::Cow;

use super::block::Planner;
use super::media::Names;
use super::message::{self, Conversation, Speaker};
use super::model::Family;
use super::part;
use super::reasoning::{self, Circumstances, Thinking};
use super::tool::{self, ToolConfig};
use crate::chat::{Dialect, Format, Issuer, Json, Losses, Param, Request, Schema};
use crate::dialect::codec::{Encoded, To};
use crate::json::{At, Node, Writer};

/// Most pairs of `requestMetadata`, and most bytes of a key or a value.
const METADATA_PAIRS: usize = 16;
const METADATA_LENGTH: usize = 256;

pub fn encode(request: &Request<'_>, to: &To<'_>) -> Encoded {
    let mut losses = Losses::default();
    let family = Family::of(to.model);
    let own = request.dialect == Dialect::Bedrock;
    let mut planner =
        Planner { family, issuer: Issuer::of_bedrock_model(to.model), names: Names::default(), losses: &mut losses };
    let conversation = message::plan(request, &mut planner);
    let tools = tool::plan(request, &conversation, &mut planner);
    let circumstances = Circumstances {
        forced: tools.as_ref().is_some_and(ToolConfig::forces),
        thoughts_missing: conversation.thoughts_missing(),
    };
    let thinking = reasoning::plan(request, family, circumstances, &mut losses);
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    write_conversation(&conversation, &mut w);
    let sampling = Sampling::plan(request, family, thinking, &mut losses);
    sampling.write_inference_config(&mut w);
    if let Some(tools) = &tools {
        tools.write(&mut w);
    }
    write_additional(thinking, &sampling, &mut w);
    write_format(request.format.as_ref(), &mut w, &mut losses);
    write_metadata(request.metadata.as_ref(), &mut w, &mut losses);
    write_service_tier(request.service_tier.as_ref(), &mut w, &mut losses);
    if family.is_claude() && sampling.stop.is_some() {
        // which sequence was met is told only to whom asks
        let path = if request.stream { "/delta/stop_sequence" } else { "/stop_sequence" };
        w.name("additionalModelResponseFieldPaths").array();
        w.string(path);
        w.end_array();
    }
    if own {
        for member in &request.extra.0 {
            w.name(&member.name).raw(&member.json);
        }
    } else {
        losses.extra(&request.extra);
    }
    w.end_object();
    book_the_rest(request, &mut losses);
    Encoded { body, losses }
}

fn write_conversation(conversation: &Conversation<'_>, w: &mut Writer<'_>) {
    w.name("messages").array();
    for message in &conversation.messages {
        w.object();
        w.name("role").string(match message.speaker {
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        });
        part::write_all(&message.parts, w.name("content"));
        w.end_object();
    }
    w.end_array();
    if !conversation.system.is_empty() {
        part::write_all(&conversation.system, w.name("system"));
    }
}

/// What is not in Converse at all, and what needs no word there.
fn book_the_rest(request: &Request<'_>, losses: &mut Losses) {
    let Request {
        dialect: _,
        // in the path
        model: _,
        stream: _,
        // always sent
        stream_usage: _,
        turns: _,
        tools: _,
        tool_choice: _,
        parallel_tool_calls,
        format: _,
        verbosity,
        reasoning: _,
        max_output: _,
        temperature: _,
        top_p: _,
        top_k: _,
        presence_penalty,
        frequency_penalty,
        seed,
        stop: _,
        n,
        logprobs,
        top_logprobs,
        modalities,
        service_tier: _,
        user,
        metadata: _,
        store,
        cache_key,
        cache: _,
        extra: _,
    } = request;
    let mut drop = |at: Option<At>| {
        if let Some(at) = at {
            losses.dropped(at, "");
        }
    };
    // calls are parallel where the model likes
    drop(parallel_tool_calls.as_ref().filter(|p| !p.value).map(|p| p.at));
    drop(verbosity.as_ref().map(|p| p.at));
    drop(presence_penalty.as_ref().filter(|p| !is_zero(&p.value)).map(|p| p.at));
    drop(frequency_penalty.as_ref().filter(|p| !is_zero(&p.value)).map(|p| p.at));
    drop(seed.as_ref().map(|p| p.at));
    drop(n.as_ref().filter(|p| p.value != 1).map(|p| p.at));
    drop(logprobs.as_ref().filter(|p| p.value).map(|p| p.at));
    drop(top_logprobs.as_ref().filter(|p| p.value > 0).map(|p| p.at));
    drop(modalities.as_ref().filter(|p| p.value.iter().any(|m| m != "text")).map(|p| p.at));
    drop(user.as_ref().map(|p| p.at));
    // Bedrock keeps nothing
    drop(store.as_ref().filter(|p| p.value).map(|p| p.at));
    drop(cache_key.as_ref().map(|p| p.at));
}

fn is_zero(number: &str) -> bool {
    number.parse::<f64>() == Ok(0.0)
}

// === sampling ===

/// The numbers that steer the choice of tokens, each in its own text.
#[derive(Debug)]
struct Sampling<'r> {
    max_tokens: Option<u64>,
    temperature: Option<&'r str>,
    top_p: Option<&'r str>,
    top_k: Option<(TopK, &'r str)>,
    stop: Option<Vec<&'r str>>,
}

/// Where a model takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TopK {
    /// `top_k`
    Plain,
    /// `inferenceConfig.topK` of the additional fields: Nova.
    Nova,
    /// `k`: Cohere.
    K,
}

impl<'r> Sampling<'r> {
    fn plan(request: &'r Request<'_>, family: Family, thinking: Thinking, losses: &mut Losses) -> Self {
        let forbidden = thinking.forbids_sampling();
        let number = |param: &'r Option<Param<Cow<'_, str>>>, losses: &mut Losses| {
            let Param { value, at } = param.as_ref()?;
            if forbidden && value.parse::<f64>() != Ok(1.0) {
                losses.dropped(*at, "");
                return None;
            }
            if value.parse::<f64>().is_ok_and(|number| number > 1.0) {
                losses.changed(*at, "");
                return Some("1");
            }
            Some(&**value)
        };
        let temperature = number(&request.temperature, losses);
        let top_p = number(&request.top_p, losses);
        let place = match family {
            Family::Claude(_) | Family::Mistral => Some(TopK::Plain),
            Family::Nova(_) => Some(TopK::Nova),
            Family::Cohere => Some(TopK::K),
            Family::OpenAi | Family::OpenWeight | Family::Other | Family::Unknown => None,
        };
        let top_k = request.top_k.as_ref().and_then(|Param { value, at }| match place {
            Some(place) if !forbidden => Some((place, &**value)),
            _ => {
                losses.dropped(*at, "");
                None
            }
        });
        let stop = request.stop.as_ref().map(|Param { value, at }| {
            // an empty one is refused by all, one of white space by Claude
            let good = |s: &str| if family.is_claude() { !s.trim().is_empty() } else { !s.is_empty() };
            let kept: Vec<&str> = value.iter().map(|s| &**s).filter(|s| good(s)).collect();
            if kept.len() < value.len() {
                losses.dropped(*at, "");
            }
            kept
        });
        let max_tokens = request.max_output.as_ref().map(|Param { value, at }| {
            if *value == 0 {
                losses.changed(*at, "");
            }
            (*value).max(1)
        });
        Sampling { max_tokens, temperature, top_p, top_k, stop: stop.filter(|stop| !stop.is_empty()) }
    }

    fn write_inference_config(&self, w: &mut Writer<'_>) {
        let Sampling { max_tokens, temperature, top_p, top_k: _, stop } = self;
        if max_tokens.is_none() && temperature.is_none() && top_p.is_none() && stop.is_none() {
            return;
        }
        w.name("inferenceConfig").object();
        w.number_if("maxTokens", *max_tokens);
        w.raw_if("temperature", *temperature);
        w.raw_if("topP", *top_p);
        if let Some(stop) = stop {
            w.name("stopSequences").array();
            stop.iter().for_each(|sequence| w.string(sequence));
            w.end_array();
        }
        w.end_object();
    }
}

fn write_additional(thinking: Thinking, sampling: &Sampling<'_>, w: &mut Writer<'_>) {
    if !thinking.is_said() && sampling.top_k.is_none() {
        return;
    }
    w.name("additionalModelRequestFields").object();
    match sampling.top_k {
        Some((TopK::Plain, k)) => w.name("top_k").raw(k),
        Some((TopK::K, k)) => w.name("k").raw(k),
        Some((TopK::Nova, k)) => {
            w.name("inferenceConfig").object();
            w.name("topK").raw(k);
            w.end_object();
        }
        None => {}
    }
    thinking.write(w);
    w.end_object();
}

// === what stands beside ===

fn write_format(format: Option<&Param<Format<'_>>>, w: &mut Writer<'_>, losses: &mut Losses) {
    match format {
        None | Some(Param { value: Format::Text, .. }) => {}
        // no such thing without a schema
        Some(Param { value: Format::Json, at }) => losses.dropped(*at, ""),
        Some(Param { value: Format::Schema(Schema { name, description, schema, strict: _ }), at: _ }) => {
            // every schema is kept to strictly; it is sent as a text
            w.name("outputConfig").object();
            w.name("textFormat").object();
            w.name("type").string("json_schema");
            w.name("structure").object();
            w.name("jsonSchema").object();
            w.name("schema").string(schema);
            w.string_if("name", name.as_deref());
            w.string_if("description", description.as_deref());
            w.end_object();
            w.end_object();
            w.end_object();
            w.end_object();
        }
    }
}

/// Pairs that are within Bedrock's limits go to the invocation log as `requestMetadata`.
fn write_metadata(metadata: Option<&Param<Json<'_>>>, w: &mut Writer<'_>, losses: &mut Losses) {
    let Some(Param { value, at }) = metadata else { return };
    let node = Node::parse(value.as_bytes()).ok();
    let Some(members) = node.as_ref().and_then(Node::as_object) else { return losses.dropped(*at, "") };
    let fits = |text: &str| text.len() <= METADATA_LENGTH && text.bytes().all(is_metadata);
    let good: Vec<(&str, &str)> = members
        .iter()
        .filter_map(|(name, node)| Some((name, node.as_str()?)))
        .filter(|(name, value)| !name.is_empty() && fits(name) && fits(value))
        .take(METADATA_PAIRS)
        .collect();
    if good.len() < members.len() {
        losses.dropped(*at, "");
    }
    if !good.is_empty() {
        w.name("requestMetadata").object();
        for (name, value) in good {
            w.name(name).string(value);
        }
        w.end_object();
    }
}

/// `[a-zA-Z0-9\s:_@$#=/+,-.]`
fn is_metadata(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b":_@$#=/+,-.".contains(&byte)
}

fn write_service_tier(tier: Option<&Param<Cow<'_, str>>>, w: &mut Writer<'_>, losses: &mut Losses) {
    let Some(Param { value, at }) = tier else { return };
    let word = match &**value {
        word @ ("default" | "priority" | "flex" | "reserved") => word,
        // as the provider likes, which is what it does unasked
        "auto" => return,
        "standard" | "standard_only" => {
            losses.changed(*at, "");
            "default"
        }
        _ => return losses.dropped(*at, ""),
    };
    w.name("serviceTier").object();
    w.name("type").string(word);
    w.end_object();
}
