//! The HTTP/1.1 table: framing, Host, target, method, header and body cases, each on its own connection.
//!
//! Source: RFC 9112 (message framing, sections 2-7), RFC 9110 7.2 (Host), 9.1 (methods), 10.1.1 (Expect), 15.5 (statuses);
//! request smuggling and parser confusion as published for other proxies. Where the RFC leaves a choice the strict one is
//! taken, and the case's name says so.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Expect::{Closed, Forwarded, ForwardedAs, Refused, RefusedAndClosed, RefusedOrForwarded};
use super::{BODY, Case, Expect, case, no_private_header, nothing_upstream, one_clean_request, plain, report, seen_of};
use crate::support::raw::{Exchange, RawUpstream, Seen, Until, exchange, next_reply};
use crate::support::{gateway_to, gateway_with};

// === how a case is written ===

/// A chat request with these header lines after the usual ones, then this body. `{KEY}` becomes a valid key.
fn post(headers: &str, body: &str) -> String {
    with_head("POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test", headers, body)
}

/// A second request, valid in itself: if these bytes are ever taken for a request, the upstream sees it.
fn smuggled() -> String {
    let body = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"smuggled"}]}"#;
    post(&format!("Content-Length: {}\r\n", body.len()), body)
}

fn with_head(head: &str, headers: &str, body: &str) -> String {
    format!("{head}\r\nAuthorization: Bearer {{KEY}}\r\nContent-Type: application/json\r\n{headers}\r\n{body}")
}

/// The usual chat request with `Content-Length` right, and these header lines besides.
fn sized(headers: &str) -> String {
    post(&format!("Content-Length: {}\r\n{headers}", BODY.len()), BODY)
}

fn with_host(host_lines: &str) -> String {
    with_head(
        &format!("POST /v1/chat/completions HTTP/1.1{host_lines}"),
        &format!("Content-Length: {}\r\n", BODY.len()),
        BODY,
    )
}

fn with_target(target: &str) -> String {
    let head = format!("POST {target} HTTP/1.1\r\nHost: gateway.test");
    with_head(&head, &format!("Content-Length: {}\r\n", BODY.len()), BODY)
}

fn with_method(method: &str) -> String {
    format!("{method} /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {{KEY}}\r\n\r\n")
}

fn with_length(value: &str) -> String {
    post(&format!("Content-Length:{value}\r\n"), &format!("{BODY}{}", smuggled()))
}

fn chunked_as(coding_lines: &str) -> String {
    post(coding_lines, &format!("{}{}", chunks(BODY), smuggled()))
}

fn chunks(body: &str) -> String {
    let (a, b) = body.split_at(body.len() / 2);
    format!("{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len())
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn json(body: &str) -> String {
    post(&format!("Content-Length: {}\r\n", body.len()), body)
}

const BAD: Expect = RefusedAndClosed(&[400]);
const BAD_LENGTH: Expect = RefusedAndClosed(&[400, 413]);
const BAD_CODING: Expect = RefusedAndClosed(&[400, 501]);
const NO_ROUTE: Expect = Refused(&[400, 404]);
const NO_METHOD: Expect = Refused(&[400, 404, 405, 501]);

// === the table ===

fn framing_cases() -> Vec<Case> {
    let half = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    vec![
        case("a good request", sized(""), Forwarded),
        case("a good chunked request", chunked(&chunks(BODY)), Forwarded),
        case("CL.TE", post(half, &format!("0\r\n\r\n{}", smuggled())), BAD),
        case("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &format!("{}{}", chunks(BODY), smuggled())), BAD),
        case("two equal Content-Length (strict)", with_length(&format!(" {0}\r\nContent-Length: {0}", BODY.len())), BAD),
        case("two different Content-Length", with_length(&format!(" {}\r\nContent-Length: 4", BODY.len())), BAD),
        case("Content-Length as a list of equals (strict)", with_length(&format!(" {0},{0}", BODY.len())), BAD),
        case("Content-Length with a plus", with_length(&format!(" +{}", BODY.len())), BAD_LENGTH),
        case("Content-Length below zero", with_length(" -1"), BAD_LENGTH),
        case("Content-Length in hexadecimal", with_length(" 0x2"), BAD_LENGTH),
        case("Content-Length over 64 bits", with_length(" 18446744073709551617"), BAD_LENGTH),
        case("Content-Length of 13 digits (strict)", with_length(&format!(" {:013}", BODY.len())), BAD_LENGTH),
        case("Content-Length empty", with_length(" "), BAD_LENGTH),
        case("Content-Length with a space inside", with_length(" 9 0"), BAD_LENGTH),
        case("Content-Length with a decimal point", with_length(" 90.0"), BAD_LENGTH),
        case("TE: identity, chunked (strict)", chunked_as("Transfer-Encoding: identity, chunked\r\n"), BAD_CODING),
        case("TE: gzip, chunked", chunked_as("Transfer-Encoding: gzip, chunked\r\n"), BAD_CODING),
        case("TE: chunked, chunked", chunked_as("Transfer-Encoding: chunked, chunked\r\n"), BAD_CODING),
        case("TE: chunked, identity", chunked_as("Transfer-Encoding: chunked, identity\r\n"), BAD_CODING),
        case("two TE lines", chunked_as("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), BAD_CODING),
        case("two TE lines, one identity", chunked_as("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"), BAD_CODING),
        case("TE: identity", chunked_as("Transfer-Encoding: identity\r\n"), BAD_CODING),
        case("TE: xchunked", chunked_as("Transfer-Encoding: xchunked\r\n"), BAD_CODING),
        case("TE: \"chunked\" in quotes", chunked_as("Transfer-Encoding: \"chunked\"\r\n"), BAD_CODING),
        case("TE: chunked with a parameter", chunked_as("Transfer-Encoding: chunked;x=1\r\n"), BAD_CODING),
        case("TE: VT before chunked", chunked_as("Transfer-Encoding: \x0bchunked\r\n"), BAD_CODING),
        case("TE: VT after chunked", chunked_as("Transfer-Encoding: chunked\x0b\r\n"), BAD_CODING),
        case("TE: tab before chunked (white space, legal)", post("Transfer-Encoding:\tchunked\r\n", &chunks(BODY)), RefusedOrForwarded(&[400])),
        case("TE: CHUNKED (names ignore case, legal)", post("Transfer-Encoding: CHUNKED\r\n", &chunks(BODY)), RefusedOrForwarded(&[400])),
        case(
            "HTTP/1.0 with TE",
            with_head("POST /v1/chat/completions HTTP/1.0\r\nHost: gateway.test", "Transfer-Encoding: chunked\r\n", &chunks(BODY)),
            BAD_CODING,
        ),
        case("chunk extensions (pinned: accepted and dropped)", chunked(&format!("{:x};a=\"b\"\r\n{BODY}\r\n0\r\n\r\n", BODY.len())), Forwarded),
        case("chunk size that is no number", chunked(&format!("zz\r\n{BODY}\r\n0\r\n\r\n")), BAD),
        case("chunk size with 0x", chunked(&format!("0x{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len())), BAD),
        case("chunk size below zero", chunked(&format!("-1\r\n{BODY}\r\n0\r\n\r\n")), BAD),
        case("chunk size over 64 bits", chunked(&format!("fffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n")), BAD_LENGTH),
        case("chunk size empty", chunked(&format!("\r\n{BODY}\r\n0\r\n\r\n")), BAD),
        case("chunk longer than its size", chunked(&format!("2\r\n{BODY}\r\n0\r\n\r\n")), BAD),
        case("endless chunk-size line", chunked(&"1".repeat(1 << 20)), BAD_LENGTH),
        case("endless chunk extension", chunked(&format!("5;{}", "x".repeat(1 << 20))), BAD_LENGTH),
        case("request trailers are not forwarded", chunked(&chunks(BODY).replace("0\r\n\r\n", "0\r\nAuthorization: Bearer x\r\nX-Trailer: 1\r\n\r\n")), RefusedOrForwarded(&[400])),
        case("no body and no length", post("", ""), Refused(&[400, 411])),
        case("Content-Length: 0", post("Content-Length: 0\r\n", ""), Refused(&[400])),
        case("two requests at once (pinned: the second is dropped)", format!("{}{}", sized(""), sized("")), Forwarded),
        case("Upgrade with bytes behind the request", format!("{}{}", sized("Connection: upgrade\r\nUpgrade: foo\r\n"), smuggled()), RefusedOrForwarded(&[400])),
        case("Upgrade to h2c", sized("Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), RefusedOrForwarded(&[400])),
        case("HTTP/0.9", "GET /v1/models\r\n", Closed),
        case("HTTP/1.0 without Host (strict)", with_host("").replace("HTTP/1.1", "HTTP/1.0"), Refused(&[400, 505])),
        case("HTTP/1.2", sized("").replacen("HTTP/1.1", "HTTP/1.2", 1), RefusedAndClosed(&[400, 505])),
        case("HTTP/2.0 in a request line", sized("").replacen("HTTP/1.1", "HTTP/2.0", 1), Closed),
        case("an empty line before the request (legal)", format!("\r\n{}", sized("")), RefusedOrForwarded(&[400])),
    ]
}

fn header_cases() -> Vec<Case> {
    let many: String = (0..1000).map(|i| format!("X-H{i}: 1\r\n")).collect();
    vec![
        case("obs-fold", sized("X-A: 1\r\n 2\r\n"), BAD),
        case("obs-fold in Transfer-Encoding", chunked_as("Transfer-Encoding:\r\n chunked\r\n"), BAD),
        case("bare CR in a value", sized("X-A: 1\r2\r\n"), BAD),
        case("NUL in a value", sized("X-A: 1\x002\r\n"), BAD),
        case("space before the colon", post(&format!("Content-Length : {}\r\n", BODY.len()), BODY), BAD),
        case("tab before the colon", chunked_as("Transfer-Encoding\t: chunked\r\n"), BAD),
        case("a line without a colon", sized("X-A\r\n"), BAD),
        case("an empty header name", sized(": 1\r\n"), BAD),
        case("a header name that is no token", sized("X(A): 1\r\n"), BAD),
        case("a first header line that starts with a space", sized("").replacen("Host", " Host", 1), BAD),
        case("bare LF line ends (pinned: accepted, normalised)", sized("").replace("\r\n", "\n"), Forwarded),
        case("1000 headers", sized(&many), RefusedAndClosed(&[400, 431])),
        case("a header of 1 MiB", sized(&format!("X-A: {}\r\n", "a".repeat(1 << 20))), RefusedAndClosed(&[400, 431])),
        case("a target of 1 MiB", with_target(&format!("/v1/chat/completions?{}", "a".repeat(1 << 20))), RefusedAndClosed(&[400, 414, 431])),
        case("an underscore header is not forwarded", sized("x_gw_user: root\r\nContent_Length: 3\r\n"), RefusedOrForwarded(&[400])),
        case(
            "what clients tell proxies is not forwarded",
            sized("Cookie: a=1\r\nProxy-Authorization: Basic eDp5\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=1\r\nX-Real-Ip: 1\r\nVia: 1.1 x\r\n"),
            Forwarded,
        ),
        case("Connection nominates the credentials", sized("Connection: authorization, content-type, host\r\n"), Forwarded),
        case("Connection nominates the length", sized("Connection: content-length, x-tollgate\r\n"), Forwarded),
        case("a header of upper-case letters is the same header", sized("").replace("Authorization", "AUTHORIZATION"), ForwardedAs(|request| {
            assert_eq!(request.all("authorization"), ["Bearer upstream-key"]);
        })),
        case("two Authorization lines (strict)", sized("Authorization: Bearer other\r\n"), Refused(&[400, 401])),
        case("no key", sized("").replace("Authorization: Bearer {KEY}\r\n", ""), Refused(&[401])),
        case("a wrong key", sized("").replace("{KEY}", "sk-wrong"), Refused(&[401])),
        case("a key with bytes behind it", sized("").replace("{KEY}", "{KEY}x"), Refused(&[401])),
        case("an unknown Expect", sized("Expect: 200-maybe\r\n"), Refused(&[417])),
        case("a compressed body", sized("Content-Encoding: gzip\r\n"), Refused(&[415])),
        case("a body in two compressions", sized("Content-Encoding: br, zstd\r\n"), Refused(&[415])),
        case("a form", sized("").replace("application/json", "application/x-www-form-urlencoded").replace(BODY, &"a".repeat(BODY.len())), Refused(&[400, 415])),
    ]
}

fn host_and_target_cases() -> Vec<Case> {
    let mut cases = vec![
        case("no Host", with_host(""), Refused(&[400])),
        case("two equal Hosts", with_host("\r\nHost: gateway.test\r\nHost: gateway.test"), Refused(&[400])),
        case("two different Hosts", with_host("\r\nHost: gateway.test\r\nHost: other.test"), Refused(&[400])),
        case("absolute-form with another host (strict)", with_target("http://other.test/v1/chat/completions"), Refused(&[400])),
        case("absolute-form with user information", with_target("http://gateway.test@other.test/v1/chat/completions"), Refused(&[400])),
        case("TRACE", with_method("TRACE"), NO_METHOD),
        case("CONNECT", "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\nAuthorization: Bearer {KEY}\r\n\r\n", NO_METHOD),
        case("OPTIONS", with_method("OPTIONS"), NO_METHOD),
        case("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {KEY}\r\n\r\n", NO_METHOD),
        case("an unknown method", with_method("BREW"), NO_METHOD),
        case("a method in lower case", sized("").replacen("POST", "post", 1), NO_METHOD),
        case("a method that is no token", sized("").replacen("POST", "PO(ST", 1), Refused(&[400, 405])),
        case("GET where only POST is served", with_method("GET"), NO_METHOD),
        case("GET with a body", with_target("/v1/models").replacen("POST", "GET", 1), Refused(&[400, 413])),
    ];
    for host in ["a/?x=", "a@gateway.test", "gateway.test:99999", "gateway.test:80x", "gateway.test:", "", "a b", "a,b", "a#b", "[::1", "%67ateway.test", "gateway.test\\x"] {
        let name: &'static str = format!("Host: {host} (strict)").leak();
        cases.push(case(name, with_host(&format!("\r\nHost: {host}")), Refused(&[400])));
    }
    for target in [
        "/v1/../admin",
        "/v1/./chat/completions",
        "/v1/%2e%2e/admin",
        "/v1/%2E./admin",
        "/v1/chat%2fcompletions",
        "/v1%5cchat/completions",
        "/v1\\chat\\completions",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions;x",
        "/v1;x/chat/completions",
        "/V1/Chat/Completions",
        "/v1/chat/completions%00",
        "/v1/chat/completions%20",
        "/v1/ch%61t/completions",
        "/v1/chat/completions#x",
        "/v1/files/../chat/completions",
        "/v1/files/%2e%2e/chat/completions",
        "/metrics",
        "/api/config",
        "/smuggled",
        "*",
        "v1/chat/completions",
    ] {
        let name: &'static str = format!("target {target}").leak();
        cases.push(case(name, with_target(target), NO_ROUTE));
    }
    for (name, target) in [("a target with a space", "/v1/chat completions"), ("a target with a control byte", "/v1/chat\x01/completions")] {
        cases.push(case(name, with_target(target), Refused(&[400, 404])));
    }
    cases
}

fn body_cases() -> Vec<Case> {
    let mut broken_utf8 = plain("{KEY}", r#"{"model":"gpt-4o-mini","messages":[],"x":"?"}"#);
    let at = broken_utf8.iter().rposition(|b| *b == b'?').expect("the body has a question mark");
    broken_utf8[at] = 0xff;
    let deep = format!(r#"{{"model":"gpt-4o-mini","messages":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    vec![
        case("a model name with CRLF and a header", json(r#"{"model":"gpt-4o-mini\r\nX-Injected: 1","messages":[]}"#), NO_ROUTE),
        case("a model name with NUL", json(r#"{"model":"gpt-4o-mini\u0000","messages":[]}"#), NO_ROUTE),
        case("a model name with a path", json(r#"{"model":"../../admin","messages":[]}"#), NO_ROUTE),
        case("a provider's model name with CRLF", json(r#"{"model":"up/x\r\nX-Injected: 1","messages":[]}"#), NO_ROUTE),
        case("two model members", json(r#"{"model":"gpt-4o-mini","model":"other","messages":[]}"#), Refused(&[400])),
        case("two model members, one escaped", json(r#"{"model":"gpt-4o-mini","mod\u0065l":"other","messages":[]}"#), Refused(&[400])),
        case("model and Model (strict)", json(r#"{"model":"gpt-4o-mini","Model":"other","messages":[]}"#), Refused(&[400])),
        case("two stream members", json(r#"{"model":"gpt-4o-mini","stream":false,"stream":true,"messages":[]}"#), Refused(&[400])),
        case("bytes after the JSON", json(r#"{"model":"gpt-4o-mini","messages":[]}{"model":"other"}"#), Refused(&[400])),
        case("a byte order mark (strict)", json("\u{feff}{\"model\":\"gpt-4o-mini\",\"messages\":[]}"), Refused(&[400])),
        case("a comment", json(r#"{"model":"gpt-4o-mini",/* */"messages":[]}"#), Refused(&[400])),
        case("single quotes", json("{'model':'gpt-4o-mini','messages':[]}"), Refused(&[400])),
        case("invalid UTF-8", broken_utf8, Refused(&[400])),
        case("100,000 brackets", json(&deep), Refused(&[400])),
        case("an array", json("[]"), Refused(&[400])),
    ]
}

// === the tests ===

fn judge(expect: Expect, exchange: &Exchange, seen: &Seen, key: &str) -> Result<(), String> {
    let status = exchange.last().map(|reply| reply.status);
    let refused = |allowed: &[u16]| match status {
        Some(status) if allowed.contains(&status) => nothing_upstream(seen),
        other => Err(format!("status {other:?} instead of one of {allowed:?}")),
    };
    let forwarded = || match (status, exchange.last()) {
        (Some(200), Some(reply)) => {
            no_private_header(reply)?;
            one_clean_request(seen, BODY, key)
        }
        (other, _) => Err(format!("status {other:?} instead of 200")),
    };
    if let Some((name, _)) = exchange.last().and_then(|r| r.headers.iter().find(|(name, _)| name == "x-injected")) {
        return Err(format!("the reply has a header {name}"));
    }
    match expect {
        Refused(allowed) => refused(allowed),
        RefusedAndClosed(_) if !exchange.closed => Err(format!("status {status:?}, and the connection stayed open")),
        RefusedAndClosed(allowed) => refused(allowed),
        Closed if !exchange.closed => Err("the connection stayed open".to_owned()),
        Closed if status == Some(200) => Err("it was served".to_owned()),
        Closed => nothing_upstream(seen),
        Forwarded => forwarded().map(drop),
        ForwardedAs(check) => forwarded().map(check),
        RefusedOrForwarded(allowed) => match status {
            Some(200) => forwarded().map(drop),
            Some(_) | None => refused(allowed),
        },
    }
}

async fn run(cases: Vec<Case>, at_least: usize) {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let (mut failures, ran) = (Vec::new(), cases.len());
    for Case { name, send, expect } in cases {
        let until = match expect {
            RefusedAndClosed(_) | Closed => Until::Close,
            Refused(_) | Forwarded | ForwardedAs(_) | RefusedOrForwarded(_) => Until::Reply,
        };
        let answer = exchange(gateway.data, &fill_in(&send, &gateway.key), until).await;
        let judged = match seen_of(gateway.data, &gateway.key, &upstream).await {
            Ok(seen) => judge(expect, &answer, &seen, &gateway.key),
            Err(why) => Err(why),
        };
        if let Err(why) = judged {
            failures.push((name, why));
        }
    }
    report(failures, ran, at_least);
}

/// The bytes with every `{KEY}` replaced.
fn fill_in(send: &[u8], key: &str) -> Vec<u8> {
    let mut filled = Vec::with_capacity(send.len() + key.len());
    let mut rest = send;
    while let Some(at) = rest.windows(5).position(|w| w == b"{KEY}") {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(key.as_bytes());
        rest = &rest[at + 5..];
    }
    filled.extend_from_slice(rest);
    filled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_framing_never_reaches_a_provider() {
    run(framing_cases(), 45).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_or_private_headers_never_reach_a_provider() {
    run(header_cases(), 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confusing_host_target_or_method_never_reaches_a_provider() {
    run(host_and_target_cases(), 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_two_readers_read_differently_never_reaches_a_provider() {
    run(body_cases(), 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_with(upstream.address, "server:\n  body_limit: 64KB\n").await;
    // Not a byte of the body is sent: only a gateway that does not wait for it can answer.
    let declared = fill_in(post("Content-Length: 900000000\r\n", "").as_bytes(), &gateway.key);
    let answer = exchange(gateway.data, &declared, Until::Close).await;
    assert_eq!(answer.last().map(|reply| reply.status), Some(413));
    assert!(answer.closed, "what follows on this connection would be the body");

    // Never ended: only a gateway that counts while reading can answer.
    let endless = format!("10000\r\n{}\r\n", "a".repeat(0x10000)).repeat(4);
    let endless = fill_in(chunked(&endless).as_bytes(), &gateway.key);
    let answer = exchange(gateway.data, &endless, Until::Reply).await;
    assert_eq!(answer.last().map(|reply| reply.status), Some(413));

    nothing_upstream(&seen_of(gateway.data, &gateway.key, &upstream).await.expect("it goes on serving")).expect("nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_for_100_continue_gets_it_at_once() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let head = post(&format!("Content-Length: {}\r\nExpect: 100-continue\r\n", BODY.len()), "");
    let mut socket = TcpStream::connect(gateway.data).await.expect("the gateway listens");
    let mut buffer = BytesMut::new();
    socket.write_all(&fill_in(head.as_bytes(), &gateway.key)).await.expect("the head is taken");
    let interim = next_reply(&mut socket, &mut buffer).await.expect("an interim reply");
    assert_eq!(interim.status, 100);
    socket.write_all(BODY.as_bytes()).await.expect("the body is taken");
    let reply = next_reply(&mut socket, &mut buffer).await.expect("a final reply");
    assert_eq!(reply.status, 200);
    drop(socket);
    let seen = seen_of(gateway.data, &gateway.key, &upstream).await.expect("it goes on serving");
    one_clean_request(&seen, BODY, &gateway.key).expect("one clean request, without Expect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_would_be_refused_is_not_told_to_continue() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let head = post("Content-Length: 90\r\nExpect: 100-continue\r\n", "").replace("{KEY}", "sk-wrong");
    let answer = exchange(gateway.data, head.as_bytes(), Until::Reply).await;
    let statuses: Vec<_> = answer.replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [401]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_one_after_the_other_on_one_connection_are_kept_apart() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let mut socket = TcpStream::connect(gateway.data).await.expect("the gateway listens");
    let mut buffer = BytesMut::new();
    for turn in 0..20 {
        let body = format!(r#"{{"model":"gpt-4o-mini","messages":[],"turn":{turn}}}"#);
        socket.write_all(&plain(&gateway.key, &body)).await.expect("the connection is kept alive");
        let reply = next_reply(&mut socket, &mut buffer).await.expect("a reply");
        assert_eq!(reply.status, 200);
        let seen = upstream.take();
        one_clean_request(&seen, &body, &gateway.key).expect("one clean request");
    }
}
