//! A request as the body of `POST /v2/chat`.
//!
//! Truth: the Cohere API reference, "Chat (v2)": names and ranges.

use std::borrow::Cow;

use super::{message, tool};
use crate::chat::{Dialect, Effort, Format, Losses, Param, Reasoning, Request, Schema};
use crate::dialect::codec::{Encoded, To};
use crate::json::{At, Writer};

/// Most stop sequences.
const STOPS: usize = 5;

pub fn encode(request: &Request<'_>, to: &To<'_>) -> Encoded {
    let mut losses = Losses::default();
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    let conversation = message::plan(request, &mut losses);
    w.object();
    w.name("model").string(to.model);
    w.name("stream").boolean(request.stream);
    conversation.write(&mut w);
    let tools = tool::write(request, &mut w, &mut losses);
    write_format(request.format.as_ref(), tools || conversation.has_documents(), &mut w, &mut losses);
    write_numbers(request, &mut w, &mut losses);
    write_stop(request.stop.as_ref(), &mut w, &mut losses);
    write_thinking(request.reasoning.as_ref(), &mut w, &mut losses);
    if request.dialect == Dialect::Cohere {
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

/// `together`: tools or documents are sent, beside which a format is refused.
fn write_format(format: Option<&Param<Format<'_>>>, together: bool, w: &mut Writer<'_>, losses: &mut Losses) {
    let Some(Param { value, at }) = format else { return };
    let schema = match value {
        Format::Text => return,
        _ if together => return losses.dropped(*at, ""),
        Format::Json => None,
        // its name is a label; it is always kept to strictly
        Format::Schema(Schema { name: _, description, schema, strict: _ }) => {
            if description.is_some() {
                losses.dropped(*at, "description");
            }
            Some(schema)
        }
    };
    w.name("response_format").object();
    w.name("type").string("json_object");
    w.raw_if("json_schema", schema.map(|schema| &**schema));
    w.end_object();
}

fn write_numbers(request: &Request<'_>, w: &mut Writer<'_>, losses: &mut Losses) {
    w.number_if("max_tokens", request.max_output.as_ref().map(|max| max.value));
    for (name, param, (least, most)) in [
        ("temperature", &request.temperature, ("0", "1")),
        ("p", &request.top_p, ("0.01", "0.99")),
        ("k", &request.top_k, ("0", "500")),
        ("frequency_penalty", &request.frequency_penalty, ("0", "1")),
        ("presence_penalty", &request.presence_penalty, ("0", "1")),
    ] {
        if let Some(Param { value, at }) = param {
            let within = clamp(value, least, most);
            // everything is what is nearly everything
            if within != value && !(name == "p" && value.parse() == Ok(1.0)) {
                losses.changed(*at, "");
            }
            w.name(name).raw(within);
        }
    }
    w.raw_if("seed", request.seed.as_ref().map(|seed| &*seed.value));
    if request.logprobs.as_ref().is_some_and(|logprobs| logprobs.value) {
        w.name("logprobs").boolean(true);
    }
}

/// The number's own text, or that of the bound it is beyond.
fn clamp<'n>(number: &'n str, least: &'static str, most: &'static str) -> &'n str {
    let beyond = |bound: &str, way: std::cmp::Ordering| {
        let (Ok(number), Ok(bound)) = (number.parse::<f64>(), bound.parse::<f64>()) else { return false };
        number.partial_cmp(&bound) == Some(way)
    };
    if beyond(least, std::cmp::Ordering::Less) {
        least
    } else if beyond(most, std::cmp::Ordering::Greater) {
        most
    } else {
        number
    }
}

fn write_stop(stop: Option<&Param<Vec<Cow<'_, str>>>>, w: &mut Writer<'_>, losses: &mut Losses) {
    let Some(Param { value, at }) = stop else { return };
    let kept: Vec<&str> = value.iter().map(|s| &**s).filter(|s| !s.is_empty()).take(STOPS).collect();
    if kept.len() < value.len() {
        losses.dropped(*at, "");
    }
    if !kept.is_empty() {
        w.name("stop_sequences").array();
        kept.iter().for_each(|sequence| w.string(sequence));
        w.end_array();
    }
}

/// Models that can think do so unasked; a budget bounds them.
fn write_thinking(reasoning: Option<&Param<Reasoning<'_>>>, w: &mut Writer<'_>, losses: &mut Losses) {
    let Some(Param { value, at }) = reasoning else { return };
    // thoughts come as they are, neither summed up nor sealed
    let Reasoning { enabled, effort, budget, adaptive, summary, encrypted: _ } = value;
    if summary.as_deref() == Some("none") {
        losses.dropped(*at, "summary");
    }
    let off = *enabled == Some(false) || *effort == Some(Effort::None) || *budget == Some(0);
    if !off && *enabled != Some(true) && effort.is_none() && budget.is_none() && !adaptive {
        return;
    }
    let budget = match (off, budget, effort) {
        (true, ..) | (_, None, None) => None,
        (_, Some(budget), _) => Some(*budget),
        // an effort is a guess at a budget; the highest are what the model does unbounded
        (_, None, Some(Effort::XHigh | Effort::Max)) => None,
        (_, None, Some(effort)) => {
            losses.changed(*at, "");
            Some(effort.budget())
        }
    };
    w.name("thinking").object();
    w.name("type").string(if off { "disabled" } else { "enabled" });
    w.number_if("token_budget", budget);
    w.end_object();
}

/// What chat does not have, and what needs no word there.
fn book_the_rest(request: &Request<'_>, losses: &mut Losses) {
    let Request {
        dialect: _,
        // the provider's own name for it is sent
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
        presence_penalty: _,
        frequency_penalty: _,
        seed: _,
        stop: _,
        n,
        logprobs: _,
        top_logprobs,
        modalities,
        service_tier,
        user,
        metadata,
        store,
        cache_key,
        cache,
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
    drop(n.as_ref().filter(|p| p.value != 1).map(|p| p.at));
    drop(top_logprobs.as_ref().filter(|p| p.value > 0).map(|p| p.at));
    drop(modalities.as_ref().filter(|p| p.value.iter().any(|m| m != "text")).map(|p| p.at));
    // there is one tier
    let tier = service_tier.as_ref().filter(|p| !matches!(&*p.value, "auto" | "default" | "standard_only"));
    drop(tier.map(|p| p.at));
    drop(user.as_ref().map(|p| p.at));
    drop(metadata.as_ref().map(|p| p.at));
    drop(store.as_ref().filter(|p| p.value).map(|p| p.at));
    drop(cache_key.as_ref().map(|p| p.at));
    drop(cache.map(|cache| cache.at));
}
