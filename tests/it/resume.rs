//! A chat stream that breaks after output began is taken up by the next target, where the configuration says `continue: true`.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate::simulator::{Part, Reply};

use crate::support::{Gateway, KEY, UPSTREAM_KEY, Upstream, client, upstream};

fn frame(delta: Value, finish: Option<&str>) -> Bytes {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    let chunk = json!({"id": "chatcmpl-first", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]});
    Bytes::from(format!("data: {chunk}\n\n"))
}

fn says(words: &[&str]) -> Reply {
    let begin = Reply::events().bytes(frame(json!({"role": "assistant", "content": ""}), None));
    words.iter().fold(begin, |reply, word| reply.bytes(frame(json!({"content": word}), None)))
}

async fn group(first: &Upstream, second: &Upstream, resume: bool) -> Gateway {
    let yaml = format!(
        "providers:\n  a: {{kind: openai, base_url: \"http://{}/v1\", api_key: {UPSTREAM_KEY}}}\n  \
         b: {{kind: openai, base_url: \"http://{}/v1\", api_key: {UPSTREAM_KEY}}}\n\
         timeouts: {{idle: 500ms}}\n\
         models:\n  pair: {{targets: [{{model: a/one, priority: 1}}, {{model: b/two, priority: 2}}], continue: {resume}}}\n\
         keys:\n  - {{name: test, key: {KEY}}}\n",
        first.address, second.address
    );
    Gateway::start(&yaml, &[]).await
}

async fn told(gateway: &Gateway) -> Vec<Value> {
    let body = json!({"model": "pair", "stream": true, "messages": [{"role": "user", "content": "Count"}]});
    let answer = client().post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).json(&body).send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.expect("a whole body");
    let data = text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))).collect()
}

fn content(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_at_the_next_target_as_one() {
    let (first, second) = (upstream().await, upstream().await);
    let gateway = group(&first, &second, true).await;
    for end in [Part::Cut, Part::Hang] {
        first.simulator.reply("one", says(&["One, ", "two, "]).part(end));
        let rest =
            says(&["three."]).bytes(frame(json!({}), Some("stop"))).bytes(Bytes::from_static(b"data: [DONE]\n\n"));
        second.simulator.reply("two", rest);
        let events = told(&gateway).await;
        assert_eq!(content(&events), "One, two, three.", "{events:#?}");
        assert_eq!(events.last(), Some(&json!("[DONE]")));
        let chunks = &events[..events.len() - 1];
        assert!(chunks.iter().all(|chunk| chunk["id"] == "chatcmpl-first" && chunk["error"].is_null()), "{chunks:#?}");
        let roles = chunks.iter().filter(|chunk| chunk["choices"][0]["delta"]["role"].is_string()).count();
        assert_eq!(roles, 1, "{chunks:#?}");
        let asked: Value = serde_json::from_slice(&second.record().last().expect("a call").body).expect("JSON");
        let turns: Vec<&Value> = asked["messages"].as_array().expect("turns").iter().collect();
        assert_eq!((turns.len(), &turns[1]["role"], &turns[2]["role"]), (3, &json!("assistant"), &json!("user")));
        assert!(turns[1].to_string().contains("One, two, "), "{turns:?}");
    }
    let log = gateway.log_of(2).await;
    assert!(log.iter().all(|line| line["tried"] == json!(["a/one;broken_off"]) && line["error"].is_null()), "{log:#?}");
}

#[tokio::test]
async fn a_stream_that_breaks_with_nobody_left_or_in_a_tool_call_ends_with_an_error() {
    let (first, second) = (upstream().await, upstream().await);
    let gateway = group(&first, &second, true).await;
    first.simulator.reply("one", says(&["One, "]).part(Part::Cut));
    second.simulator.reply("two", says(&["two, "]).part(Part::Cut));
    let events = told(&gateway).await;
    assert_eq!(content(&events), "One, two, ");
    assert_eq!(events.last().expect("an event")["error"]["code"], "upstream_failed", "{events:#?}");

    let call = json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{"}}]});
    first.simulator.reply("one", says(&[]).bytes(frame(call, None)).part(Part::Cut));
    second.record().clear();
    let events = told(&gateway).await;
    assert_eq!(events.last().expect("an event")["error"]["code"], "upstream_failed", "{events:#?}");
    assert!(second.record().calls().is_empty(), "a tool call cannot be gone on with");
}

#[tokio::test]
async fn without_the_option_a_stream_that_breaks_ends_with_an_error() {
    let (first, second) = (upstream().await, upstream().await);
    let gateway = group(&first, &second, false).await;
    first.simulator.reply("one", says(&["One, "]).part(Part::Cut));
    let events = told(&gateway).await;
    assert_eq!(content(&events), "One, ");
    assert_eq!(events.last().expect("an event")["error"]["code"], "upstream_failed");
    assert!(second.record().calls().is_empty());
}
