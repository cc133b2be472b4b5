//! A chat completions request, written for a provider.

use std::borrow::Cow;

use super::parts_out::{self, Parts};
use super::{rest, tools_out, turns_out};
use crate::chat::{Dialect, Effort, Extra, Format, Losses, Param, Reasoning, Request, Schema};
use crate::dialect::{Encoded, To};
use crate::json::{At, Writer};

/// Members of `extra` with a place of their own.
const MERGED: [&str; 3] = ["stream_options", "response_format", "reasoning"];

/// OpenAI wants a name for a schema.
const SCHEMA_NAME: &str = "response";

pub(super) fn write(request: &Request<'_>, to: &To<'_>) -> Encoded {
    let mut body = Vec::with_capacity(1024);
    let mut losses = Losses::default();
    let mut w = Writer::new(&mut body);
    let parts = Parts { from: request.dialect, manners: to.manners };
    w.object();
    w.name("model").string(to.model);
    w.name("messages");
    turns_out::write(&mut w, request, to, &mut losses);
    let tools = tools_out::write(&mut w, request, &parts, &mut losses);
    // both are refused where there are no tools; who wrote them so in this dialect is told so by the provider
    if tools || request.dialect == Dialect::OpenAiChat {
        tools_out::choice(&mut w, request, &mut losses);
        w.boolean_if("parallel_tool_calls", request.parallel_tool_calls.as_ref().map(|p| p.value));
    } else if let Some(choice) = &request.tool_choice {
        losses.dropped(choice.at, "");
    }
    format(&mut w, request, to, &mut losses);
    reasoning(&mut w, request, to, &mut losses);
    params(&mut w, request, to, &mut losses);
    about(&mut w, request, &mut losses);
    parts_out::cache_control(&mut w, parts.mark(request.cache, &mut losses));
    stream(&mut w, request);
    extra(&mut w, request, &mut losses);
    w.end_object();
    Encoded { body, losses }
}

/// How the model samples, and how long.
fn params(w: &mut Writer<'_>, request: &Request<'_>, to: &To<'_>, losses: &mut Losses) {
    let Request {
        // written by the others
        dialect,
        model: _,
        stream: _,
        stream_usage: _,
        turns: _,
        tools: _,
        tool_choice: _,
        parallel_tool_calls: _,
        format: _,
        reasoning: _,
        service_tier: _,
        user: _,
        metadata: _,
        store: _,
        cache_key: _,
        cache: _,
        extra: _,
        // written here
        verbosity,
        max_output,
        temperature,
        top_p,
        top_k,
        presence_penalty,
        frequency_penalty,
        seed,
        stop,
        n,
        logprobs,
        top_logprobs,
        modalities,
    } = request;
    w.string_if("verbosity", verbosity.as_ref().map(|v| &*v.value));
    let length = if to.manners.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    w.number_if(length, max_output.as_ref().map(|max| max.value));
    // vendors know it, OpenAI does not: only who wrote it in this dialect means one of them
    let own = *dialect == Dialect::OpenAiChat;
    for (name, number) in [
        ("temperature", temperature),
        ("top_p", top_p),
        ("top_k", top_k),
        ("presence_penalty", presence_penalty),
        ("frequency_penalty", frequency_penalty),
        ("seed", seed),
    ] {
        match number {
            Some(Param { value: _, at }) if name == "top_k" && !own => losses.dropped(*at, ""),
            Some(Param { value, at: _ }) => w.name(name).raw(value),
            None => {}
        }
    }
    strings(w, "stop", stop.as_ref());
    w.number_if("n", n.as_ref().map(|n| n.value));
    w.boolean_if("logprobs", logprobs.as_ref().map(|l| l.value));
    w.number_if("top_logprobs", top_logprobs.as_ref().map(|t| t.value));
    strings(w, "modalities", modalities.as_ref());
}

fn strings(w: &mut Writer<'_>, name: &str, list: Option<&Param<Vec<Cow<'_, str>>>>) {
    let Some(list) = list else { return };
    w.name(name).array();
    for item in &list.value {
        w.string(item);
    }
    w.end_array();
}

/// Who asks, and how the provider keeps and serves the call.
fn about(w: &mut Writer<'_>, request: &Request<'_>, losses: &mut Losses) {
    let own = request.dialect == Dialect::OpenAiChat;
    // what stands in `safety_identifier` goes back there
    let elsewhere = |at: At| own && request.extra.get("safety_identifier").is_some_and(|m| m.at == at);
    if let Some(user) = request.user.as_ref().filter(|user| !elsewhere(user.at)) {
        w.name("user").string(&user.value);
    }
    if let Some(Param { value, at }) = &request.service_tier {
        match tier(value, own) {
            Some(word) => {
                if word != &**value {
                    losses.changed(*at, "");
                }
                w.name("service_tier").string(word);
            }
            None => losses.dropped(*at, ""),
        }
    }
    let stored = request.store.as_ref().is_some_and(|store| store.value);
    match &request.metadata {
        // OpenAI refuses it where nothing is stored
        Some(Param { value, at: _ }) if own || stored => w.name("metadata").raw(value),
        Some(Param { value: _, at }) => losses.dropped(*at, ""),
        None => {}
    }
    // not to keep is what happens anyway
    if let Some(store) = request.store.as_ref().filter(|store| own || store.value) {
        w.name("store").boolean(store.value);
    }
    w.string_if("prompt_cache_key", request.cache_key.as_ref().map(|key| &*key.value));
}

/// The tier in OpenAI's words; any word of who speaks this dialect.
fn tier(word: &str, own: bool) -> Option<&str> {
    match word {
        "auto" | "default" | "flex" | "priority" | "scale" | "fast" => Some(word),
        word if own => Some(word),
        "standard_only" | "standard" => Some("default"),
        _ => None,
    }
}

fn format(w: &mut Writer<'_>, request: &Request<'_>, to: &To<'_>, losses: &mut Losses) {
    let Some(Param { value, at }) = &request.format else { return };
    w.name("response_format").object();
    match value {
        Format::Text => w.name("type").string("text"),
        Format::Json => w.name("type").string("json_object"),
        Format::Schema(_) if to.manners.no_json_schema => {
            losses.changed(*at, "");
            w.name("type").string("json_object");
        }
        Format::Schema(Schema { name, description, schema, strict }) => {
            w.name("type").string("json_schema");
            w.name("json_schema").object();
            w.name("name").string(name.as_deref().unwrap_or(SCHEMA_NAME));
            w.string_if("description", description.as_deref());
            w.name("schema").raw(schema);
            w.boolean_if("strict", *strict);
            rest::merge(w, &request.extra, request.dialect, "response_format");
            w.end_object();
        }
    }
    w.end_object();
}

fn reasoning(w: &mut Writer<'_>, request: &Request<'_>, to: &To<'_>, losses: &mut Losses) {
    let Some(Param { value, at }) = &request.reasoning else { return };
    if value.encrypted {
        losses.dropped(*at, "encrypted");
    }
    if to.manners.reasoning_object {
        reasoning_object(w, value, request, *at, losses);
        return;
    }
    // adaptive: how much is the model's own business, as it is when nothing is said
    let Reasoning { enabled, effort, budget, adaptive: _, summary, encrypted: _ } = value;
    if summary.is_some() {
        losses.dropped(*at, "summary");
    }
    let spoken = matches!(request.dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses);
    match (enabled, effort, budget) {
        // models that cannot think refuse the word, and nobody else's clients know which these are
        (Some(false), _, _) if !spoken => losses.dropped(*at, ""),
        (Some(false), _, _) => w.name("reasoning_effort").string("none"),
        (_, Some(Effort::None), _) if !spoken => losses.dropped(*at, ""),
        (_, Some(effort), budget) => {
            if budget.is_some() {
                losses.dropped(*at, "budget");
            }
            w.name("reasoning_effort").string(effort.word());
        }
        (_, None, Some(0)) if !spoken => losses.dropped(*at, ""),
        (_, None, Some(budget)) => {
            losses.changed(*at, "");
            w.name("reasoning_effort").string(Effort::of_budget(*budget).word());
        }
        // to think, without saying how much: models that can do
        (_, None, None) => {}
    }
}

/// OpenRouter's form takes an effort or a budget, not both.
fn reasoning_object(w: &mut Writer<'_>, value: &Reasoning<'_>, request: &Request<'_>, at: At, losses: &mut Losses) {
    let Reasoning { enabled, effort, budget, adaptive, summary, encrypted: _ } = value;
    w.name("reasoning").object();
    match (effort, budget) {
        (Some(effort), budget) => {
            if budget.is_some() {
                losses.dropped(at, "budget");
            }
            w.name("effort").string(effort.word());
        }
        (None, Some(budget)) => w.name("max_tokens").number(*budget),
        (None, None) => {}
    }
    w.boolean_if("enabled", enabled.or(adaptive.then_some(true)));
    match summary.as_deref() {
        Some("none") => w.name("exclude").boolean(true),
        Some(summary) => w.name("summary").string(summary),
        None => {}
    }
    rest::merge(w, &request.extra, request.dialect, "reasoning");
    w.end_object();
}

/// A stream is always asked for its usage: the gateway counts, whether or not the client wants to see it.
fn stream(w: &mut Writer<'_>, request: &Request<'_>) {
    if !request.stream {
        return;
    }
    w.name("stream").boolean(true);
    w.name("stream_options").object();
    w.name("include_usage").boolean(true);
    rest::merge(w, &request.extra, request.dialect, "stream_options");
    w.end_object();
}

fn extra(w: &mut Writer<'_>, request: &Request<'_>, losses: &mut Losses) {
    // what is left of an object whose own place was written; kept whole where the object was not understood at all
    let merged: Vec<&str> = MERGED
        .into_iter()
        .filter(|name| match *name {
            "response_format" => request.format.is_some(),
            "reasoning" => request.reasoning.is_some(),
            _ => true,
        })
        .collect();
    let mut extra: Extra<'_> = request.extra.clone();
    // a choice of a kind we do not know, where one had to be made
    if request.tool_choice.is_some()
        && let Some(at) = extra.0.iter().position(|member| member.name == "tool_choice")
    {
        losses.dropped(extra.0.remove(at).at, "");
    }
    rest::write(w, &extra, request.dialect, &merged, losses);
}
