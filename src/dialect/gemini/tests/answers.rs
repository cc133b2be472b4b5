//! Recorded answers, whole: read, and written for a client.

use serde_json::{Value, json};

use super::{exchanges, files, json, placeless, reply_to};
use crate::chat::{Block, Response, ServerToolKind, StopReason};
use crate::dialect::codec::{Inbound, Origin, Outbound, StreamForm};
use crate::dialect::gemini::{Gemini, usage};
use crate::error::Refused;
use crate::json::Node;

fn decoded(text: &str) -> Response<'_> {
    let node = Node::parse_reply(text.as_bytes()).unwrap();
    Gemini.decode_response(node, &Origin { model: "gemini-2.5-flash" }).unwrap()
}

fn encoded(response: &Response<'_>) -> Value {
    let encoded = Gemini.encode_response(response, &reply_to(StreamForm::Sse));
    assert!(encoded.losses.is_empty(), "{:?}", encoded.losses);
    json(&encoded.body)
}

/// A candidate without what is understood and not repeated: its index where it is the first, token numbers, empty metadata.
fn meaning(candidate: &Value) -> Value {
    fn without_numbers(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.remove("tokenId");
                members.values_mut().for_each(without_numbers);
            }
            Value::Array(items) => items.iter_mut().for_each(without_numbers),
            _ => {}
        }
    }
    let mut candidate = candidate.clone();
    let members = candidate.as_object_mut().unwrap();
    members.entry("index").or_insert(json!(0));
    members.retain(|_, value| *value != json!({}));
    members.entry("content").or_insert(json!({}))["role"] = json!("model");
    match members.get("finishReason").and_then(Value::as_u64) {
        Some(1) => members.insert("finishReason".to_owned(), json!("STOP")),
        Some(2) => members.insert("finishReason".to_owned(), json!("MAX_TOKENS")),
        _ => None,
    };
    if let Some(logprobs) = members.get_mut("logprobsResult") {
        without_numbers(logprobs);
    }
    candidate
}

#[test]
fn every_recorded_answer_is_written_as_it_was_read() {
    let mut rounds = 0;
    for exchange in exchanges("gemini.generateContent").into_iter().filter(|exchange| exchange.status == 200) {
        let response = decoded(&exchange.reply);
        assert!(response.id.is_some() && response.model.is_some() && response.usage.is_some(), "{}", exchange.id);
        assert!(response.choices.iter().all(|choice| choice.stop.is_some()), "{}", exchange.id);
        let (before, after) = (json(exchange.reply.as_bytes()), encoded(&response));
        let candidates =
            |value: &Value| value["candidates"].as_array().unwrap().iter().map(meaning).collect::<Vec<_>>();
        assert_eq!(candidates(&before), candidates(&after), "{}", exchange.id);
        for name in ["responseId", "modelVersion"] {
            assert_eq!(before[name], after[name], "{}", exchange.id);
        }
        let counts = &before["usageMetadata"];
        let total = counts["totalTokenCount"].as_u64();
        assert_eq!(total, after["usageMetadata"]["totalTokenCount"].as_u64(), "{}", exchange.id);
        let again = after.to_string();
        assert_eq!(encoded(&decoded(&again)), after, "{}", exchange.id);
        // both lanes count alike
        assert_eq!(usage::of_reply(exchange.reply.as_bytes()), response.usage, "{}", exchange.id);
        rounds += 1;
    }
    println!("{rounds} answers");
}

#[test]
fn answers_in_other_gateways_tests_are_read() {
    let mut rounds = 0;
    for pair in files("translation_pairs") {
        let input = &pair["input"]["json"];
        if pair["upstream_api"] != "gemini.generateContent"
            || pair["kind"] != "response"
            || !input["candidates"].is_array()
        {
            continue;
        }
        let text = input.to_string();
        let response = decoded(&text);
        if let (Some(usage), Some(theirs)) = (response.usage, pair["expected"]["json"]["usage"].as_object()) {
            assert_eq!(Some(usage.input.0), theirs["prompt_tokens"].as_u64(), "{}", pair["id"]);
        }
        rounds += 1;
    }
    println!("{rounds} answers");
}

#[test]
fn recorded_errors_are_understood() {
    let mut seen = Vec::new();
    for exchange in exchanges("gemini.").into_iter().filter(|exchange| exchange.status >= 400) {
        let refusal = Gemini.decode_error(exchange.status as u16, exchange.reply.as_bytes());
        assert!(!refusal.message.is_empty() && refusal.code.is_some(), "{}", exchange.id);
        seen.push(refusal.reason);
        if exchange.status == 429 {
            assert_eq!(refusal.retry_after.map(|after| after.as_millis()), Some(34_400));
            assert_eq!(refusal.reason, Refused::RateLimit);
        }
    }
    for shape in files("error_shapes").iter().filter(|shape| shape["provider"] == "gemini") {
        let response = &shape["response"];
        let status = response["status"].as_u64().unwrap() as u16;
        assert_eq!(
            Gemini.decode_error(status, response["body_json"].to_string().as_bytes()).reason,
            Refused::Overloaded
        );
    }
    if !seen.is_empty() {
        assert!(
            seen.contains(&Refused::ContextLength)
                && seen.contains(&Refused::NotFound)
                && seen.contains(&Refused::BadRequest)
        );
    }
}

#[test]
fn a_call_is_what_the_model_waits_for() {
    let response = decoded(
        r#"{"responseId":"r1","candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"b":1, "a":1.50}}},
        {"functionCall":{"name":"f"},"thoughtSignature":"c2ln"}]},"finishReason":"STOP"}]}"#,
    );
    let choice = &response.choices[0];
    assert_eq!(choice.stop.as_ref().map(|stop| &stop.reason), Some(&StopReason::ToolUse));
    let calls: Vec<(&str, &str, bool)> = choice
        .blocks
        .iter()
        .map(|block| match block {
            Block::ToolCall(call) => (&*call.id, &*call.arguments, call.seal.is_some()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(calls, [("call_nth_r1_0", r#"{"b":1, "a":1.50}"#, false), ("call_nth_r1_1", "{}", true)]);
}

#[test]
fn a_blocked_prompt_is_an_answer_that_was_filtered() {
    let text = r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":7}}"#;
    let response = decoded(text);
    let stop = response.choices[0].stop.as_ref().unwrap();
    assert_eq!((&stop.reason, stop.detail.as_deref()), (&StopReason::ContentFilter, Some("PROHIBITED_CONTENT")));
    let after = encoded(&response);
    assert_eq!(after["promptFeedback"]["blockReason"], "PROHIBITED_CONTENT");
    assert!(after.get("candidates").is_none());
    assert_eq!(decoded(r#"{"usageMetadata":{"promptTokenCount":7}}"#).choices.len(), 1);
}

#[test]
fn reasons_only_google_knows_come_back() {
    let text =
        r#"{"candidates":[{"finishReason":"RECITATION","finishMessage":"m"},{"finishReason":"NEW_REASON","index":1}]}"#;
    let response = decoded(text);
    let reasons: Vec<_> = response.choices.iter().filter_map(|c| Some(&c.stop.as_ref()?.reason)).collect();
    assert_eq!(reasons, [&StopReason::ContentFilter, &StopReason::Other("NEW_REASON".into())]);
    let after = encoded(&response);
    assert_eq!(after["candidates"][0]["finishReason"], "RECITATION");
    assert_eq!(after["candidates"][0]["finishMessage"], "m");
    assert_eq!(after["candidates"][1]["finishReason"], "NEW_REASON");
}

#[test]
fn searches_and_sources_are_words_of_the_bridge() {
    let text = r#"{"candidates":[{"content":{"parts":[{"text":"so","thought":true},{"text":"It is 3° warm."}]},"finishReason":"STOP",
        "groundingMetadata":{"webSearchQueries":["","weather"],"groundingChunks":[{"web":{"uri":"https://a","title":"A"}}],
        "groundingSupports":[{"segment":{"startIndex":6,"endIndex":9,"text":"3°"},"groundingChunkIndices":[0]}]}}],
        "usageMetadata":{"promptTokenCount":1}}"#;
    let response = decoded(text);
    let blocks = &response.choices[0].blocks;
    let Block::Text(said) = &blocks[1] else { panic!("{blocks:?}") };
    assert_eq!((said.citations[0].url.as_deref(), said.citations[0].text_span), (Some("https://a"), Some((6, 8))));
    let [Block::ServerCall(call), Block::ServerResult(result)] = &blocks[2..] else { panic!("{blocks:?}") };
    assert_eq!((call.tool, &*call.input), (ServerToolKind::WebSearch, r#"{"query":"weather"}"#));
    assert_eq!((&result.id, result.sources.len()), (&call.id, 1));
    assert_eq!(response.usage.map(|usage| usage.server_tool_calls), Some(1));
    let again = encoded(&response).to_string();
    let again = decoded(&again);
    let kinds = |response: &Response<'_>| response.choices[0].blocks.len();
    assert_eq!(kinds(&again), kinds(&response));
    assert_eq!(placeless(&again.choices[0].blocks[1]), placeless(&blocks[1]));
}
