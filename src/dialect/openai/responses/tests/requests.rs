//! Requests: read, written, read again.

use serde_json::{Value, json};

use super::corpus::exchanges;
use super::*;
use crate::chat::{Block, Dialect, How, Issuer, Role, Seal, Text, Thinking, Turn};
use crate::json::At;

/// What means the same is made the same:
/// absent and `null`, empty lists; `input` and `content` as a text; items without `type`; the one parameterless schema; `user` under its
/// new name; `stream: false`; a file's data, which the API wants as a `data:` URL and some clients send bare.
fn normal(mut value: Value) -> Value {
    strip(&mut value);
    let Some(body) = value.as_object_mut() else { return value };
    if let Some(Value::String(text)) = body.get("input") {
        body.insert("input".into(), json!([{ "role": "user", "content": text }]));
    }
    if body.get("stream") == Some(&Value::Bool(false)) {
        body.remove("stream");
    }
    if let (Some(user), None) = (body.get("user").cloned(), body.get("safety_identifier")) {
        body.remove("user");
        body.insert("safety_identifier".into(), user);
    }
    for item in body.get_mut("input").and_then(Value::as_array_mut).into_iter().flatten() {
        let item = item.as_object_mut().unwrap();
        let role = item.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !item.contains_key("type") && !role.is_empty() {
            item.insert("type".into(), json!("message"));
        }
        for name in ["content", "output"] {
            if let Some(Value::String(text)) = item.get(name) {
                let kind = if role == "assistant" { "output_text" } else { "input_text" };
                item.insert(name.into(), json!([{ "type": kind, "text": text }]));
            }
        }
    }
    for tool in body.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
        if tool["type"] == "function" && tool.get("parameters").is_none() {
            tool["parameters"] = json!({"type": "object", "properties": {}});
        }
    }
    strip(&mut value);
    value
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(data)) = members.get_mut("file_data")
                && let Some(comma) = data.find(',')
            {
                data.replace_range(..=comma, "");
            }
            members.retain(|name, value| {
                let list = ["annotations", "logprobs", "summary", "content", "include", "tools"].contains(&&**name);
                let empty = list && value.as_array().is_some_and(Vec::is_empty);
                !value.is_null() && !empty
            });
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[test]
fn every_recorded_request_comes_back_as_it_was() {
    let mut seen = 0;
    for exchange in exchanges() {
        let Some(body) = exchange.request else { continue };
        let text = body.to_string();
        let request = decoded(&text);
        let (again, encoded) = encoded(&request, body["model"].as_str().unwrap_or_default());
        assert_eq!(losses(&encoded, &text), Vec::<String>::new(), "{}", exchange.id);
        let mut again = normal(again);
        if body.get("model").is_none() {
            again.as_object_mut().unwrap().remove("model");
        }
        assert_eq!(difference(&again, &normal(body)), None, "{}", exchange.id);
        seen += 1;
    }
    println!("{seen} requests");
}

/// As a client of another dialect might have written it.
fn foreign<'a>(mut request: Request<'a>) -> Request<'a> {
    request.dialect = Dialect::Anthropic;
    request
}

#[test]
fn instructions_come_back_as_instructions_and_items_as_items() {
    for body in [
        r#"{"instructions":"a","input":[{"role":"system","content":"b"},{"role":"user","content":"c"}]}"#,
        r#"{"input":[{"role":"system","content":"b"},{"role":"developer","content":"c"}]}"#,
    ] {
        let request = decoded(body);
        assert_eq!(request.turns[0].role, Role::System);
        assert_eq!(normal(encoded(&request, "m").0)["input"], normal(serde_json::from_str(body).unwrap())["input"]);
        assert_eq!(encoded(&request, "m").0.get("instructions").is_some(), body.contains("instructions"));
    }
    let request = foreign(decoded(r#"{"input":[{"role":"system","content":"b"},{"role":"user","content":"c"}]}"#));
    let (body, _) = encoded(&request, "m");
    assert_eq!((&body["instructions"], body["input"].as_array().unwrap().len()), (&json!("b"), 1));
}

#[test]
fn what_the_model_said_in_one_breath_is_one_turn() {
    let body = r#"{"input":[{"role":"user","content":"q"},
        {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"gAA"},
        {"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"a","annotations":[]}]},
        {"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{}"},
        {"type":"function_call","call_id":"c2","name":"f","arguments":"{\"a\": 1.0}"},
        {"type":"function_call_output","call_id":"c1","output":[{"type":"input_image","image_url":"data:image/png;base64,AA=="}]},
        {"type":"function_call_output","call_id":"c2","output":"ok"},
        {"role":"assistant","content":"b"},{"role":"assistant","content":"c"}]}"#;
    let request = decoded(body);
    let shape: Vec<(Role, usize)> = request.turns.iter().map(|turn| (turn.role, turn.blocks.len())).collect();
    use Role::{Assistant, User};
    assert_eq!(shape, [(User, 1), (Assistant, 4), (User, 1), (User, 1), (Assistant, 1), (Assistant, 1)]);
    assert_eq!(normal(encoded(&request, "m").0)["input"], normal(serde_json::from_str(body).unwrap())["input"]);
}

#[test]
fn what_the_provider_keeps_is_essential_elsewhere() {
    let body = r#"{"previous_response_id":"resp_1","input":[{"type":"item_reference","id":"msg_1"},{"id":"msg_2"},
        {"type":"message","id":"msg_3","status":"completed","role":"assistant","content":"x"}]}"#;
    let request = decoded(body);
    assert_eq!(normal(encoded(&request, "m").0)["input"], normal(serde_json::from_str(body).unwrap())["input"]);
    let mut book = crate::chat::Losses::default();
    book.extra(&request.extra);
    request.turns.iter().for_each(|turn| book.extra(&turn.extra));
    assert_eq!(book.iter().map(|loss| loss.how).collect::<Vec<_>>(), [How::Essential; 3]);
}

#[test]
fn another_dialect_s_request_is_stateless_and_carries_its_reasoning() {
    let text = r#"{"input":"q"}"#;
    let request = foreign(decoded(text));
    let (body, _) = encoded(&request, "gpt-5.4");
    assert_eq!((&body["store"], &body["include"]), (&json!(false), &json!(["reasoning.encrypted_content"])));
    // a model that does not think refuses to be asked
    assert_eq!(encoded(&request, "gpt-4o-mini").0.get("include"), None);
    assert_eq!(encoded(&decoded(text), "gpt-5.4").0.get("store"), None);
}

#[test]
fn only_its_own_reasoning_goes_to_a_provider() {
    let thinking = |issuer| {
        let mut request = Request::new(Dialect::Anthropic);
        let seal = Some(Seal::new(issuer, "s"));
        let (thoughts, id, at, extra) = (Vec::new(), None, At::NOWHERE, Default::default());
        let block = Block::Thinking(Thinking { thoughts, seal, redacted: false, id, at, extra });
        request.turns = vec![Turn::new(Role::Assistant, vec![block, Block::text("t")])];
        request
    };
    let (body, first) = encoded(&thinking(Issuer::OpenAi), "gpt-5");
    assert_eq!(body["input"][0], json!({"type": "reasoning", "summary": [], "encrypted_content": "s"}));
    assert!(first.losses.is_empty());
    let (body, second) = encoded(&thinking(Issuer::Anthropic), "gpt-5");
    assert_eq!((body["input"].as_array().unwrap().len(), second.losses.count), (1, 1));
}

#[test]
fn what_has_no_place_here_is_booked() {
    let at = At::new(1);
    let mut request = Request::new(Dialect::OpenAiChat);
    request.seed = Some(crate::chat::Param { value: "1".into(), at });
    request.top_k = Some(crate::chat::Param { value: "2".into(), at: At::new(2) });
    request.n = Some(crate::chat::Param { value: 2, at: At::new(3) });
    request.stop = Some(crate::chat::Param { value: vec!["x".into()], at: At::new(4) });
    request.max_output = Some(crate::chat::Param { value: 4, at: At::new(5) });
    request.turns = vec![Turn { name: Some("bob".into()), ..Turn::new(Role::User, vec![Block::Text(Text::new("q"))]) }];
    let (body, encoded) = encoded(&request, "m");
    assert_eq!(body["max_output_tokens"], 16);
    let how: Vec<How> = encoded.losses.iter().map(|loss| loss.how).collect();
    assert_eq!(how.iter().filter(|how| **how == How::Dropped).count(), 5);
    assert_eq!(how.iter().filter(|how| **how == How::Changed).count(), 1);
}

#[test]
fn functions_are_not_made_strict_by_passing_through() {
    let tools = r#"{"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]}"#;
    assert_eq!(encoded(&decoded(tools), "m").0["tools"][0].get("strict"), None);
    assert_eq!(encoded(&foreign(decoded(tools)), "m").0["tools"][0]["strict"], false);
}

#[test]
fn every_form_of_tool_choice_comes_back() {
    let tools = r#"[{"type":"function","name":"f"},{"type":"custom","name":"c"},{"type":"web_search"},
        {"type":"mcp","server_label":"s","server_url":"https://x.test"}]"#;
    for choice in [
        r#""auto""#,
        r#""none""#,
        r#""required""#,
        r#"{"type":"function","name":"f"}"#,
        r#"{"type":"custom","name":"c"}"#,
        r#"{"type":"web_search"}"#,
        r#"{"type":"mcp","server_label":"s","name":"x"}"#,
        r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"},{"type":"web_search"}]}"#,
        r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"mcp","server_label":"s"}]}"#,
    ] {
        let body = format!(r#"{{"input":"q","tools":{tools},"tool_choice":{choice}}}"#);
        let (again, encoded) = encoded(&decoded(&body), "m");
        assert_eq!(again["tool_choice"], serde_json::from_str::<Value>(choice).unwrap());
        assert!(encoded.losses.is_empty(), "{choice}");
    }
}

#[test]
fn a_request_that_cannot_be_meant_is_refused_at_its_place() {
    for (body, place) in [
        (r#"{"input":3}"#, "input"),
        (r#"{"input":[{"role":"tool","content":"x"}]}"#, "input[0].role"),
        (r#"{"input":[{}]}"#, "input[0]"),
        (r#"{"input":[{"role":"user","content":[{"type":"input_image"}]}]}"#, "input[0].content[0]"),
        (r#"{"tools":[{"name":"f"}]}"#, "tools[0]"),
        (r#"{"temperature":"hot"}"#, "temperature"),
        (r#"{"reasoning.effort":"high"}"#, "reasoning.effort"),
    ] {
        let wrong = Responses.decode_request(Node::parse(body.as_bytes()).unwrap()).unwrap_err();
        assert_eq!(crate::json::Paths::new(body.as_bytes()).of(wrong.at), place, "{body}");
    }
}

#[test]
fn a_cache_mark_is_read_as_one() {
    let body = r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"q","prompt_cache_breakpoint":{"mode":"explicit","ttl":"30m"}}]}]}"#;
    let request = decoded(body);
    let Block::Text(text) = &request.turns[0].blocks[0] else { panic!() };
    assert_eq!(text.cache.map(|mark| mark.ttl), Some(Some(crate::chat::Ttl::FiveMinutes)));
    assert_eq!(normal(encoded(&request, "m").0)["input"], normal(serde_json::from_str(body).unwrap())["input"]);
    assert_eq!(
        losses(&encoded(&foreign(decoded(body)), "m").1, body),
        ["input[0].content[0].prompt_cache_breakpoint dropped"]
    );
}

#[test]
fn documents_become_files_or_what_they_say() {
    let at = At::NOWHERE;
    let media = |kind, source| crate::chat::Media {
        kind,
        source,
        name: None,
        context: None,
        detail: None,
        citations: None,
        cache: None,
        seal: None,
        at,
        extra: Default::default(),
    };
    use crate::chat::{MediaKind, Source};
    let base64 = |media_type: &'static str| Source::Base64 { media_type: media_type.into(), data: "AA==".into() };
    let mut request = Request::new(Dialect::Anthropic);
    let text = Source::Text { media_type: "text/plain".into(), text: "words".into() };
    let stored = Source::File { id: "file_1".into(), dialect: Dialect::Anthropic, media_type: None };
    request.turns = vec![Turn::new(
        Role::User,
        vec![
            Block::Media(media(MediaKind::Document, base64("application/pdf"))),
            Block::Media(media(MediaKind::Document, text)),
            Block::Media(media(MediaKind::Image, base64("image/png"))),
            Block::Media(media(MediaKind::Video, base64("video/mp4"))),
            Block::Media(media(MediaKind::Image, stored)),
        ],
    )];
    let (body, encoded) = encoded(&request, "gpt-5");
    let file =
        json!({"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,AA=="});
    let parts = &body["input"][0]["content"];
    assert_eq!((&parts[0], &parts[1]["text"]), (&file, &json!("words")));
    assert_eq!(parts[2]["image_url"], "data:image/png;base64,AA==");
    // the film and the foreign file lie at the same place, which is none
    assert_eq!(
        (parts.as_array().unwrap().len(), encoded.losses.iter().filter(|l| l.how == How::Essential).count()),
        (3, 1)
    );
}

#[test]
fn thinking_is_asked_for_in_the_words_of_the_model() {
    let asked = |reasoning: crate::chat::Reasoning<'static>, model: &str| {
        let mut request = Request::new(Dialect::Anthropic);
        request.reasoning = Some(crate::chat::Param { value: reasoning, at: At::NOWHERE });
        let (body, encoded) = encoded(&request, model);
        (body["reasoning"]["effort"].clone(), encoded.losses.count)
    };
    let budget = || crate::chat::Reasoning { budget: Some(20_000), ..Default::default() };
    assert_eq!(asked(budget(), "gpt-5"), (json!("high"), 1));
    assert_eq!(asked(budget(), "gpt-4o"), (Value::Null, 2));
    let off = || crate::chat::Reasoning { enabled: Some(false), ..Default::default() };
    assert_eq!(asked(off(), "gpt-5.4"), (json!("none"), 0));
    assert_eq!(asked(off(), "gpt-5-mini"), (json!("minimal"), 1));
    assert_eq!(asked(off(), "gpt-4o"), (Value::Null, 0));
}
