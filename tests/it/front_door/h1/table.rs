//! The HTTP/1.1 cases as data: what is sent and what must come of it.
//!
//! Sources as in `h1`. Where the RFC leaves a choice the strict one is taken, and the case's name says so; `pinned` marks a
//! leniency that is known, harmless (what goes upstream is built anew) and must not change by accident.

use crate::front_door::Expect::{Closed, Forwarded, ForwardedAs, Refused, RefusedAndClosed, RefusedOrForwarded};
use crate::front_door::{BODY, Case, Expect, case, plain};

// === how a case is written ===

/// A chat request with these header lines after the usual ones, then this body. `{KEY}` becomes a valid key.
pub(super) fn post(headers: &str, body: &str) -> String {
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

pub(super) fn chunked(body: &str) -> String {
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

pub(super) fn framing_cases() -> Vec<Case> {
    let half = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    vec![
        case("a good request", sized(""), Forwarded),
        case("a good chunked request", chunked(&chunks(BODY)), Forwarded),
        case("CL.TE", post(half, &format!("0\r\n\r\n{}", smuggled())), BAD),
        case(
            "TE.CL",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &format!("{}{}", chunks(BODY), smuggled())),
            BAD,
        ),
        case(
            "two equal Content-Length (strict)",
            with_length(&format!(" {0}\r\nContent-Length: {0}", BODY.len())),
            BAD,
        ),
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
        case(
            "two TE lines, one identity",
            chunked_as("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
            BAD_CODING,
        ),
        case("TE: identity", chunked_as("Transfer-Encoding: identity\r\n"), BAD_CODING),
        case("TE: xchunked", chunked_as("Transfer-Encoding: xchunked\r\n"), BAD_CODING),
        case("TE: \"chunked\" in quotes", chunked_as("Transfer-Encoding: \"chunked\"\r\n"), BAD_CODING),
        case("TE: chunked with a parameter", chunked_as("Transfer-Encoding: chunked;x=1\r\n"), BAD_CODING),
        case("TE: VT before chunked", chunked_as("Transfer-Encoding: \x0bchunked\r\n"), BAD_CODING),
        case("TE: VT after chunked", chunked_as("Transfer-Encoding: chunked\x0b\r\n"), BAD_CODING),
        case(
            "TE: tab before chunked (white space, legal)",
            post("Transfer-Encoding:\tchunked\r\n", &chunks(BODY)),
            RefusedOrForwarded(&[400]),
        ),
        case(
            "TE: CHUNKED (names ignore case, legal)",
            post("Transfer-Encoding: CHUNKED\r\n", &chunks(BODY)),
            RefusedOrForwarded(&[400]),
        ),
        case(
            "HTTP/1.0 with TE",
            with_head(
                "POST /v1/chat/completions HTTP/1.0\r\nHost: gateway.test",
                "Transfer-Encoding: chunked\r\n",
                &chunks(BODY),
            ),
            BAD_CODING,
        ),
        case(
            "chunk extensions (pinned: accepted and dropped)",
            chunked(&format!("{:x};a=\"b\"\r\n{BODY}\r\n0\r\n\r\n", BODY.len())),
            Forwarded,
        ),
        case("chunk size that is no number", chunked(&format!("zz\r\n{BODY}\r\n0\r\n\r\n")), BAD),
        case("chunk size with 0x", chunked(&format!("0x{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len())), BAD),
        case("chunk size below zero", chunked(&format!("-1\r\n{BODY}\r\n0\r\n\r\n")), BAD),
        case("chunk size over 64 bits", chunked(&format!("fffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n")), BAD_LENGTH),
        case(
            "chunk size empty (an empty body or a bad one)",
            chunked(&format!("\r\n{BODY}\r\n0\r\n\r\n")),
            Refused(&[400]),
        ),
        case("chunk longer than its size", chunked(&format!("2\r\n{BODY}\r\n0\r\n\r\n")), BAD),
        case("endless chunk-size line", chunked(&"1".repeat(1 << 20)), BAD_LENGTH),
        case("endless chunk extension", chunked(&format!("5;{}", "x".repeat(1 << 20))), BAD_LENGTH),
        case(
            "request trailers are not forwarded",
            chunked(&chunks(BODY).replace("0\r\n\r\n", "0\r\nAuthorization: Bearer x\r\nX-Trailer: 1\r\n\r\n")),
            RefusedOrForwarded(&[400]),
        ),
        case("no body and no length", post("", ""), Refused(&[400, 411])),
        case("Content-Length: 0", post("Content-Length: 0\r\n", ""), Refused(&[400])),
        case("two requests at once (pinned: the second is dropped)", format!("{}{}", sized(""), sized("")), Forwarded),
        case(
            "Upgrade with bytes behind the request",
            format!("{}{}", sized("Connection: upgrade\r\nUpgrade: foo\r\n"), smuggled()),
            RefusedOrForwarded(&[400]),
        ),
        case(
            "Upgrade to h2c",
            sized("Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
            RefusedOrForwarded(&[400]),
        ),
        case("HTTP/1.0 without Host (strict)", with_host("").replace("HTTP/1.1", "HTTP/1.0"), Refused(&[400, 505])),
        case("HTTP/1.2", sized("").replacen("HTTP/1.1", "HTTP/1.2", 1), RefusedAndClosed(&[400, 505])),
        case("HTTP/2.0 in a request line", sized("").replacen("HTTP/1.1", "HTTP/2.0", 1), Closed),
        case("an empty line before the request (legal)", format!("\r\n{}", sized("")), RefusedOrForwarded(&[400])),
    ]
}

pub(super) fn header_cases() -> Vec<Case> {
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
        case(
            "a target of 1 MiB",
            with_target(&format!("/v1/chat/completions?{}", "a".repeat(1 << 20))),
            RefusedAndClosed(&[400, 414, 431]),
        ),
        case(
            "an underscore header is not forwarded",
            sized("x_gw_user: root\r\nContent_Length: 3\r\n"),
            RefusedOrForwarded(&[400]),
        ),
        case(
            "what clients tell proxies is not forwarded",
            sized(
                "Cookie: a=1\r\nProxy-Authorization: Basic eDp5\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=1\r\nX-Real-Ip: 1\r\nVia: 1.1 x\r\n",
            ),
            Forwarded,
        ),
        case(
            "Connection nominates the credentials",
            sized("Connection: authorization, content-type, host\r\n"),
            RefusedOrForwarded(&[400]),
        ),
        case(
            "Connection nominates the length",
            sized("Connection: content-length, x-tollgate\r\n"),
            RefusedOrForwarded(&[400]),
        ),
        case(
            "a header of upper-case letters is the same header",
            sized("").replace("Authorization", "AUTHORIZATION"),
            ForwardedAs(|request| {
                assert_eq!(request.all("authorization"), ["Bearer upstream-key"]);
            }),
        ),
        case("two Authorization lines (strict)", sized("Authorization: Bearer other\r\n"), Refused(&[400, 401])),
        case("no key", sized("").replace("Authorization: Bearer {KEY}\r\n", ""), Refused(&[401])),
        case("a wrong key", sized("").replace("{KEY}", "sk-wrong"), Refused(&[401])),
        case("a key with bytes behind it", sized("").replace("{KEY}", "{KEY}x"), Refused(&[401])),
        case("an unknown Expect", sized("Expect: 200-maybe\r\n"), Refused(&[417])),
        case("a compressed body", sized("Content-Encoding: gzip\r\n"), Refused(&[415])),
        case("a body in two compressions", sized("Content-Encoding: br, zstd\r\n"), Refused(&[415])),
        case(
            "a form",
            sized("")
                .replace("application/json", "application/x-www-form-urlencoded")
                .replace(BODY, &"a".repeat(BODY.len())),
            Refused(&[400, 415]),
        ),
    ]
}

pub(super) fn host_and_target_cases() -> Vec<Case> {
    let mut cases = vec![
        case("no Host", with_host(""), Refused(&[400])),
        case("two equal Hosts", with_host("\r\nHost: gateway.test\r\nHost: gateway.test"), Refused(&[400])),
        case("two different Hosts", with_host("\r\nHost: gateway.test\r\nHost: other.test"), Refused(&[400])),
        case(
            "absolute-form with another host (strict)",
            with_target("http://other.test/v1/chat/completions"),
            Refused(&[400]),
        ),
        case(
            "absolute-form with user information",
            with_target("http://gateway.test@other.test/v1/chat/completions"),
            Refused(&[400]),
        ),
        case("TRACE", with_method("TRACE"), NO_METHOD),
        case(
            "CONNECT",
            "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\nAuthorization: Bearer {KEY}\r\n\r\n",
            NO_METHOD,
        ),
        case("OPTIONS", with_method("OPTIONS"), NO_METHOD),
        case("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {KEY}\r\n\r\n", NO_METHOD),
        case("an unknown method", with_method("BREW"), NO_METHOD),
        case("a method in lower case", sized("").replacen("POST", "post", 1), NO_METHOD),
        case("a method that is no token", sized("").replacen("POST", "PO(ST", 1), Refused(&[400, 405])),
        case("GET where only POST is served", with_method("GET"), NO_METHOD),
        case("GET with a body", with_target("/v1/models").replacen("POST", "GET", 1), Refused(&[400, 413])),
    ];
    for host in [
        "a/?x=",
        "a@gateway.test",
        "gateway.test:99999",
        "gateway.test:80x",
        "gateway.test:",
        "",
        "a b",
        "a,b",
        "a#b",
        "[::1",
        "%67ateway.test",
        "gateway.test\\x",
    ] {
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
    for (name, target) in [
        ("a target with a space", "/v1/chat completions"),
        ("a target with a control byte", "/v1/chat\x01/completions"),
    ] {
        cases.push(case(name, with_target(target), Refused(&[400, 404])));
    }
    cases
}

pub(super) fn body_cases() -> Vec<Case> {
    let mut broken_utf8 = plain("{KEY}", r#"{"model":"gpt-4o-mini","messages":[],"x":"?"}"#);
    let at = broken_utf8.iter().rposition(|b| *b == b'?').expect("the body has a question mark");
    broken_utf8[at] = 0xff;
    let deep = format!(r#"{{"model":"gpt-4o-mini","messages":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    vec![
        case(
            "a model name with CRLF and a header",
            json(r#"{"model":"gpt-4o-mini\r\nX-Injected: 1","messages":[]}"#),
            NO_ROUTE,
        ),
        case("a model name with NUL", json(r#"{"model":"gpt-4o-mini\u0000","messages":[]}"#), NO_ROUTE),
        case("a model name with a path", json(r#"{"model":"../../admin","messages":[]}"#), NO_ROUTE),
        case("a provider's model name with CRLF", json(r#"{"model":"up/x\r\nX-Injected: 1","messages":[]}"#), NO_ROUTE),
        case("two model members", json(r#"{"model":"gpt-4o-mini","model":"other","messages":[]}"#), Refused(&[400])),
        case(
            "two model members, one escaped",
            json(r#"{"model":"gpt-4o-mini","mod\u0065l":"other","messages":[]}"#),
            Refused(&[400]),
        ),
        case(
            "model and Model (strict)",
            json(r#"{"model":"gpt-4o-mini","Model":"other","messages":[]}"#),
            Refused(&[400]),
        ),
        case(
            "two stream members",
            json(r#"{"model":"gpt-4o-mini","stream":false,"stream":true,"messages":[]}"#),
            Refused(&[400]),
        ),
        case(
            "bytes after the JSON",
            json(r#"{"model":"gpt-4o-mini","messages":[]}{"model":"other"}"#),
            Refused(&[400]),
        ),
        case(
            "a byte order mark (strict)",
            json("\u{feff}{\"model\":\"gpt-4o-mini\",\"messages\":[]}"),
            Refused(&[400]),
        ),
        case("a comment", json(r#"{"model":"gpt-4o-mini",/* */"messages":[]}"#), Refused(&[400])),
        case("single quotes", json("{'model':'gpt-4o-mini','messages':[]}"), Refused(&[400])),
        case("invalid UTF-8", broken_utf8, Refused(&[400])),
        case("100,000 brackets", json(&deep), Refused(&[400])),
        case("an array", json("[]"), Refused(&[400])),
    ]
}
