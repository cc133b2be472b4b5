//! Requests and answers in the words of other dialects.

use serde_json::{Value, json};

use super::{json, manners, reply_to};
use crate::chat::block::{Refusal, ServerCall, ServerResult};
use crate::chat::*;
use crate::dialect::codec::{Inbound, Outbound, StreamForm, To};
use crate::dialect::gemini::Gemini;
use crate::json::{At, Node};

const THIRD: &str = "gemini-3-flash-preview";
const SECOND: &str = "gemini-2.5-flash";

fn asked(turns: Vec<Turn<'static>>) -> Request<'static> {
    Request { turns, ..Request::new(Dialect::OpenAiChat) }
}

fn user(text: &'static str) -> Turn<'static> {
    Turn::new(Role::User, vec![Block::text(text)])
}

fn call(id: &'static str, name: &'static str, arguments: &'static str) -> Block<'static> {
    Block::ToolCall(ToolCall {
        id: id.into(),
        name: name.into(),
        kind: CallKind::Function,
        arguments: arguments.into(),
        cache: None,
        seal: None,
        item_id: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    })
}

fn result(id: &'static str, blocks: Vec<Block<'static>>) -> ToolResult<'static> {
    ToolResult {
        id: id.into(),
        name: None,
        kind: CallKind::Function,
        blocks,
        error: None,
        cache: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    }
}

fn thinking(text: &'static str, seal: Option<Seal<'static>>) -> Block<'static> {
    let thoughts = if text.is_empty() { vec![] } else { vec![Thought { text: text.into(), summary: false }] };
    Block::Thinking(Thinking { thoughts, seal, redacted: false, id: None, at: At::NOWHERE, extra: Extra::default() })
}

fn media(kind: MediaKind, source: Source<'static>) -> Media<'static> {
    Media {
        kind,
        source,
        name: None,
        context: None,
        detail: None,
        citations: None,
        cache: None,
        seal: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    }
}

fn png() -> Block<'static> {
    Block::Media(media(MediaKind::Image, Source::Base64 { media_type: "image/png".into(), data: "aGk=".into() }))
}

fn function(name: &'static str) -> Tool<'static> {
    Tool::Function(Function {
        name: name.into(),
        description: None,
        kind: CallKind::Function,
        parameters: Some(r##"{"$ref":"#/$defs/X","$defs":{"X":{"type":"object"}}}"##.into()),
        strict: None,
        cache: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    })
}

fn search() -> Tool<'static> {
    Tool::Server(ServerTool {
        kind: ServerToolKind::WebSearch,
        name: "web_search".into(),
        allowed_domains: vec![],
        blocked_domains: vec!["a.example".into()],
        max_uses: Some(3),
        user_location: None,
        native: (Dialect::Anthropic, r#"{"type":"web_search_20250305"}"#.into()),
        cache: None,
        at: At::new(7),
        extra: Extra::default(),
    })
}

fn param<T>(value: T) -> Option<Param<T>> {
    Some(Param { value, at: At::NOWHERE })
}

/// The body and `how member` of each loss.
fn written(request: &Request<'_>, model: &str, vertex: bool) -> (Value, Vec<String>) {
    let encoded = Gemini.encode_request(request, &To { model, manners: &manners(vertex) });
    let losses = encoded.losses.iter().map(|loss| format!("{} {}", loss.how.label(), loss.member).trim().to_owned());
    (json(&encoded.body), losses.collect())
}

fn lossless(request: &Request<'_>, model: &str) -> Value {
    let (body, losses) = written(request, model, false);
    assert_eq!(losses, Vec::<String>::new());
    body
}

#[test]
fn results_stand_behind_their_calls_in_the_order_of_the_calls() {
    let text = |text| vec![Block::text(text)];
    let failed = ToolResult { error: Some(true), ..result("b", text("no")) };
    let request = asked(vec![
        Turn::new(Role::System, text("be brief")),
        user("weather?"),
        Turn::new(Role::Assistant, vec![Block::text(""), call("a", "f", r#"{"x": 1.0}"#), call("b", "f", "")]),
        Turn::new(Role::User, vec![Block::ToolResult(failed)]),
        Turn::new(Role::User, vec![Block::ToolResult(result("a", text(r#"{"t": 1.50}"#)))]),
        user("so?"),
    ]);
    let body = lossless(&request, SECOND);
    assert_eq!(body["systemInstruction"], json!({ "parts": [{ "text": "be brief" }] }));
    assert_eq!(
        body["contents"],
        json!([
            { "role": "user", "parts": [{ "text": "weather?" }] },
            { "role": "model", "parts": [
                { "functionCall": { "name": "f", "args": { "x": 1.0 } } }, { "functionCall": { "name": "f", "args": {} } }
            ] },
            { "role": "user", "parts": [
                { "functionResponse": { "name": "f", "response": { "t": 1.5 } } },
                { "functionResponse": { "name": "f", "response": { "error": "no" } } }
            ] },
            { "role": "user", "parts": [{ "text": "so?" }] }
        ])
    );
}

#[test]
fn calls_of_other_models_are_excused_to_gemini_3() {
    let step = |id, answer| {
        vec![
            Turn::new(Role::Assistant, vec![call(id, "f", "{}"), call("z", "f", "{}")]),
            Turn::new(Role::User, vec![Block::ToolResult(result(id, vec![Block::text(answer)]))]),
        ]
    };
    let mut turns = vec![user("before")];
    turns.extend(step("a", "1"));
    turns.push(user("now"));
    turns.extend(step("b", "2"));
    turns.extend(step("c", "3"));
    let request = asked(turns);
    let signed = |model| {
        let body = lossless(&request, model);
        let contents = body["contents"].as_array().unwrap().clone();
        let model = contents.iter().filter(|content| content["role"] == "model");
        model
            .map(|content| {
                content["parts"].as_array().unwrap().iter().map(|p| p["thoughtSignature"].is_string()).collect()
            })
            .collect()
    };
    let third: Vec<Vec<bool>> = signed(THIRD);
    assert_eq!(third, [[false, false], [true, false], [true, false]]);
    let second: Vec<Vec<bool>> = signed(SECOND);
    assert_eq!(second, [[false, false]; 3]);
    assert!(lossless(&request, THIRD).to_string().contains("skip_thought_signature_validator"));
}

#[test]
fn pictures_in_results_are_within_for_gemini_3_and_beside_for_others() {
    let request = asked(vec![
        user("look"),
        Turn::new(Role::Assistant, vec![call("a", "f", "{}")]),
        Turn::new(Role::User, vec![Block::ToolResult(result("a", vec![Block::text("here"), png()]))]),
    ]);
    let image = json!({ "inlineData": { "mimeType": "image/png", "data": "aGk=" } });
    let body = lossless(&request, THIRD);
    assert_eq!(
        body["contents"][2]["parts"],
        json!([{ "functionResponse": { "name": "f", "response": { "result": "here" }, "parts": [image] } }])
    );
    let (body, losses) = written(&request, SECOND, false);
    assert_eq!(losses, ["changed"]);
    assert_eq!(
        body["contents"][2]["parts"],
        json!([{ "functionResponse": { "name": "f", "response": { "result": "here" } } }])
    );
    assert_eq!(body["contents"][3], json!({ "role": "user", "parts": [image] }));
}

#[test]
fn instructions_keep_their_place() {
    let system = |text| Turn::new(Role::Developer, vec![Block::text(text)]);
    let (body, losses) = written(&asked(vec![user("a"), system("hush"), user("b")]), SECOND, false);
    assert_eq!(losses, ["changed role"]);
    assert_eq!(
        body["contents"],
        json!([{ "role": "user", "parts": [{ "text": "a" }, { "text": "<system>hush</system>" }, { "text": "b" }] }])
    );
    let (body, losses) = written(&asked(vec![system("a joke, please")]), SECOND, false);
    assert_eq!(losses, ["changed role"]);
    assert_eq!(body["contents"], json!([{ "role": "user", "parts": [{ "text": "a joke, please" }] }]));
    assert!(body.get("systemInstruction").is_none());
}

#[test]
fn only_geminis_own_thinking_goes_back_to_it() {
    let seal = |issuer| Some(Seal::new(issuer, "c2ln"));
    let request = asked(vec![
        user("a"),
        Turn::new(
            Role::Assistant,
            vec![
                thinking("theirs", seal(Issuer::Anthropic)),
                thinking("unsigned", None),
                thinking("", seal(Issuer::Gemini)),
                call("a", "f", "{}"),
                thinking("", seal(Issuer::Gemini)),
            ],
        ),
    ]);
    let (body, losses) = written(&request, THIRD, false);
    assert_eq!(losses, ["dropped"]);
    assert_eq!(
        body["contents"][1]["parts"],
        json!([
            { "text": "unsigned", "thought": true },
            { "functionCall": { "name": "f", "args": {} }, "thoughtSignature": "c2ln" },
            { "text": "", "thoughtSignature": "c2ln" }
        ])
    );
}

#[test]
fn media_go_as_gemini_takes_them() {
    let url = |url: &'static str| Source::Url { url: url.into(), media_type: None };
    let ask = |media: Media<'static>| {
        let request = asked(vec![Turn::new(Role::User, vec![Block::Media(media)])]);
        let (body, losses) = written(&request, THIRD, false);
        (body["contents"][0]["parts"].clone(), losses)
    };
    let detailed = Media { detail: Some("low".into()), ..media(MediaKind::Image, url("https://x/a.webp?size=1")) };
    assert_eq!(
        ask(detailed),
        (
            json!([{ "fileData": { "mimeType": "image/webp", "fileUri": "https://x/a.webp?size=1" },
                "mediaResolution": { "level": "MEDIA_RESOLUTION_LOW" } }]),
            vec![]
        )
    );
    let (parts, losses) = ask(media(MediaKind::Image, url("https://x/a")));
    assert_eq!(
        (&parts[0]["fileData"]["mimeType"], losses),
        (&json!("image/jpeg"), vec!["changed media_type".to_owned()])
    );
    let (parts, losses) = ask(media(MediaKind::Video, url("https://www.youtube.com/watch?v=1")));
    assert_eq!((&parts[0]["fileData"]["mimeType"], losses), (&json!("video/mp4"), vec![]));
    let jpg = Source::Base64 { media_type: "image/jpg".into(), data: "aGk=".into() };
    assert_eq!(ask(media(MediaKind::Image, jpg)).0[0]["inlineData"]["mimeType"], "image/jpeg");
    let text = Source::Text { media_type: "text/plain".into(), text: "words".into() };
    let named = Media { name: Some("a.txt".into()), ..media(MediaKind::Document, text) };
    assert_eq!(ask(named), (json!([{ "text": "a.txt\n\nwords" }]), vec!["changed".to_owned()]));
    let blocks = Source::Blocks(vec![Block::text("one"), Block::text("two")]);
    assert_eq!(ask(media(MediaKind::Document, blocks)).0, json!([{ "text": "one" }, { "text": "two" }]));
}

#[test]
fn what_gemini_cannot_reach_changes_the_question() {
    let foreign = || Source::File { id: "file-1".into(), dialect: Dialect::OpenAiChat, media_type: None };
    let document = || Block::Media(media(MediaKind::Document, foreign()));
    let s3 = Block::Media(media(MediaKind::Image, Source::Url { url: "s3://b/a.png".into(), media_type: None }));
    let request = asked(vec![Turn::new(Role::User, vec![Block::text("x"), document(), s3])]);
    assert_eq!(written(&request, THIRD, false).1, ["essential"]);
    let request = asked(vec![
        user("x"),
        Turn::new(Role::Assistant, vec![document(), call("a", "f", "{}")]),
        Turn::new(Role::User, vec![Block::ToolResult(result("a", vec![document()]))]),
    ]);
    let (body, losses) = written(&request, SECOND, false);
    assert_eq!(losses, ["dropped"]);
    assert_eq!(body["contents"][1]["parts"][0]["text"], "[document omitted]");
    assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["response"]["result"], "[document omitted]");
}

#[test]
fn parameters_become_googles() {
    let schema =
        Schema { name: Some("n".into()), description: None, schema: r#"{"type":"object"}"#.into(), strict: Some(true) };
    let request = Request {
        temperature: param("0.70".into()),
        top_p: param("1".into()),
        max_output: param(9),
        n: param(2),
        stop: param(vec!["a".into()]),
        seed: param("7".into()),
        logprobs: param(true),
        top_logprobs: param(3),
        format: param(Format::Schema(schema)),
        modalities: param(vec!["text".into()]),
        service_tier: param("default".into()),
        reasoning: param(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() }),
        parallel_tool_calls: param(true),
        tools: vec![function("f"), function("g")],
        tool_choice: param(ToolChoice::Allowed { names: vec!["f".into()], required: false }),
        store: param(false),
        ..asked(vec![user("x")])
    };
    let body = lossless(&request, THIRD);
    let config = json!({
        "temperature": 0.70, "topP": 1, "seed": 7, "candidateCount": 2, "maxOutputTokens": 9, "stopSequences": ["a"],
        "responseLogprobs": true, "logprobs": 3, "responseMimeType": "application/json", "responseJsonSchema": { "type": "object" },
        "responseModalities": ["TEXT"], "thinkingConfig": { "thinkingLevel": "LOW", "includeThoughts": true }
    });
    assert_eq!(body["generationConfig"], config);
    assert_eq!(body["serviceTier"], "standard");
    let calling = json!({ "mode": "VALIDATED", "allowedFunctionNames": ["f"] });
    assert_eq!(body["toolConfig"]["functionCallingConfig"], calling);
    assert_eq!(body["tools"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]["$ref"], "#/$defs/X");
}

#[test]
fn what_gemini_has_no_word_for_is_booked() {
    let at = At::new;
    let cache = Some(Cache { ttl: None, at: at(1) });
    let request = Request {
        parallel_tool_calls: Some(Param { value: false, at: at(2) }),
        verbosity: Some(Param { value: "low".into(), at: at(3) }),
        user: Some(Param { value: "u".into(), at: at(4) }),
        store: Some(Param { value: true, at: at(5) }),
        cache_key: Some(Param { value: "k".into(), at: at(6) }),
        seed: Some(Param { value: "99999999999".into(), at: at(8) }),
        metadata: Some(Param { value: r#"{"Team":"A b"}"#.into(), at: at(9) }),
        tool_choice: Some(Param { value: ToolChoice::Required, at: at(10) }),
        cache,
        extra: Extra(vec![
            ExtraMember { name: "logit_bias".into(), json: "{}".into(), at: at(11) },
            ExtraMember { name: "previous_response_id".into(), json: "\"r\"".into(), at: at(12) },
        ]),
        ..asked(vec![user("x")])
    };
    let encoded = Gemini.encode_request(&request, &To { model: SECOND, manners: &manners(true) });
    let mut places: Vec<_> = encoded.losses.iter().map(|loss| (loss.at.offset().unwrap(), loss.how)).collect();
    places.sort_by_key(|(at, _)| *at);
    let dropped = [1, 2, 3, 4, 5, 6, 8, 9, 10, 11].map(|at| (at, How::Dropped));
    assert_eq!(places[..10], dropped);
    assert_eq!(places[10..], [(12, How::Essential)]);
    assert_eq!(json(&encoded.body), json!({ "contents": [{ "role": "user", "parts": [{ "text": "x" }] }] }));
}

#[test]
fn tools_of_the_provider_have_equivalents() {
    let ask = |tools, choice, model, vertex| {
        let request = Request { tools, tool_choice: choice, ..asked(vec![user("x")]) };
        let (body, losses) = written(&request, model, vertex);
        (body["tools"].clone(), body["toolConfig"].clone(), losses)
    };
    let (tools, config, losses) = ask(vec![search()], None, SECOND, false);
    assert_eq!((tools, config), (json!([{ "googleSearch": {} }]), Value::Null));
    assert_eq!(losses, ["dropped blocked_domains", "dropped max_uses"]);
    let (tools, config, losses) = ask(vec![search(), function("f")], param(ToolChoice::Auto), THIRD, false);
    assert_eq!(tools[1], json!({ "googleSearch": {} }));
    assert_eq!(config, json!({ "includeServerSideToolInvocations": true }));
    assert_eq!(losses.len(), 2);
    let (tools, config, losses) = ask(vec![search(), function("f")], param(ToolChoice::Tool("f".into())), THIRD, true);
    assert_eq!(tools[1], json!({ "googleSearch": { "excludeDomains": ["a.example"] } }));
    assert_eq!(config, json!({ "functionCallingConfig": { "mode": "ANY", "allowedFunctionNames": ["f"] } }));
    assert_eq!(losses, ["dropped max_uses"]);
    let (_, config, _) = ask(vec![search(), function("f")], param(ToolChoice::Tool("web_search".into())), SECOND, true);
    assert_eq!(config, json!({ "functionCallingConfig": { "mode": "AUTO" } }));
    let mut computer = search();
    if let Tool::Server(tool) = &mut computer {
        tool.kind = ServerToolKind::Other;
    }
    let (tools, _, losses) = ask(vec![computer], param(ToolChoice::Tool("web_search".into())), SECOND, false);
    assert_eq!((tools, losses), (Value::Null, vec!["essential".to_owned(), "dropped".to_owned()]));
}

fn answered(blocks: Vec<Block<'static>>, reason: StopReason<'static>) -> Response<'static> {
    let choice = Choice { blocks, stop: Some(Stop::new(reason)), ..Choice::default() };
    Response { choices: vec![choice], ..Response::new(Dialect::Anthropic) }
}

#[test]
fn an_answer_of_another_model_speaks_gemini() {
    let sealed = Some(Seal::new(Issuer::Anthropic, "EqQB"));
    let cited = Text {
        citations: vec![Citation { url: Some("https://a".into()), text_span: Some((0, 2)), ..Citation::default() }],
        ..Text::new("3° it is")
    };
    let (id, tool, at) = (std::borrow::Cow::Borrowed("s1"), ServerToolKind::WebSearch, At::NOWHERE);
    let searched = ServerCall {
        id: id.clone(),
        tool,
        name: "web_search".into(),
        input: r#"{"query":"q"}"#.into(),
        native: Some((Dialect::Anthropic, "{}".into())),
        at,
    };
    let sources = vec![("https://a".into(), Some("A".into()))];
    let found = ServerResult { id, tool, sources, output: None, native: None, at };
    let mut response = answered(
        vec![
            thinking("hm", sealed),
            Block::ServerCall(searched),
            Block::ServerResult(found),
            Block::Text(cited),
            call("toolu_1", "f", r#"{"a": 1}"#),
            call("toolu_2", "f", "{broken"),
        ],
        StopReason::ToolUse,
    );
    response.usage = Some(Usage {
        input: crate::units::Tokens(10),
        output: crate::units::Tokens(7),
        reasoning: crate::units::Tokens(3),
        ..Usage::default()
    });
    let encoded = Gemini.encode_response(&response, &reply_to(StreamForm::Sse));
    assert_eq!(encoded.losses.count, 1);
    let body = json(&encoded.body);
    let packed = Seal::new(Issuer::Anthropic, "EqQB").pack(Issuer::Gemini).into_owned();
    assert_eq!(
        body,
        json!({
            "candidates": [{
                "content": { "parts": [
                    { "text": "hm", "thought": true, "thoughtSignature": packed },
                    { "text": "3° it is" },
                    { "functionCall": { "name": "f", "args": { "a": 1 }, "id": "toolu_1" } },
                    { "functionCall": { "name": "f", "args": { "INVALID_JSON": "{broken" }, "id": "toolu_2" } }
                ], "role": "model" },
                "finishReason": "STOP", "index": 0,
                "groundingMetadata": {
                    "groundingChunks": [{ "web": { "uri": "https://a", "title": "A" } }],
                    "groundingSupports": [{ "segment": { "partIndex": 1, "endIndex": 3, "text": "3°" }, "groundingChunkIndices": [0] }],
                    "webSearchQueries": ["q"]
                }
            }],
            "usageMetadata": { "promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 17, "thoughtsTokenCount": 3 },
            "modelVersion": "asked-for", "responseId": "call-1"
        })
    );
}

#[test]
fn seals_of_others_travel_through_a_gemini_client() {
    let Block::Thinking(redacted) = thinking("", Some(Seal::new(Issuer::Anthropic, "cmVk"))) else { return };
    let blocks = vec![
        Block::Thinking(Thinking { redacted: true, ..redacted }),
        thinking("shown", Some(Seal::new(Issuer::Anthropic, "c2lnbmVk"))),
        thinking("", Some(Seal::new(Issuer::OpenAi, "gAAAA"))),
    ];
    let response = answered(blocks.clone(), StopReason::End);
    let body = json(&Gemini.encode_response(&response, &reply_to(StreamForm::Sse)).body);
    let back = json!({ "contents": [body["candidates"][0]["content"]] }).to_string();
    let request = Gemini.decode_request(Node::parse(back.as_bytes()).unwrap()).unwrap();
    let read: Vec<_> = request.turns[0]
        .blocks
        .iter()
        .map(|block| match block {
            Block::Thinking(thinking) => (thinking.redacted, thinking.thoughts.len(), thinking.seal.clone().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        read,
        [
            (true, 0, Seal::new(Issuer::Anthropic, "cmVk")),
            (false, 1, Seal::new(Issuer::Anthropic, "c2lnbmVk")),
            (false, 0, Seal::new(Issuer::OpenAi, "gAAAA")),
        ]
    );
}

#[test]
fn a_stream_of_another_model_speaks_gemini() {
    let mut encoder = Gemini.stream_encoder(&reply_to(StreamForm::Sse));
    let mut out = Vec::new();
    let delta = |block, delta| Event::Delta { choice: 0, block, delta };
    let thought = |part, text: &'static str| delta(0, Delta::Thought { part, summary: true, text: text.into() });
    let open_call = Open::ToolCall { id: "c1".into(), name: "f".into(), kind: CallKind::Function, item_id: None };
    for event in [
        Event::Start(Start { id: Some("r1".into()), model: Some("m".into()), created: Some(0), service_tier: None }),
        Event::Open { choice: 0, block: 0, open: Open::Thinking { redacted: false, id: None } },
        thought(0, "a"),
        thought(1, "b"),
        delta(0, Delta::Seal(Seal::new(Issuer::Gemini, "c2ln"))),
        Event::Close { choice: 0, block: 0 },
        Event::Open { choice: 0, block: 1, open: Open::Text },
        delta(1, Delta::Text("hi".into())),
        Event::Open { choice: 0, block: 2, open: open_call },
        delta(2, Delta::Arguments("{\"x\"".into())),
        Event::Ping,
        delta(2, Delta::Arguments(":1}".into())),
        Event::Close { choice: 0, block: 2 },
        Event::Close { choice: 0, block: 1 },
        Event::Stop { choice: 0, stop: Stop::new(StopReason::ToolUse) },
        Event::Usage(Usage { input: crate::units::Tokens(1), ..Usage::default() }),
        Event::End,
        Event::Ping,
    ] {
        encoder.push(event, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let chunks: Vec<Value> = text
        .split("\r\n\r\n")
        .filter(|frame| !frame.is_empty())
        .map(|frame| json(frame.strip_prefix("data: ").unwrap().as_bytes()))
        .collect();
    let parts: Vec<&Value> = chunks.iter().map(|chunk| &chunk["candidates"][0]["content"]["parts"][0]).collect();
    assert_eq!(
        parts,
        [
            &json!({ "text": "a", "thought": true }),
            &json!({ "text": "\n\nb", "thought": true }),
            &json!({ "text": "", "thought": true, "thoughtSignature": "c2ln" }),
            &json!({ "text": "hi" }),
            &json!({ "functionCall": { "name": "f", "args": { "x": 1 }, "id": "c1" } }),
            &json!({ "text": "" }),
        ]
    );
    let last = chunks.last().unwrap();
    assert_eq!(
        (&last["candidates"][0]["finishReason"], &last["usageMetadata"]["promptTokenCount"]),
        (&json!("STOP"), &json!(1))
    );
    assert!(chunks.iter().all(|chunk| chunk["responseId"] == "r1" && chunk["modelVersion"] == "m"));
    assert!(chunks.iter().all(|chunk| chunk["createTime"] == "1970-01-01T00:00:00Z"));
}

#[test]
fn an_error_ends_a_stream_in_either_form() {
    for (form, end) in [(StreamForm::Sse, "\r\n\r\n"), (StreamForm::Array, "\n]")] {
        let mut encoder = Gemini.stream_encoder(&reply_to(form));
        let mut out = Vec::new();
        encoder.push(Event::Open { choice: 0, block: 0, open: Open::Refusal }, &mut out);
        encoder.push(Event::Delta { choice: 0, block: 0, delta: Delta::Refusal("no".into()) }, &mut out);
        encoder.push(Event::Error(crate::error::Error::internal("boom")), &mut out);
        encoder.push(Event::End, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\"status\":\"INTERNAL\"") && text.ends_with(end), "{text}");
        if form == StreamForm::Array {
            assert_eq!(json(text.as_bytes()).as_array().map(Vec::len), Some(2));
        }
    }
}

#[test]
fn words_only_others_have_are_near_ones() {
    let refused = answered(vec![Block::Refusal(Refusal { text: "no".into(), at: At::NOWHERE })], StopReason::Refusal);
    let body = json(&Gemini.encode_response(&refused, &reply_to(StreamForm::Sse)).body);
    assert_eq!(body["candidates"][0]["finishReason"], "SAFETY");
    assert_eq!(body["candidates"][0]["content"]["parts"], json!([{ "text": "no" }]));
    let mut logged = answered(vec![Block::text("a")], StopReason::ContextWindow);
    let logprob =
        |token: &'static str| Logprob { token: token.into(), logprob: "-0.5".into(), bytes: None, top: vec![] };
    logged.choices[0].logprobs = vec![Logprob { top: vec![logprob("b")], ..logprob("a") }];
    let body = json(&Gemini.encode_response(&logged, &reply_to(StreamForm::Sse)).body);
    let candidate = &body["candidates"][0];
    assert_eq!(candidate["finishReason"], "MAX_TOKENS");
    assert_eq!(candidate["logprobsResult"]["topCandidates"][0]["candidates"][0]["token"], "b");
}
