//! Reads a request of chat into words, as far as recorded traffic needs it: so that what was recorded can be encoded again.

use serde_json::Value;

use crate::chat::{
    Block, CallKind, Dialect, Extra, ExtraMember, Format, Function, Media, MediaKind, Param, Reasoning, Request, Role,
    Schema, Source, Thinking, Thought, Tool, ToolCall, ToolChoice, ToolResult, Turn,
};
use crate::json::At;

const AT: At = At::NOWHERE;

pub fn request(body: &Value) -> Request<'static> {
    let mut request = Request::new(Dialect::Cohere);
    for (name, value) in body.as_object().unwrap() {
        let number = || param(value.to_string().into());
        match name.as_str() {
            "model" => {}
            "stream" => request.stream = value == true,
            "messages" => request.turns = value.as_array().unwrap().iter().map(turn).collect(),
            "tools" => request.tools = value.as_array().unwrap().iter().map(tool).collect(),
            "tool_choice" => {
                let choice = if value == "REQUIRED" { ToolChoice::Required } else { ToolChoice::None };
                request.tool_choice = param(choice);
            }
            "response_format" => request.format = format(value),
            "max_tokens" => request.max_output = param(value.as_u64().unwrap()),
            "temperature" => request.temperature = number(),
            "p" => request.top_p = number(),
            "seed" => request.seed = number(),
            "stop_sequences" => {
                request.stop = param(value.as_array().unwrap().iter().map(|s| text(s).into()).collect());
            }
            "thinking" => {
                let (enabled, budget) = (Some(value["type"] == "enabled"), value["token_budget"].as_u64());
                request.reasoning = param(Reasoning { enabled, budget, ..Reasoning::default() });
            }
            _ => {
                request.extra.0.push(ExtraMember { name: name.clone().into(), json: value.to_string().into(), at: AT })
            }
        }
    }
    request
}

fn turn(message: &Value) -> Turn<'static> {
    let content = blocks(&message["content"]);
    match message["role"].as_str().unwrap() {
        "system" => Turn::new(Role::System, content),
        "tool" => Turn::new(
            Role::User,
            vec![Block::ToolResult(ToolResult {
                id: text(&message["tool_call_id"]).into(),
                name: None,
                kind: CallKind::Function,
                blocks: content,
                error: None,
                cache: None,
                at: AT,
                extra: Extra::default(),
            })],
        ),
        "user" => Turn::new(Role::User, content),
        _ => {
            let plan = message["tool_plan"].as_str().map(thought);
            let calls = message["tool_calls"].as_array().into_iter().flatten().map(call);
            Turn::new(Role::Assistant, plan.into_iter().chain(content).chain(calls).collect())
        }
    }
}

fn blocks(content: &Value) -> Vec<Block<'static>> {
    match content {
        Value::String(text) => vec![Block::text(text.clone())],
        Value::Array(items) => items.iter().map(block).collect(),
        _ => Vec::new(),
    }
}

fn block(item: &Value) -> Block<'static> {
    match item["type"].as_str() {
        Some("image_url") => Block::Media(Media {
            kind: MediaKind::Image,
            source: Source::from_url(text(&item["image_url"]["url"]).into()),
            name: None,
            context: None,
            detail: item["image_url"]["detail"].as_str().map(|detail| detail.to_owned().into()),
            citations: None,
            cache: None,
            seal: None,
            at: AT,
            extra: Extra::default(),
        }),
        Some("thinking") => thought(item["thinking"].as_str().unwrap()),
        _ => Block::text(text(&item["text"])),
    }
}

fn thought(text: &str) -> Block<'static> {
    Block::Thinking(Thinking {
        thoughts: vec![Thought { text: text.to_owned().into(), summary: false }],
        seal: None,
        redacted: false,
        id: None,
        at: AT,
        extra: Extra::default(),
    })
}

fn call(call: &Value) -> Block<'static> {
    Block::ToolCall(ToolCall {
        id: text(&call["id"]).into(),
        name: text(&call["function"]["name"]).into(),
        kind: CallKind::Function,
        arguments: text(&call["function"]["arguments"]).into(),
        cache: None,
        seal: None,
        item_id: None,
        at: AT,
        extra: Extra::default(),
    })
}

fn tool(tool: &Value) -> Tool<'static> {
    let function = &tool["function"];
    Tool::Function(Function {
        name: text(&function["name"]).into(),
        description: function["description"].as_str().map(|d| d.to_owned().into()),
        kind: CallKind::Function,
        parameters: function.get("parameters").map(|parameters| parameters.to_string().into()),
        strict: None,
        cache: None,
        at: AT,
        extra: Extra::default(),
    })
}

fn format(value: &Value) -> Option<Param<Format<'static>>> {
    param(match (value["type"].as_str(), value.get("json_schema")) {
        (Some("text"), _) => Format::Text,
        (_, None) => Format::Json,
        (_, Some(schema)) => {
            let schema = schema.to_string().into();
            Format::Schema(Schema { name: None, description: None, schema, strict: None })
        }
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn param<T>(value: T) -> Option<Param<T>> {
    Some(Param { value, at: AT })
}
