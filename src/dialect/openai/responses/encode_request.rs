//! A request's body, written.
//!
//! Of another dialect nothing is kept at the provider (`store: false`) and reasoning comes back encrypted, so that the client can carry it.

use super::decode_request::{ENCRYPTED, LOGPROBS, has_kept, is_instructions, write_kept};
use super::{input, tools};
use crate::chat::{Block, Dialect, Effort, Format, How, Losses, Param, Reasoning, Request, Role, Schema, Turn};
use crate::dialect::{Encoded, To};
use crate::json::{At, Node, Writer};

/// Fewer is refused by the API.
const LEAST_OUTPUT: u64 = 16;

/// Write a body for the model that `to` names.
pub fn write(request: &Request<'_>, to: &To<'_>) -> Encoded {
    let mut encoded = Encoded::default();
    let (mut w, losses) = (Writer::new(&mut encoded.body), &mut encoded.losses);
    w.object();
    w.name("model").string(to.model);
    if request.stream {
        w.name("stream").boolean(true);
    }
    turns(&mut w, request, losses);
    tools::write_list(&mut w, request, losses);
    tools::write_choice(&mut w, request, losses);
    text(&mut w, request, losses);
    let encrypted = reasoning(&mut w, request, to.model, losses);
    include(&mut w, request, encrypted);
    parameters(&mut w, request, losses);
    extra(&mut w, request, losses);
    w.end_object();
    encoded
}

fn own(request: &Request<'_>) -> bool {
    request.dialect == Dialect::OpenAiResponses
}

/// `instructions`: the words of the system in front. All other turns are items.
fn turns(w: &mut Writer<'_>, request: &Request<'_>, losses: &mut Losses) {
    let front = request.turns.iter().take_while(|turn| leads(turn, request)).count();
    let (front, rest) = request.turns.split_at(front);
    if !front.is_empty() {
        let mut pieces = Vec::new();
        for block in front.iter().flat_map(|turn| &turn.blocks) {
            if let Block::Text(text) = block {
                if !pieces.is_empty() {
                    pieces.push("\n\n");
                }
                pieces.push(&*text.text);
                if let Some(mark) = text.cache {
                    losses.dropped(mark.at, "");
                }
                losses.extra(&text.extra);
            }
        }
        w.name("instructions").strings(&pieces);
        for turn in front {
            losses.extra(&turn.extra);
            if turn.name.is_some() {
                losses.dropped(turn.at, "name");
            }
        }
    }
    // a stored prompt needs no input
    if rest.is_empty() && own(request) {
        return;
    }
    w.name("input").array();
    input::Items { w, dialect: request.dialect, losses }.turns(rest);
    w.end_array();
}

fn leads(turn: &Turn<'_>, request: &Request<'_>) -> bool {
    turn.role == Role::System
        && (!own(request) || is_instructions(turn))
        && turn.blocks.iter().all(|block| matches!(block, Block::Text(_)))
}

fn text(w: &mut Writer<'_>, request: &Request<'_>, losses: &mut Losses) {
    let kept = own(request) && has_kept(&request.extra, "text");
    if request.format.is_none() && request.verbosity.is_none() && !kept {
        return;
    }
    w.name("text").object();
    if let Some(Param { value, at: _ }) = &request.format {
        w.name("format");
        format(w, value);
    }
    if let Some(Param { value, at }) = &request.verbosity {
        if own(request) || ["low", "medium", "high"].contains(&&**value) {
            w.name("verbosity").string(value);
        } else {
            losses.dropped(*at, "");
        }
    }
    if kept {
        write_kept(w, &request.extra, "text");
    }
    w.end_object();
}

/// The value of `text.format`.
pub fn format(w: &mut Writer<'_>, format: &Format<'_>) {
    w.object();
    match format {
        Format::Text => w.name("type").string("text"),
        Format::Json => w.name("type").string("json_object"),
        Format::Schema(Schema { name, description, schema, strict }) => {
            w.name("type").string("json_schema");
            w.name("name").string(name.as_deref().unwrap_or("response"));
            w.string_if("description", description.as_deref());
            w.name("schema").raw(schema);
            w.boolean_if("strict", *strict);
        }
    }
    w.end_object();
}

/// `reasoning`. Comes back with whether reasoning is wanted encrypted.
fn reasoning(w: &mut Writer<'_>, request: &Request<'_>, model: &str, losses: &mut Losses) -> bool {
    let kept = own(request) && has_kept(&request.extra, "reasoning");
    let (wanted, at) = match &request.reasoning {
        Some(Param { value, at }) => (value.clone(), *at),
        None => (Reasoning::default(), At::NOWHERE),
    };
    let Reasoning { enabled, effort, budget, adaptive: _, summary, encrypted } = wanted;
    // adaptive thinking is how these models think anyway
    let effort = match (effort, enabled, budget) {
        (Some(effort), ..) => {
            if budget.is_some() {
                losses.dropped(at, "budget");
            }
            Some(effort.word().to_owned())
        }
        (None, Some(false), _) => {
            let least = least_effort(model);
            if least != Some("none") && reasons(model) {
                losses.changed(at, "");
            }
            least.map(str::to_owned)
        }
        (None, _, Some(tokens)) => {
            losses.changed(at, "budget");
            Some(Effort::of_budget(tokens).word().to_owned())
        }
        (None, ..) => None,
    };
    // what is not asked for is not shown
    let mut summary = summary.filter(|word| word != "none");
    let mut effort = effort;
    if !own(request) && !reasons(model) && (effort.take().is_some() | summary.take().is_some()) {
        // such a model refuses the member
        losses.dropped(at, "");
    }
    if effort.is_some() || summary.is_some() || kept {
        w.name("reasoning").object();
        w.string_if("effort", effort.as_deref());
        w.string_if("summary", summary.as_deref());
        if kept {
            write_kept(w, &request.extra, "reasoning");
        }
        w.end_object();
    }
    encrypted || (!own(request) && reasons(model))
}

/// Whether a model may think; those that cannot refuse to be asked for encrypted reasoning. (OpenAI, "Models", 2026-08.)
fn reasons(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let talks = name.starts_with("gpt-5") && name.contains("chat");
    !talks && !["gpt-3.5", "gpt-35", "gpt-4", "chatgpt-"].iter().any(|prefix| name.starts_with(prefix))
}

/// The nearest to not thinking at all that a model takes. `None`: nothing is known of it. (OpenAI, "Reasoning models", 2026-08.)
fn least_effort(model: &str) -> Option<&'static str> {
    let name = model.rsplit('/').next().unwrap_or(model);
    match name {
        _ if !reasons(model) => None,
        _ if name.starts_with("gpt-5.") => Some("none"),
        _ if name.starts_with("gpt-5") => Some("minimal"),
        _ if ["o1", "o3", "o4"].iter().any(|prefix| name.starts_with(prefix)) => Some("low"),
        _ => None,
    }
}

fn include(w: &mut Writer<'_>, request: &Request<'_>, encrypted: bool) {
    let logprobs = matches!(request.logprobs, Some(Param { value: true, .. }));
    let others = own(request).then(|| request.extra.get("include")).flatten();
    if !encrypted && !logprobs && others.is_none() {
        return;
    }
    w.name("include").array();
    if encrypted {
        w.string(ENCRYPTED);
    }
    if logprobs {
        w.string(LOGPROBS);
    }
    let others = others.and_then(|member| Node::parse_reply(member.json.as_bytes()).ok());
    for other in others.and_then(|node| node.array().ok()).unwrap_or_default() {
        w.raw(other.raw);
    }
    w.end_array();
}

/// Everything else the request says, each carried or booked.
fn parameters(w: &mut Writer<'_>, request: &Request<'_>, losses: &mut Losses) {
    let Request {
        dialect,
        model: _,        // the provider's name for it was written
        stream: _,       // written
        stream_usage: _, // usage always comes with the end
        turns: _,        // written
        tools: _,        // written
        tool_choice: _,  // written
        format: _,       // written
        verbosity: _,    // written
        reasoning: _,    // written
        logprobs: _,     // written, in `include`
        extra: _,        // written last
        parallel_tool_calls,
        max_output,
        temperature,
        top_p,
        top_k,
        presence_penalty,
        frequency_penalty,
        seed,
        stop,
        n,
        top_logprobs,
        modalities,
        service_tier,
        user,
        metadata,
        store,
        cache_key,
        cache,
    } = request;
    let own = *dialect == Dialect::OpenAiResponses;
    w.boolean_if("parallel_tool_calls", parallel_tool_calls.as_ref().map(|p| p.value));
    if let Some(Param { value, at }) = max_output {
        if *value < LEAST_OUTPUT && !own {
            losses.changed(*at, "");
        }
        w.name("max_output_tokens").number(if own { *value } else { (*value).max(LEAST_OUTPUT) });
    }
    w.raw_if("temperature", temperature.as_ref().map(|p| &*p.value));
    w.raw_if("top_p", top_p.as_ref().map(|p| &*p.value));
    w.number_if("top_logprobs", top_logprobs.as_ref().map(|p| p.value));
    for lost in [top_k, presence_penalty, frequency_penalty, seed].into_iter().flatten() {
        losses.dropped(lost.at, "");
    }
    if let Some(Param { value, at }) = stop
        && !value.is_empty()
    {
        losses.dropped(*at, "");
    }
    if let Some(Param { value, at }) = n
        && *value > 1
    {
        losses.dropped(*at, "");
    }
    if let Some(Param { value, at }) = modalities
        && value.iter().any(|word| word != "text")
    {
        losses.dropped(*at, "");
    }
    if let Some(Param { value, at }) = service_tier {
        match (own || *dialect == Dialect::OpenAiChat, &**value) {
            (true, word) | (_, word @ ("auto" | "default" | "flex" | "priority")) => {
                w.name("service_tier").string(word);
            }
            (_, "standard" | "standard_only") => w.name("service_tier").string("default"),
            _ => losses.dropped(*at, ""),
        }
    }
    // `user` is the older name, and the one every vendor knows
    w.string_if(if own { "safety_identifier" } else { "user" }, user.as_ref().map(|p| &*p.value));
    w.raw_if("metadata", metadata.as_ref().map(|p| &*p.value));
    w.boolean_if("store", store.as_ref().map(|p| p.value).or((!own).then_some(false)));
    w.string_if("prompt_cache_key", cache_key.as_ref().map(|p| &*p.value));
    if let Some(mark) = cache {
        losses.book(mark.at, "", How::Dropped);
    }
}

fn extra(w: &mut Writer<'_>, request: &Request<'_>, losses: &mut Losses) {
    if !own(request) {
        return losses.extra(&request.extra);
    }
    for member in &request.extra.0 {
        let within = member.name.starts_with("text.") || member.name.starts_with("reasoning.");
        if !within && member.name != "include" {
            w.name(&member.name).raw(&member.json);
        }
    }
}
