use std::time::Duration;

use super::{Said, decode_error, event, try_again_in};
use crate::error::{Kind, Refused};
use crate::json::Node;

#[test]
fn each_vendor_s_refusal_has_its_reason() {
    for (status, body, reason, message) in [
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota, please check your plan","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            Refused::Billing,
            "You exceeded your current quota, please check your plan",
        ),
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            Refused::ContextLength,
            "This model's maximum context length is 8192 tokens.",
        ),
        (
            400,
            r#"{"error":{"message":"This endpoint's maximum context length is 1 tokens","code":400}}"#,
            Refused::ContextLength,
            "This endpoint's maximum context length is 1 tokens",
        ),
        (
            400,
            r#"{"object":"error","message":"Prompt contains 9 tokens, too large for model with 8 maximum context length","type":"invalid_request_error","param":null,"code":"3051"}"#,
            Refused::ContextLength,
            "Prompt contains 9 tokens, too large for model with 8 maximum context length",
        ),
        (
            400,
            r#"{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            Refused::ContentFilter,
            "filtered",
        ),
        (
            402,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
            Refused::Billing,
            "Insufficient Balance",
        ),
        (
            413,
            r#"{"error":{"message":"Request too large","type":"tokens","code":"rate_limit_exceeded"}}"#,
            Refused::RateLimit,
            "Request too large",
        ),
        (
            400,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***9y. You can obtain one."}"#,
            Refused::Auth,
            "Incorrect API key provided: [redacted]. You can obtain one.",
        ),
        (
            404,
            r#"{"error":"model \"llama9\" not found, try pulling it first"}"#,
            Refused::NotFound,
            "model \"llama9\" not found, try pulling it first",
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
            Refused::Auth,
            "API key not valid. Please pass a valid API key.",
        ),
        (
            422,
            r#"{"detail":[{"loc":["body","x"],"msg":"Extra inputs are not permitted","type":"extra_forbidden"}]}"#,
            Refused::BadRequest,
            "Extra inputs are not permitted",
        ),
        (
            429,
            r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"provider_name":"G","raw":"{\"error\":{\"message\":\"slow\",\"status\":\"RESOURCE_EXHAUSTED\"}}"}}}"#,
            Refused::RateLimit,
            "slow",
        ),
        (
            403,
            r#"{"error":{"code":403,"message":"m requires moderation on x. Your input was flagged","metadata":{"reasons":["s"]}}}"#,
            Refused::ContentFilter,
            "m requires moderation on x. Your input was flagged",
        ),
        (502, "<html><head><title>502 Bad Gateway</title>", Refused::ServerError, ""),
        (503, "upstream connect error", Refused::Overloaded, "upstream connect error"),
        (500, "", Refused::ServerError, ""),
        (418, "null", Refused::BadRequest, ""),
        (400, "{\"error\":{\"message\":", Refused::BadRequest, ""),
    ] {
        let refusal = decode_error(status, body.as_bytes());
        assert_eq!((refusal.reason, &*refusal.message), (reason, message), "{body}");
    }
}

#[test]
fn the_member_at_fault_and_the_code_are_kept() {
    let body =
        br#"{"error":{"message":"m","type":"invalid_request_error","param":"messages[3]","code":"invalid_value"}}"#;
    let refusal = decode_error(400, body);
    assert_eq!((refusal.param.as_deref(), refusal.code.as_deref()), (Some("messages[3]"), Some("invalid_value")));
}

#[test]
fn the_time_to_wait_is_read_from_the_words() {
    for (text, ms) in [
        ("please try again in 644ms. visit", Some(644)),
        ("try again in 1.5s", Some(1_500)),
        ("try again in 1m2s.", Some(62_000)),
        ("try again in a while", None),
        ("try again in 5 minutes", None),
        ("", None),
    ] {
        assert_eq!(try_again_in(text), ms.map(Duration::from_millis), "{text}");
    }
    let google = br#"[{"error":{"code":429,"message":"m","details":[{"@type":"x"},{"retryDelay":"34s"}]}}]"#;
    assert_eq!(decode_error(429, google).retry_after, Some(Duration::from_secs(34)));
}

#[test]
fn an_error_in_a_stream_brings_its_own_status_or_the_usual_one() {
    for (text, status, reason) in [
        (r#"{"code":502,"message":"Provider disconnected"}"#, 502, Refused::ServerError),
        (r#"{"message":"The server had an error","type":"server_error"}"#, 502, Refused::ServerError),
        (r#"{"message":"x","code":"rate_limit_exceeded"}"#, 429, Refused::RateLimit),
        (r#""boom""#, 502, Refused::ServerError),
    ] {
        let error = event(Node::parse(text.as_bytes()).unwrap());
        assert_eq!(error.kind, Kind::UpstreamRefused { status, reason, retry_after: None }, "{text}");
    }
}

#[test]
fn a_deep_or_odd_error_is_read_without_end() {
    let deep = "{\"error\":".repeat(50) + "\"x\"" + &"}".repeat(50);
    assert_eq!(Said::read(Node::parse(deep.as_bytes()).unwrap()).message, "");
    let long = format!("{{\"error\":{{\"message\":\"{}\"}}}}", "ä".repeat(5_000));
    assert!(decode_error(400, long.as_bytes()).message.len() <= 2_000);
}
