//! Words as requests: what is carried, what is changed, what is booked.

use serde_json::{Value, json};

use super::{CLAUDE, NOVA, booked, encode};
use crate::chat::block::Native;
use crate::chat::{
    Block, Cache, CallKind, Dialect, Effort, Extra, Format, Function, Issuer, Media, MediaKind, Param, Reasoning,
    Request, Role, Seal, Source, Text, Thinking, Thought, Tool, ToolCall, ToolChoice, ToolResult, Ttl, Turn,
};
use crate::json::At;

const AT: At = At::NOWHERE;

fn asked(turns: Vec<Turn<'static>>) -> Request<'static> {
    Request { turns, ..Request::new(Dialect::OpenAiChat) }
}

fn user(blocks: Vec<Block<'static>>) -> Turn<'static> {
    Turn::new(Role::User, blocks)
}

fn assistant(blocks: Vec<Block<'static>>) -> Turn<'static> {
    Turn::new(Role::Assistant, blocks)
}

fn hi() -> Vec<Turn<'static>> {
    vec![user(vec![Block::text("hi")])]
}

fn param<T>(value: T) -> Option<Param<T>> {
    Some(Param { value, at: AT })
}

fn mark(ttl: Option<Ttl>) -> Option<Cache> {
    Some(Cache { ttl, at: AT })
}

fn call(id: &'static str, arguments: &'static str) -> Block<'static> {
    Block::ToolCall(ToolCall {
        id: id.into(),
        name: "f".into(),
        kind: CallKind::Function,
        arguments: arguments.into(),
        cache: None,
        seal: None,
        item_id: None,
        at: AT,
        extra: Extra::default(),
    })
}

fn result(id: &'static str, blocks: Vec<Block<'static>>) -> Block<'static> {
    Block::ToolResult(ToolResult {
        id: id.into(),
        name: None,
        kind: CallKind::Function,
        blocks,
        error: None,
        cache: None,
        at: AT,
        extra: Extra::default(),
    })
}

fn media(kind: MediaKind, source: Source<'static>, name: Option<&'static str>) -> Block<'static> {
    Block::Media(Media {
        kind,
        source,
        name: name.map(Into::into),
        context: None,
        detail: None,
        citations: None,
        cache: None,
        seal: None,
        at: AT,
        extra: Extra::default(),
    })
}

fn base64(media_type: &'static str) -> Source<'static> {
    Source::Base64 { media_type: media_type.into(), data: "YWJj".into() }
}

fn thinking(seal: Option<Seal<'static>>, redacted: bool) -> Block<'static> {
    let thoughts = if redacted { Vec::new() } else { vec![Thought { text: "hm".into(), summary: false }] };
    Block::Thinking(Thinking { thoughts, seal, redacted, id: None, at: AT, extra: Extra::default() })
}

fn function(name: &'static str, parameters: Option<&'static str>) -> Tool<'static> {
    Tool::Function(Function {
        name: name.into(),
        description: None,
        kind: CallKind::Function,
        parameters: parameters.map(Into::into),
        strict: None,
        cache: None,
        at: AT,
        extra: Extra::default(),
    })
}

/// The messages, and what was booked.
fn messages(turns: Vec<Turn<'static>>, model: &str) -> (Value, Vec<String>) {
    let (body, losses) = encode(&asked(turns), model);
    (body["messages"].clone(), booked(&losses))
}

#[test]
fn roles_take_turns_and_the_user_begins() {
    let (messages, booked) = messages(
        vec![
            assistant(vec![Block::text("a")]),
            user(vec![Block::text("b"), Block::text("")]),
            user(vec![Block::text("c")]),
        ],
        CLAUDE,
    );
    assert_eq!(messages[0]["role"], "user");
    assert_eq!(messages[1], json!({"role":"assistant","content":[{"text":"a"}]}));
    assert_eq!(messages[2], json!({"role":"user","content":[{"text":"b"},{"text":"c"}]}));
    assert_eq!(booked, ["changed"]);
}

#[test]
fn a_system_text_keeps_its_place() {
    let system = |text: &'static str| Turn::new(Role::Developer, vec![Block::text(text)]);
    let turns = vec![system("front"), user(vec![Block::text("a")]), assistant(vec![Block::text("b")]), system("mid")];
    let (body, losses) = encode(&asked(turns), CLAUDE);
    assert_eq!(body["system"], json!([{"text":"front"}]));
    assert_eq!(body["messages"][2], json!({"role":"user","content":[{"text":"<system>mid</system>"}]}));
    assert_eq!(booked(&losses), ["changed role"]);
    let (body, _) = encode(&asked(vec![system("alone")]), CLAUDE);
    assert_eq!(body, json!({"messages":[{"role":"user","content":[{"text":"alone"}]}]}));
}

#[test]
fn results_come_first_in_their_message_and_bring_a_tool() {
    let turns = vec![
        user(vec![Block::text("q")]),
        assistant(vec![call("a/b", r#"{"x": 1.50}"#), call("b", ""), call("c", "{\"x\":")]),
        user(vec![Block::text("and"), result("a/b", vec![Block::text("1")]), result("b", vec![])]),
        user(vec![result("c", vec![media(MediaKind::Audio, base64("audio/wav"), None)])]),
    ];
    let (body, losses) = encode(&asked(turns), CLAUDE);
    let calls = &body["messages"][1]["content"];
    assert_eq!(calls[0]["toolUse"]["input"].to_string(), r#"{"x":1.5}"#);
    assert_eq!(calls[1]["toolUse"], json!({"toolUseId":"b","name":"f","input":{}}));
    assert_eq!(calls[2]["toolUse"]["input"], json!({"INVALID_JSON":"{\"x\":"}));
    let answers = &body["messages"][2]["content"];
    assert_eq!(answers[0]["toolResult"]["toolUseId"], calls[0]["toolUse"]["toolUseId"]);
    assert_ne!(calls[0]["toolUse"]["toolUseId"], "ab");
    assert_eq!(answers[1]["toolResult"]["content"], json!([{"text":"(no output)"}]));
    assert_eq!(answers[2]["toolResult"]["content"], json!([{"text":"[audio omitted]"}]));
    assert_eq!(answers[3], json!({"text":"and"}));
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
    for loss in ["changed tools", "changed id", "changed arguments", "changed content", "dropped", "changed"] {
        assert!(booked(&losses).contains(&loss.to_owned()), "{loss} {losses:?}");
    }
}

#[test]
fn thoughts_go_back_only_to_whom_they_came_from() {
    let think = |issuer, redacted| thinking(Some(Seal::new(issuer, "EmwKAhgB")), redacted);
    let of = |block: Block<'static>, model: &str| {
        let (messages, booked) = messages(
            vec![user(vec![Block::text("q")]), assistant(vec![block, Block::text("a")]), user(vec![Block::text("r")])],
            model,
        );
        (messages[1]["content"][0].clone(), booked)
    };
    assert_eq!(
        of(think(Issuer::Anthropic, false), CLAUDE).0,
        json!({"reasoningContent":{"reasoningText":{"text":"hm","signature":"EmwKAhgB"}}})
    );
    assert_eq!(
        of(think(Issuer::Anthropic, true), CLAUDE).0,
        json!({"reasoningContent":{"redactedContent":"RW13S0FoZ0I="}})
    );
    for (block, model) in [
        (think(Issuer::OpenAi, false), CLAUDE),
        (think(Issuer::Anthropic, false), NOVA),
        (thinking(None, false), CLAUDE),
    ] {
        assert_eq!(of(block, model), (json!({"text":"a"}), vec!["dropped".to_owned()]));
    }
}

#[test]
fn documents_have_names_of_their_own_and_a_text_beside() {
    let text = Source::Text { media_type: "text/plain".into(), text: "abc".into() };
    let (messages, booked) = messages(
        vec![user(vec![
            media(MediaKind::Document, base64("application/pdf"), None),
            media(MediaKind::Document, base64("text/csv"), Some("my report_v1.0.csv")),
            media(MediaKind::Document, text, Some("my report-v1-0-csv")),
            media(MediaKind::Image, base64("image/png"), None),
        ])],
        CLAUDE,
    );
    let content = &messages[0]["content"];
    assert_eq!(content[0]["document"], json!({"format":"pdf","name":"document-1","source":{"bytes":"YWJj"}}));
    assert_eq!(content[1]["document"]["name"], "my report-v1-0-csv");
    assert_eq!(
        content[2]["document"],
        json!({"format":"txt","name":"my report-v1-0-csv (2)","source":{"bytes":"YWJj"}})
    );
    assert_eq!(content[3]["image"], json!({"format":"png","source":{"bytes":"YWJj"}}));
    assert_eq!(content[4], json!({"text":"(see document)"}));
    assert_eq!(booked, ["changed name", "changed"]);
}

#[test]
fn what_the_model_cannot_see_is_essential() {
    let url = |url: &'static str| Source::Url { url: url.into(), media_type: None };
    let file = Source::File { id: "file-1".into(), dialect: Dialect::OpenAiChat, media_type: None };
    for source in [url("https://a.test/x.png"), file, base64("image/tiff"), url("s3://b/x.png")] {
        let (_, booked) = messages(vec![user(vec![Block::text("q"), media(MediaKind::Image, source, None)])], CLAUDE);
        assert_eq!(booked, ["essential"]);
    }
    let (messages, booked) =
        messages(vec![user(vec![media(MediaKind::Video, url("s3://bucket/key/film.mp4"), None)])], NOVA);
    let film = json!({"format":"mp4","source":{"s3Location":{"uri":"s3://bucket/key/film.mp4"}}});
    assert_eq!((messages[0]["content"][0]["video"].clone(), booked.len()), (film, 0));
}

#[test]
fn cache_marks_stand_behind_what_they_mark() {
    let text = |ttl| Block::Text(Text { cache: mark(ttl), ..Text::new("t") });
    let Block::Media(document) = media(MediaKind::Document, base64("application/pdf"), None) else { return };
    let document = Block::Media(Media { cache: mark(None), ..document });
    let mut request = asked(vec![
        Turn::new(Role::System, vec![text(Some(Ttl::OneHour))]),
        user(vec![text(None), document, Block::text("q")]),
    ]);
    let Tool::Function(tool) = function("f", None) else { return };
    request.tools = vec![Tool::Function(Function { cache: mark(None), ..tool })];
    request.cache = mark(None);
    let point = json!({"cachePoint":{"type":"default"}});
    let (body, losses) = encode(&request, CLAUDE);
    assert_eq!(body["system"], json!([{"text":"t"},{"cachePoint":{"type":"default","ttl":"1h"}}]));
    let content = &body["messages"][0]["content"];
    assert_eq!((&content[1], &content[3], &content[4], &content[6]), (&point, &json!({"text":"\n"}), &point, &point));
    assert_eq!(body["toolConfig"]["tools"][1], point);
    assert!(losses.is_empty(), "{losses:?}");
    let (body, losses) = encode(&request, NOVA);
    assert_eq!(body["system"][1], point);
    assert_eq!(booked(&losses), ["changed ttl", "dropped"]);
    let (body, losses) = encode(&request, "meta.llama3-70b-instruct-v1:0");
    assert!(!body.to_string().contains("cachePoint") && !losses.is_empty());
}

#[test]
fn tools_and_choices_are_said_in_converses_words() {
    let mut request = asked(hi());
    request.tools = vec![function("a", Some(r#"{"properties":{"x":{}}}"#)), function("b", Some("{}"))];
    let with = |choice, model: &str, request: &Request<'static>| {
        let request = Request { tool_choice: param(choice), ..request.clone() };
        let (body, losses) = encode(&request, model);
        (body["toolConfig"].clone(), booked(&losses))
    };
    let (config, _) = with(ToolChoice::Required, CLAUDE, &request);
    let schema = json!({"json":{"type":"object","properties":{"x":{}}}});
    assert_eq!(config["tools"][0]["toolSpec"], json!({"name":"a","inputSchema":schema}));
    assert_eq!(config["tools"][1]["toolSpec"]["inputSchema"], json!({"json":{"type":"object","properties":{}}}));
    assert_eq!(config["toolChoice"], json!({"any":{}}));
    let (config, _) = with(ToolChoice::Tool("a".into()), CLAUDE, &request);
    assert_eq!(config["toolChoice"], json!({"tool":{"name":"a"}}));
    assert_eq!(with(ToolChoice::None, CLAUDE, &request), (Value::Null, vec![]));
    let only = ToolChoice::Allowed { names: vec!["b".into()], required: true };
    let (config, lost) = with(only, CLAUDE, &request);
    assert_eq!((config["tools"].as_array().unwrap().len(), &config["toolChoice"]), (1, &json!({"any":{}})));
    assert_eq!(lost, ["changed"]);
    let (config, lost) = with(ToolChoice::Required, "meta.llama3-70b-instruct-v1:0", &request);
    assert_eq!((config.get("toolChoice"), lost), (None, vec!["dropped".to_owned()]));
    request.turns.extend([assistant(vec![call("1", "{}")]), user(vec![result("1", vec![Block::text("x")])])]);
    let (config, lost) = with(ToolChoice::None, CLAUDE, &request);
    assert!(config["tools"].is_array() && config.get("toolChoice").is_none());
    assert_eq!(lost, ["changed"]);
}

#[test]
fn each_vendor_is_told_to_think_in_its_own_words() {
    let effort = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    let budget = |budget| Reasoning { enabled: Some(true), budget: Some(budget), ..Reasoning::default() };
    let off = Reasoning { enabled: Some(false), ..Reasoning::default() };
    let fields = |reasoning: &Reasoning<'static>, model: &str| {
        let request = Request { reasoning: param(reasoning.clone()), max_output: param(4_000), ..asked(hi()) };
        let (body, losses) = encode(&request, model);
        (body["additionalModelRequestFields"].clone(), booked(&losses))
    };
    let (old, new, newest) = (CLAUDE, "anthropic.claude-sonnet-4-6", "us.anthropic.claude-sonnet-5");
    for (reasoning, model, expected, lost) in [
        (budget(2_000), old, json!({"thinking":{"type":"enabled","budget_tokens":2000}}), vec![]),
        (
            budget(9_000),
            old,
            json!({"thinking":{"type":"enabled","budget_tokens":3999}}),
            vec!["changed budget_tokens"],
        ),
        (effort(Effort::Low), old, json!({"thinking":{"type":"enabled","budget_tokens":1024}}), vec![]),
        (off.clone(), old, json!({"thinking":{"type":"disabled"}}), vec![]),
        (effort(Effort::High), new, json!({"thinking":{"type":"adaptive"},"output_config":{"effort":"high"}}), vec![]),
        (budget(2_000), new, json!({"thinking":{"type":"enabled","budget_tokens":2000}}), vec![]),
        (
            budget(2_000),
            newest,
            json!({"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}}),
            vec!["changed"],
        ),
        (
            effort(Effort::XHigh),
            newest,
            json!({"thinking":{"type":"adaptive"},"output_config":{"effort":"xhigh"}}),
            vec![],
        ),
        (
            effort(Effort::Medium),
            NOVA,
            json!({"reasoningConfig":{"type":"enabled","maxReasoningEffort":"medium"}}),
            vec![],
        ),
        (effort(Effort::High), "openai.gpt-oss-120b-1:0", json!({"reasoning_effort":"high"}), vec![]),
        (effort(Effort::High), "meta.llama3-70b-instruct-v1:0", Value::Null, vec!["dropped"]),
        (effort(Effort::High), "anthropic.claude-3-5-sonnet-20241022-v2:0", Value::Null, vec!["dropped"]),
        (off, "meta.llama3-70b-instruct-v1:0", Value::Null, vec![]),
    ] {
        let (fields, booked) = fields(&reasoning, model);
        assert_eq!(
            (&fields, booked),
            (&expected, lost.iter().map(|l| l.to_string()).collect()),
            "{model} {reasoning:?}"
        );
    }
}

#[test]
fn claude_is_not_asked_to_think_where_it_would_refuse() {
    let reasoning = param(Reasoning { effort: Some(Effort::High), ..Reasoning::default() });
    let mut request = Request { reasoning, tools: vec![function("f", None)], ..asked(hi()) };
    request.temperature = param("0.7".into());
    request.top_k = param("5".into());
    let (body, losses) = encode(&request, CLAUDE);
    assert!(body.get("inferenceConfig").is_none());
    assert_eq!(body["additionalModelRequestFields"]["thinking"]["type"], "enabled");
    assert_eq!(booked(&losses), ["dropped"]);
    request.tool_choice = param(ToolChoice::Required);
    let (body, _) = encode(&request, CLAUDE);
    assert_eq!(body["additionalModelRequestFields"], json!({"top_k":5}));
    assert_eq!(body["inferenceConfig"], json!({"temperature":0.7}));
    request.tool_choice = None;
    request.turns.extend([assistant(vec![call("1", "{}")]), user(vec![result("1", vec![Block::text("x")])])]);
    let (body, _) = encode(&request, CLAUDE);
    assert_eq!(body["additionalModelRequestFields"], json!({"top_k":5}));
    // who finds its own budget does not insist on its former thoughts
    let (body, _) = encode(&request, "us.anthropic.claude-sonnet-5");
    assert_eq!(body["additionalModelRequestFields"]["thinking"], json!({"type":"adaptive"}));
}

#[test]
fn parameters_are_carried_clamped_or_booked() {
    let mut request = asked(hi());
    request.max_output = param(10);
    request.temperature = param("1.5".into());
    request.top_p = param("0.70".into());
    request.top_k = param("7".into());
    request.stop = param(vec!["END".into(), "\n\n".into()]);
    request.service_tier = param("priority".into());
    request.metadata = param(r#"{"team":"a b","bad":"ü"}"#.into());
    request.format = param(Format::Schema(crate::chat::Schema {
        name: Some("n".into()),
        description: None,
        schema: r#"{"type": "object"}"#.into(),
        strict: Some(true),
    }));
    request.seed = param("1".into());
    request.n = param(2);
    request.user = param("u".into());
    let (body, losses) = encode(&request, CLAUDE);
    assert_eq!(body["inferenceConfig"], json!({"maxTokens":10,"temperature":1,"topP":0.7,"stopSequences":["END"]}));
    assert_eq!(body["additionalModelRequestFields"], json!({"top_k":7}));
    assert_eq!(body["additionalModelResponseFieldPaths"], json!(["/stop_sequence"]));
    assert_eq!(body["serviceTier"], json!({"type":"priority"}));
    assert_eq!(body["requestMetadata"], json!({"team":"a b"}));
    let schema = json!({"schema":r#"{"type": "object"}"#,"name":"n"});
    assert_eq!(body["outputConfig"], json!({"textFormat":{"type":"json_schema","structure":{"jsonSchema":schema}}}));
    // at the same place a loss is kept once: the clamp, the drops
    assert_eq!(booked(&losses), ["changed", "dropped"]);
    let (body, _) = encode(&request, NOVA);
    assert_eq!(body["additionalModelRequestFields"], json!({"inferenceConfig":{"topK":7}}));
    assert_eq!(body["inferenceConfig"]["stopSequences"], json!(["END", "\n\n"]));
}

#[test]
fn a_search_result_of_anthropics_is_one_of_claudes_here_too() {
    let found = |json: &'static str| {
        Block::Native(Native { dialect: Dialect::Anthropic, kind: "search_result".into(), json: json.into(), at: AT })
    };
    let block = found(
        r#"{"type":"search_result","source":"https://a.test","title":"T","content":[{"type":"text","text":"x"}],"citations":{"enabled":true}}"#,
    );
    let (messages, booked) = messages(vec![user(vec![block, Block::text("q")])], CLAUDE);
    assert_eq!(
        messages[0]["content"][0]["searchResult"],
        json!({"source":"https://a.test","title":"T","content":[{"text":"x"}],"citations":{"enabled":true}})
    );
    assert!(booked.is_empty());
}
