//! Words as requests: what is carried, what is changed, what is booked.

use serde_json::{Value, json};

use super::{MODEL, booked, encode};
use crate::chat::{
    Block, CallKind, Dialect, Effort, Extra, Format, Function, Issuer, Media, MediaKind, Param, Reasoning, Request,
    Role, Schema, Seal, Source, Thinking, Thought, Tool, ToolCall, ToolChoice, ToolResult, Turn,
};
use crate::json::At;

const AT: At = At::NOWHERE;

fn asked(turns: Vec<Turn<'static>>) -> Request<'static> {
    Request { turns, ..Request::new(Dialect::OpenAiChat) }
}

fn user(blocks: Vec<Block<'static>>) -> Turn<'static> {
    Turn::new(Role::User, blocks)
}

fn param<T>(value: T) -> Option<Param<T>> {
    Some(Param { value, at: AT })
}

fn media(kind: MediaKind, source: Source<'static>) -> Block<'static> {
    Block::Media(Media {
        kind,
        source,
        name: (kind == MediaKind::Document).then_some("a.txt".into()),
        context: None,
        detail: None,
        citations: None,
        cache: None,
        seal: None,
        at: AT,
        extra: Extra::default(),
    })
}

fn thinking(seal: Option<Seal<'static>>) -> Block<'static> {
    let thoughts = vec![Thought { text: "hm".into(), summary: false }];
    Block::Thinking(Thinking { thoughts, seal, redacted: false, id: None, at: AT, extra: Extra::default() })
}

fn call(arguments: &'static str) -> Block<'static> {
    Block::ToolCall(ToolCall {
        id: "1".into(),
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

fn result(blocks: Vec<Block<'static>>) -> Block<'static> {
    Block::ToolResult(ToolResult {
        id: "1".into(),
        name: None,
        kind: CallKind::Function,
        blocks,
        error: None,
        cache: None,
        at: AT,
        extra: Extra::default(),
    })
}

fn function(name: &'static str, strict: Option<bool>) -> Tool<'static> {
    Tool::Function(Function {
        name: name.into(),
        description: None,
        kind: CallKind::Function,
        parameters: None,
        strict,
        cache: None,
        at: AT,
        extra: Extra::default(),
    })
}

#[test]
fn results_are_messages_of_their_own_right_behind_the_calls() {
    let text = Source::Text { media_type: "text/plain".into(), text: "doc".into() };
    let image = Source::Base64 { media_type: "image/png".into(), data: "YWJj".into() };
    let turns = vec![
        Turn::new(Role::Developer, vec![Block::text("be brief")]),
        user(vec![Block::text("q")]),
        Turn::new(Role::Assistant, vec![thinking(None), call("")]),
        user(vec![
            Block::text("and"),
            result(vec![Block::text("x"), media(MediaKind::Document, text), media(MediaKind::Image, image)]),
        ]),
    ];
    let (body, losses) = encode(&asked(turns), MODEL);
    assert_eq!(
        body["messages"],
        json!([
            {"role":"system","content":"be brief"},
            {"role":"user","content":"q"},
            {"role":"assistant","tool_plan":"hm","tool_calls":[
                {"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"1","content":[
                {"type":"text","text":"x"},
                {"type":"document","document":{"data":{"title":"a.txt","text":"doc"}}},
                {"type":"text","text":"[image omitted]"}]},
            {"role":"user","content":"and"},
        ])
    );
    assert_eq!(booked(&losses), ["dropped", "changed"]);
}

#[test]
fn thoughts_of_others_are_left_out() {
    let turn = |seal| {
        let turns = vec![Turn::new(Role::Assistant, vec![thinking(seal), Block::text("a")])];
        let (body, losses) = encode(&asked(turns), MODEL);
        (body["messages"][0]["content"].clone(), booked(&losses))
    };
    let own = json!([{"type":"thinking","thinking":"hm"},{"type":"text","text":"a"}]);
    assert_eq!(turn(None), (own, vec![]));
    assert_eq!(turn(Some(Seal::new(Issuer::Anthropic, "s"))), (json!("a"), vec!["dropped".to_owned()]));
}

#[test]
fn documents_stand_beside_the_messages() {
    let base64 = |media_type: &'static str| Source::Base64 { media_type: media_type.into(), data: "YWJj".into() };
    let image = media(MediaKind::Image, base64("image/png"));
    let (body, losses) = encode(
        &asked(vec![user(vec![Block::text("q"), media(MediaKind::Document, base64("text/plain")), image])]),
        MODEL,
    );
    assert_eq!(body["documents"], json!([{"id":"doc:0","data":{"title":"a.txt","text":"abc"}}]));
    let url = json!({"type":"image_url","image_url":{"url":"data:image/png;base64,YWJj"}});
    assert_eq!(body["messages"][0]["content"], json!([{"type":"text","text":"q"}, url]));
    assert_eq!(booked(&losses), ["changed"]);
    for block in [
        media(MediaKind::Document, base64("application/pdf")),
        media(MediaKind::Audio, base64("audio/wav")),
        media(MediaKind::Image, Source::Url { url: "gs://b/x.png".into(), media_type: None }),
    ] {
        let (_, losses) = encode(&asked(vec![user(vec![Block::text("q"), block])]), MODEL);
        assert_eq!(booked(&losses), ["essential"]);
    }
}

#[test]
fn one_tool_of_several_is_asked_for_by_showing_no_other() {
    let mut request = asked(vec![user(vec![Block::text("q")])]);
    request.tools = vec![function("f", Some(true)), function("g", None)];
    let with = |choice| {
        let (body, losses) = encode(&Request { tool_choice: param(choice), ..request.clone() }, MODEL);
        (body["tools"].as_array().map_or(0, Vec::len), body["tool_choice"].clone(), booked(&losses))
    };
    assert_eq!(with(ToolChoice::Auto), (2, Value::Null, vec!["dropped strict".to_owned()]));
    assert_eq!(with(ToolChoice::Required).1, "REQUIRED");
    assert_eq!(with(ToolChoice::None).1, "NONE");
    assert_eq!(with(ToolChoice::Tool("f".into())), (1, json!("REQUIRED"), vec!["changed".to_owned()]));
    let (body, _) = encode(&Request { tool_choice: param(ToolChoice::Tool("f".into())), ..request.clone() }, MODEL);
    assert_eq!(body["strict_tools"], true);
    let parameters = json!({"type":"object","properties":{}});
    assert_eq!(body["tools"][0]["function"], json!({"name":"f","parameters":parameters}));
}

#[test]
fn a_schema_is_not_asked_for_beside_tools() {
    let schema =
        Schema { name: Some("n".into()), description: None, schema: r#"{"type":"object"}"#.into(), strict: Some(true) };
    let mut request = asked(vec![user(vec![Block::text("q")])]);
    request.format = param(Format::Schema(schema));
    let (body, losses) = encode(&request, MODEL);
    assert_eq!(body["response_format"], json!({"type":"json_object","json_schema":{"type":"object"}}));
    assert!(losses.is_empty());
    request.tools = vec![function("f", None)];
    let (body, losses) = encode(&request, MODEL);
    assert_eq!((body.get("response_format"), booked(&losses)), (None, vec!["dropped".to_owned()]));
}

#[test]
fn parameters_are_carried_clamped_or_booked() {
    let mut request = asked(vec![user(vec![Block::text("q")])]);
    request.temperature = param("0.70".into());
    request.top_p = param("1".into());
    request.top_k = param("40".into());
    request.presence_penalty = param("0.5".into());
    request.seed = param("7".into());
    request.max_output = param(9);
    request.logprobs = param(true);
    request.stop = param(vec!["a".into(), "".into()]);
    let (body, losses) = encode(&request, MODEL);
    assert_eq!(
        body,
        json!({"model":MODEL,"stream":false,"messages":[{"role":"user","content":"q"}],"temperature":0.7,"p":0.99,
            "k":40,"presence_penalty":0.5,"seed":7,"max_tokens":9,"logprobs":true,"stop_sequences":["a"]})
    );
    assert_eq!(booked(&losses), ["dropped"]);
    request.stop = None;
    request.temperature = param("1.5".into());
    request.frequency_penalty = param("-1".into());
    let (body, losses) = encode(&request, MODEL);
    assert_eq!((&body["temperature"], &body["frequency_penalty"]), (&json!(1), &json!(0)));
    assert_eq!(booked(&losses), ["changed"]);
    for (reasoning, thinking) in [
        (Reasoning { enabled: Some(false), ..Reasoning::default() }, json!({"type":"disabled"})),
        (
            Reasoning { effort: Some(Effort::Low), ..Reasoning::default() },
            json!({"type":"enabled","token_budget":1024}),
        ),
        (
            Reasoning { enabled: Some(true), budget: Some(50), ..Reasoning::default() },
            json!({"type":"enabled","token_budget":50}),
        ),
        (Reasoning { summary: Some("auto".into()), ..Reasoning::default() }, Value::Null),
    ] {
        let request = Request { reasoning: param(reasoning), ..asked(vec![user(vec![Block::text("q")])]) };
        assert_eq!(encode(&request, MODEL).0["thinking"], thinking);
    }
}
