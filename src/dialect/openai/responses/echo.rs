//! What an answer repeats of its request: every member of the official `response` object that does not speak of the answer itself.

use super::decode_request::{has_kept, is_instructions, write_kept};
use super::{encode_request, tools};
use crate::chat::{Block, Dialect, Losses, Request, Tool};
use crate::json::{Node, Writer};

/// The members, separated by commas: in the request's words, with the API's defaults where it has none.
pub fn members(request: &Request<'_>) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object();
    write(&mut w, request);
    w.end_object();
    let text = String::from_utf8(out).unwrap_or_default();
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default().to_owned()
}

/// Of a request that said nothing.
pub fn defaults() -> String {
    members(&Request::new(Dialect::OpenAiResponses))
}

fn write(w: &mut Writer<'_>, request: &Request<'_>) {
    let kept = |name: &str| request.extra.get(name).map(|member| &*member.json);
    let raw_or = |w: &mut Writer<'_>, name: &str, json: Option<&str>, default: &str| {
        w.name(name).raw(json.unwrap_or(default));
    };
    let flag = |value: bool| if value { "true" } else { "false" };
    raw_or(w, "background", kept("background"), "false");
    instructions(w, request);
    raw_or(w, "max_output_tokens", request.max_output.as_ref().map(|p| p.value.to_string()).as_deref(), "null");
    raw_or(w, "max_tool_calls", kept("max_tool_calls"), "null");
    let metadata = request.metadata.as_ref().map(|p| &*p.value);
    raw_or(w, "metadata", metadata.filter(|json| of_strings(json)), "{}");
    let parallel = request.parallel_tool_calls.as_ref().is_none_or(|p| p.value);
    raw_or(w, "parallel_tool_calls", None, flag(parallel));
    raw_or(w, "previous_response_id", kept("previous_response_id").filter(|json| json.starts_with('"')), "null");
    string_or_null(w, "prompt_cache_key", request.cache_key.as_ref().map(|p| &*p.value));
    reasoning(w, request);
    string_or_null(w, "safety_identifier", request.user.as_ref().map(|p| &*p.value));
    raw_or(w, "store", None, flag(request.store.as_ref().is_none_or(|p| p.value)));
    raw_or(w, "temperature", request.temperature.as_ref().map(|p| &*p.value), "1.0");
    text(w, request);
    choice(w, request);
    list(w, request);
    raw_or(w, "top_logprobs", request.top_logprobs.as_ref().map(|p| p.value.to_string()).as_deref(), "0");
    raw_or(w, "top_p", request.top_p.as_ref().map(|p| &*p.value), "1.0");
    let truncation = kept("truncation").filter(|word| [r#""auto""#, r#""disabled""#].contains(word));
    raw_or(w, "truncation", truncation, r#""disabled""#);
    raw_or(w, "user", kept("user").filter(|json| json.starts_with('"')), "null");
}

fn string_or_null(w: &mut Writer<'_>, name: &str, text: Option<&str>) {
    match text {
        Some(text) => w.name(name).string(text),
        None => w.name(name).null(),
    }
}

fn instructions(w: &mut Writer<'_>, request: &Request<'_>) {
    let first = request.turns.first().filter(|turn| is_instructions(turn)).and_then(|turn| turn.blocks.first());
    let text = match first {
        Some(Block::Text(text)) => Some(&*text.text),
        _ => None,
    };
    string_or_null(w, "instructions", text);
}

fn of_strings(json: &str) -> bool {
    let node = Node::parse_reply(json.as_bytes());
    node.is_ok_and(|node| node.as_object().is_some_and(|o| o.iter().all(|(_, value)| value.as_str().is_some())))
}

fn reasoning(w: &mut Writer<'_>, request: &Request<'_>) {
    let asked = request.reasoning.as_ref().map(|p| &p.value);
    w.name("reasoning").object();
    string_or_null(w, "effort", asked.and_then(|r| r.effort.as_ref()).map(|effort| effort.word()));
    string_or_null(w, "summary", asked.and_then(|r| r.summary.as_deref()));
    if has_kept(&request.extra, "reasoning") {
        write_kept(w, &request.extra, "reasoning");
    }
    w.end_object();
}

fn text(w: &mut Writer<'_>, request: &Request<'_>) {
    w.name("text").object();
    match &request.format {
        Some(format) => encode_request::format(w.name("format"), &format.value),
        None if request.extra.get("text.format").is_some() => {}
        None => w.name("format").raw(r#"{"type":"text"}"#),
    }
    w.name("verbosity").string(request.verbosity.as_ref().map_or("medium", |p| &*p.value));
    write_kept(w, &request.extra, "text");
    w.end_object();
}

fn choice(w: &mut Writer<'_>, request: &Request<'_>) {
    w.name("tool_choice");
    match (&request.tool_choice, request.extra.get("tool_choice")) {
        (Some(choice), _) => tools::choice_value(w, request, &choice.value),
        (None, Some(member)) => w.raw(&member.json),
        (None, None) => w.string("auto"),
    }
}

fn list(w: &mut Writer<'_>, request: &Request<'_>) {
    w.name("tools").array();
    for tool in &request.tools {
        match tool {
            Tool::Function(tool) => tools::function(w, tool, request.dialect, &mut Losses::default()),
            Tool::Server(tool) => w.raw(&tool.native.1),
        }
    }
    w.end_array();
}
