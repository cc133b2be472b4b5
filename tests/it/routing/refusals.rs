//! What is tried elsewhere, and what is not: once output has begun nobody else is asked, the caller's own fault is told at once, a target that
//! will not have us is passed over, and what is too long goes to the model for that.

use serde_json::json;
use tollgate::simulator::{Part, Reply};

use super::{ask, calls, chunk, completion, error, events, gateway, model, only, said, some, stream};

#[tokio::test]
async fn nobody_else_is_asked_once_output_has_begun() {
    let [a, b] = &some().await;
    let gateway = gateway(&[a, b], &model(&["a/x", "b/x"], "")).await;
    let begun = || Reply::events().bytes(chunk(json!({ "role": "assistant", "content": "Once" }), None));
    let error =
        format!("data: {}\n\n", json!({ "error": { "message": "fell over", "type": "server_error", "code": null } }));
    for ending in [begun().part(Part::Cut), begun().bytes(error)] {
        a.simulator.reply("x", ending);
        let answer = ask(&gateway, "m", true).await;
        assert_eq!((answer.status, answer.way()), (200, ("a", "1")));
        assert!(answer.text.contains("Once") && !answer.text.contains("[DONE]"), "{}", answer.text);
        assert!(events(&answer.text).iter().any(|event| event["error"].is_object()), "it is told: {}", answer.text);
    }
    assert_eq!((calls(a), calls(b)), (2, 0));
    for line in gateway.log_of(2).await {
        assert_eq!((&line["attempts"], &line["blame"]), (&json!(1), &json!("upstream")), "{line}");
    }
}

#[tokio::test]
async fn the_caller_s_own_fault_is_told_at_once_in_the_provider_s_words() {
    let [a, b] = &some().await;
    let gateway = gateway(&[a, b], &model(&["a/x", "b/x"], "")).await;
    for status in [400, 413, 422] {
        a.simulator.reply("x", error(status, "invalid_value"));
        for stream in [false, true] {
            let answer = ask(&gateway, "m", stream).await;
            assert_eq!((answer.status, answer.way()), (status, ("a", "1")), "{}", answer.text);
            assert!(answer.json()["error"]["message"].as_str().is_some_and(|m| m.starts_with("scripted")));
        }
    }
    assert_eq!((calls(a), calls(b)), (6, 0));
}

#[tokio::test]
async fn a_target_that_will_not_have_us_is_passed_over() {
    let [a, b] = &some().await;
    let gateway = gateway(&[a, b], &model(&["a/x", "b/x"], "")).await;
    b.simulator.reply("x", completion("from b"));
    for (status, code) in [
        (401, "invalid_api_key"),
        (402, "billing"),
        (403, "permission"),
        (404, "model_not_found"),
        (429, "insufficient_quota"),
    ] {
        a.simulator.reply("x", error(status, code));
        let answer = ask(&gateway, "m", false).await;
        assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{status}: {}", answer.text);
        assert_eq!(answer.header("x-tollgate-tried"), format!("a/x;{status}"));
    }
    // when all refuse us it is told, and nothing of our account with it
    for upstream in [a, b] {
        upstream.simulator.reply("x", error(401, "invalid_api_key"));
    }
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.header("x-tollgate-attempts")), (401, "2"), "{}", answer.text);
    assert!(!answer.text.contains("key-of-"), "{}", answer.text);
}

#[tokio::test]
async fn what_is_too_long_and_what_is_filtered_have_models_of_their_own() {
    let [a, b, long, lenient] = &some().await;
    let rest = model(&["a/x", "b/x"], ", fallback: {context_length: long, content_filter: d/y}")
        + "  long: {targets: [c/z], fallback: {context_length: d/y}}\n";
    let gateway = gateway(&[a, b, long, lenient], &rest).await;
    long.simulator.reply("z", completion("from long"));
    lenient.simulator.reply("y", completion("from lenient"));

    a.simulator.reply("x", error(400, "context_length_exceeded"));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (200, ("c", "2")), "{}", answer.text);
    assert_eq!(answer.header("x-tollgate-tried"), "a/x;400");
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "from long");
    assert_eq!(answer.header("x-tollgate-model"), "m", "what the client asked for");
    assert_eq!(only(long).json()["model"], "z");

    long.simulator.reply("z", stream("from long"));
    let answer = ask(&gateway, "m", true).await;
    assert_eq!((said(&answer.text).as_str(), answer.way()), ("from long", ("c", "2")));

    a.simulator.reply("x", error(400, "content_filter"));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (200, ("d", "2")), "{}", answer.text);

    // one step, and no further
    a.simulator.reply("x", error(400, "context_length_exceeded"));
    long.simulator.reply("z", error(400, "context_length_exceeded"));
    let before = calls(lenient);
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.header("x-tollgate-attempts")), (400, "2"), "{}", answer.text);
    assert_eq!(answer.json()["error"]["code"], "context_length_exceeded");
    assert_eq!((calls(lenient), calls(b)), (before, 0));
}
