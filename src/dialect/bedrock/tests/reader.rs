//! Reads a Converse request into words, as far as recorded traffic needs it: so that what was recorded can be encoded again.

use serde_json::Value;

use crate::chat::block::Native;
use crate::chat::{
    Block, Cache, CallKind, Citation, Dialect, Extra, ExtraMember, Format, Function, Issuer, Media, MediaKind, Param,
    Request, Role, Schema, Seal, ServerTool, ServerToolKind, Source, Text, Thinking, Thought, Tool, ToolCall,
    ToolChoice, ToolResult, Ttl, Turn,
};
use crate::json::At;

const AT: At = At::NOWHERE;

pub fn request(body: &Value, model: &str) -> Request<'static> {
    let mut request = Request::new(Dialect::Bedrock);
    for (name, value) in body.as_object().unwrap() {
        match name.as_str() {
            "messages" => {}
            "system" => {
                let blocks = blocks(value, Issuer::Bedrock);
                if !blocks.is_empty() {
                    request.turns.insert(0, Turn::new(Role::System, blocks));
                }
            }
            "inferenceConfig" => inference(value, &mut request),
            "toolConfig" => tools(value, &mut request),
            "outputConfig" => request.format = Some(param(format(&value["textFormat"]["structure"]["jsonSchema"]))),
            "requestMetadata" => request.metadata = Some(param(value.to_string().into())),
            "serviceTier" => request.service_tier = Some(param(text(&value["type"]).into())),
            _ => {
                request.extra.0.push(ExtraMember { name: name.clone().into(), json: value.to_string().into(), at: AT })
            }
        }
    }
    for message in body["messages"].as_array().unwrap() {
        let role = if message["role"] == "assistant" { Role::Assistant } else { Role::User };
        request.turns.push(Turn::new(role, blocks(&message["content"], Issuer::of_bedrock_model(model))));
    }
    request
}

fn inference(value: &Value, request: &mut Request<'static>) {
    let number = |name: &str| value.get(name).filter(|v| !v.is_null()).map(|v| param(v.to_string().into()));
    request.max_output = value.get("maxTokens").and_then(Value::as_u64).map(param);
    request.temperature = number("temperature");
    request.top_p = number("topP");
    request.stop = value
        .get("stopSequences")
        .and_then(Value::as_array)
        .map(|stop| param(stop.iter().map(|s| text(s).into()).collect()));
}

fn tools(value: &Value, request: &mut Request<'static>) {
    for tool in value["tools"].as_array().unwrap() {
        if let Some(spec) = tool.get("toolSpec") {
            let schema = spec["inputSchema"].get("json").filter(|json| !json.is_null());
            request.tools.push(Tool::Function(Function {
                name: text(&spec["name"]).into(),
                description: spec["description"].as_str().map(|d| d.to_owned().into()),
                kind: CallKind::Function,
                parameters: schema.map(|json| json.to_string().into()),
                strict: spec["strict"].as_bool(),
                cache: None,
                at: AT,
                extra: Extra::default(),
            }));
        } else if let Some(mark) = tool.get("cachePoint") {
            match request.tools.last_mut().unwrap() {
                Tool::Function(function) => function.cache = Some(cache(mark)),
                Tool::Server(server) => server.cache = Some(cache(mark)),
            }
        } else {
            request.tools.push(Tool::Server(ServerTool {
                kind: ServerToolKind::Other,
                name: text(&tool["systemTool"]["name"]).into(),
                allowed_domains: Vec::new(),
                blocked_domains: Vec::new(),
                max_uses: None,
                user_location: None,
                native: (Dialect::Bedrock, tool.to_string().into()),
                cache: None,
                at: AT,
                extra: Extra::default(),
            }));
        }
    }
    if let Some(choice) = value.get("toolChoice").filter(|choice| !choice.is_null()) {
        request.tool_choice = Some(param(match choice.as_object().unwrap().keys().next().unwrap().as_str() {
            "auto" => ToolChoice::Auto,
            "any" => ToolChoice::Required,
            _ => ToolChoice::Tool(text(&choice["tool"]["name"]).into()),
        }));
    }
}

fn format(schema: &Value) -> Format<'static> {
    Format::Schema(Schema {
        name: schema["name"].as_str().map(|s| s.to_owned().into()),
        description: schema["description"].as_str().map(|s| s.to_owned().into()),
        schema: text(&schema["schema"]).into(),
        strict: None,
    })
}

fn blocks(content: &Value, issuer: Issuer) -> Vec<Block<'static>> {
    let mut blocks = Vec::new();
    for block in content.as_array().unwrap() {
        let (kind, value) = block.as_object().unwrap().iter().find(|(_, value)| !value.is_null()).unwrap();
        match kind.as_str() {
            "text" => blocks.push(Block::text(text(value))),
            "image" | "document" => blocks.push(Block::Media(media(kind, value))),
            "toolUse" => blocks.push(Block::ToolCall(ToolCall {
                id: text(&value["toolUseId"]).into(),
                name: text(&value["name"]).into(),
                kind: CallKind::Function,
                arguments: value["input"].to_string().into(),
                cache: None,
                seal: None,
                item_id: None,
                at: AT,
                extra: Extra::default(),
            })),
            "toolResult" => blocks.push(Block::ToolResult(ToolResult {
                id: text(&value["toolUseId"]).into(),
                name: None,
                kind: CallKind::Function,
                blocks: self::blocks(&value["content"], issuer),
                error: value["status"].as_str().map(|status| status == "error"),
                cache: None,
                at: AT,
                extra: Extra::default(),
            })),
            "reasoningContent" => blocks.push(Block::Thinking(Thinking {
                thoughts: vec![Thought { text: text(&value["reasoningText"]["text"]).into(), summary: false }],
                seal: value["reasoningText"]["signature"].as_str().map(|s| Seal::new(issuer, s.to_owned())),
                redacted: false,
                id: None,
                at: AT,
                extra: Extra::default(),
            })),
            "citationsContent" => blocks.push(Block::Text(Text {
                citations: value["citations"].as_array().unwrap().iter().map(citation).collect(),
                ..Text::new(text(&value["content"][0]["text"]))
            })),
            "cachePoint" => match blocks.last_mut() {
                Some(Block::Text(block)) => block.cache = Some(cache(value)),
                Some(Block::ToolResult(block)) => block.cache = Some(cache(value)),
                other => panic!("a mark behind {other:?}"),
            },
            _ => blocks.push(Block::Native(Native {
                dialect: Dialect::Bedrock,
                kind: kind.clone().into(),
                json: block.to_string().into(),
                at: AT,
            })),
        }
    }
    blocks
}

fn citation(citation: &Value) -> Citation<'static> {
    Citation { native: Some((Dialect::Bedrock, citation.to_string().into())), ..Citation::default() }
}

fn media(kind: &str, value: &Value) -> Media<'static> {
    let source = &value["source"];
    let format = text(&value["format"]);
    let media_type = match format.as_str() {
        "pdf" => "application/pdf".to_owned(),
        "txt" => "text/plain".to_owned(),
        format => format!("{kind}/{format}"),
    };
    Media {
        kind: if kind == "image" { MediaKind::Image } else { MediaKind::Document },
        source: if let Some(data) = source["bytes"].as_str() {
            Source::Base64 { media_type: media_type.into(), data: data.to_owned().into() }
        } else if let Some(text) = source["text"].as_str() {
            Source::Text { media_type: media_type.into(), text: text.to_owned().into() }
        } else if let Some(uri) = source["s3Location"]["uri"].as_str() {
            Source::Url { url: uri.to_owned().into(), media_type: Some(media_type.into()) }
        } else {
            Source::Blocks(blocks(&source["content"], Issuer::Bedrock))
        },
        name: value["name"].as_str().map(|s| s.to_owned().into()),
        context: value["context"].as_str().map(|s| s.to_owned().into()),
        detail: None,
        citations: value["citations"]["enabled"].as_bool(),
        cache: None,
        seal: None,
        at: AT,
        extra: Extra::default(),
    }
}

fn cache(mark: &Value) -> Cache {
    Cache { ttl: (mark["ttl"] == "1h").then_some(Ttl::OneHour), at: AT }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn param<T>(value: T) -> Param<T> {
    Param { value, at: AT }
}
