//! The HTTP/2 table: frames and header lists that a client library would never send, each on its own connection (h2c with
//! prior knowledge), and the floods.
//!
//! Source: RFC 9113 8.1-8.3 (malformed messages), 8.2.2 (connection-specific fields), 10.5 (denial of service); the published
//! attacks by rapid reset, CONTINUATION, empty DATA and HPACK expansion. A malformed message may be answered with 400 or with
//! a stream or connection error: all are refusals, and none may reach a provider.

use std::time::Duration;

use tokio::time::Instant;

use super::Expect::{Closed, Forwarded, ForwardedAs, Refused, RefusedAndClosed, RefusedOrForwarded};
use super::{BODY, Case, Expect, case, nothing_upstream, one_clean_request, report, seen_of};
use crate::support::raw::h2::{Connection, Outcome, block, data, flag, frame, headers, kind};
use crate::support::raw::{RawUpstream, Seen, UPSTREAM_REPLY};
use crate::support::{Gateway, gateway_to, gateway_with};

const PATIENCE: Duration = Duration::from_secs(5);

type Fields = Vec<(&'static str, &'static str)>;

// === how a case is written ===

/// The good header list. The key is put in by `good`.
fn good(key: &'static str) -> Fields {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/chat/completions"),
        (":authority", "gateway.test"),
        ("authorization", key),
        ("content-type", "application/json"),
    ]
}

/// HEADERS and the whole body.
fn request(fields: &Fields) -> Vec<u8> {
    [headers(1, fields, 0), data(1, BODY.as_bytes(), flag::END_STREAM)].concat()
}

/// The good list with fields after it.
fn and(key: &'static str, more: &[(&'static str, &'static str)]) -> Vec<u8> {
    request(&[good(key), more.to_vec()].concat())
}

/// The good list with one field's value changed, or the field left out.
fn but(key: &'static str, name: &str, value: Option<&'static str>) -> Vec<u8> {
    let mut fields = good(key);
    match value {
        Some(value) => fields.iter_mut().filter(|(n, _)| *n == name).for_each(|field| field.1 = value),
        None => fields.retain(|(n, _)| *n != name),
    }
    request(&fields)
}

/// Refused by the front door, or by the protocol as malformed: `judge` takes a reset or a GOAWAY for both.
const MALFORMED: Expect = Refused(&[400]);
const NO_ROUTE: Expect = Refused(&[400, 404]);

// === the table ===

fn field_cases(key: &'static str) -> Vec<Case> {
    let long: &'static str = "a".repeat(20_000).leak();
    let oversized: Vec<_> = std::iter::repeat_n(("x-a", long), 8).collect();
    let many: Vec<_> = std::iter::repeat_n(("x-a", "1"), 3000).collect();
    let mut pseudo_last = good(key);
    pseudo_last.rotate_left(1);
    vec![
        case("a good request", and(key, &[]), Forwarded),
        case("te: trailers (legal) is not forwarded", and(key, &[("te", "trailers")]), Forwarded),
        case("te: gzip", and(key, &[("te", "gzip")]), MALFORMED),
        case("connection", and(key, &[("connection", "keep-alive")]), MALFORMED),
        case("connection nominates the credentials", and(key, &[("connection", "authorization")]), MALFORMED),
        case("transfer-encoding", and(key, &[("transfer-encoding", "chunked")]), MALFORMED),
        case("upgrade", and(key, &[("upgrade", "foo")]), MALFORMED),
        case("keep-alive", and(key, &[("keep-alive", "timeout=5")]), MALFORMED),
        case("proxy-connection", and(key, &[("proxy-connection", "keep-alive")]), MALFORMED),
        case("an upper-case name", and(key, &[("X-A", "1")]), MALFORMED),
        case("CRLF in a value", and(key, &[("x-a", "1\r\nx-injected: 1")]), MALFORMED),
        case("LF in a value", and(key, &[("x-a", "1\nx-injected: 1")]), MALFORMED),
        case("NUL in a value", and(key, &[("x-a", "1\x002")]), MALFORMED),
        case("CRLF in a name", and(key, &[("x-a: 1\r\nx-injected", "1")]), MALFORMED),
        case("a space in a name", and(key, &[("x a", "1")]), MALFORMED),
        case("a colon in a name", and(key, &[("x:a", "1")]), MALFORMED),
        case("an empty name", and(key, &[("", "1")]), MALFORMED),
        case("an underscore header is not forwarded", and(key, &[("x_gw_user", "root")]), RefusedOrForwarded(&[400])),
        case(
            "what clients tell proxies is not forwarded",
            and(key, &[("cookie", "a=1"), ("x-forwarded-for", "10.0.0.1")]),
            Forwarded,
        ),
        case("a header list of 160 KB", and(key, &oversized), Refused(&[400, 431])),
        case("a header list of 3000 fields", and(key, &many), Refused(&[400, 431])),
        case(":path with a space", but(key, ":path", Some("/v1/chat/completions HTTP/1.1")), NO_ROUTE),
        case(":path with CRLF", but(key, ":path", Some("/v1/chat/completions HTTP/1.1\r\nx: ")), NO_ROUTE),
        case(":path with dot segments", but(key, ":path", Some("/v1/../admin")), NO_ROUTE),
        case(":path with escaped dot segments", but(key, ":path", Some("/v1/%2e%2e/admin")), NO_ROUTE),
        case(":path with two slashes", but(key, ":path", Some("//v1/chat/completions")), NO_ROUTE),
        case(":path without a slash", but(key, ":path", Some("v1/chat/completions")), NO_ROUTE),
        case(":path empty", but(key, ":path", Some("")), NO_ROUTE),
        case(":path *", but(key, ":path", Some("*")), NO_ROUTE),
        case(":path as a whole address", but(key, ":path", Some("http://other.test/v1/chat/completions")), NO_ROUTE),
        case(":scheme ftp", but(key, ":scheme", Some("ftp")), MALFORMED),
        case("no :method", but(key, ":method", None), MALFORMED),
        case("no :path", but(key, ":path", None), MALFORMED),
        case("no :scheme", but(key, ":scheme", None), MALFORMED),
        case("neither :authority nor host", but(key, ":authority", None), MALFORMED),
        case(":authority with a path", but(key, ":authority", Some("a/?x=")), MALFORMED),
        case(
            ":authority with user information (RFC 9113 8.3.1)",
            but(key, ":authority", Some("a@gateway.test")),
            MALFORMED,
        ),
        case(":authority with a bad port", but(key, ":authority", Some("gateway.test:99999")), MALFORMED),
        case("host that is not :authority", and(key, &[("host", "other.test")]), MALFORMED),
        case("two :path", request(&[vec![(":path", "/admin")], good(key)].concat()), MALFORMED),
        case("two :method", request(&[vec![(":method", "GET")], good(key)].concat()), MALFORMED),
        case("a pseudo-header after a regular one", request(&pseudo_last), MALFORMED),
        case("an unknown pseudo-header", request(&[vec![(":gate", "1")], good(key)].concat()), MALFORMED),
        case(":status in a request", request(&[vec![(":status", "200")], good(key)].concat()), MALFORMED),
        case(
            "CONNECT",
            headers(1, &[(":method", "CONNECT"), (":authority", "other.test:443"), ("authorization", key)], 0),
            Refused(&[400, 404, 405, 501]),
        ),
        case(
            "extended CONNECT nobody offered",
            request(&[vec![(":protocol", "websocket")], good(key)].concat()),
            MALFORMED,
        ),
        case("TRACE", but(key, ":method", Some("TRACE")), Refused(&[400, 404, 405, 501])),
        case("an unknown method", but(key, ":method", Some("BREW")), Refused(&[400, 404, 405, 501])),
        case("a compressed body", and(key, &[("content-encoding", "gzip")]), Refused(&[415])),
        case("a wrong key", but(key, "authorization", Some("Bearer sk-wrong")), Refused(&[401])),
        case("no key", but(key, "authorization", None), Refused(&[401])),
    ]
}

fn frame_cases(key: &'static str) -> Vec<Case> {
    let with_length = |value: &'static str| [good(key), vec![("content-length", value)]].concat();
    let head = |flags| headers(1, &good(key), flags);
    vec![
        case("content-length above the DATA", request(&with_length("9000")), MALFORMED),
        case("content-length below the DATA", request(&with_length("4")), MALFORMED),
        case("content-length and no DATA", headers(1, &with_length("90"), flag::END_STREAM), MALFORMED),
        case("two content-lengths", request(&[with_length("4"), vec![("content-length", "90")]].concat()), MALFORMED),
        case("content-length that is no number", request(&with_length("+90")), MALFORMED),
        case("no body", head(flag::END_STREAM), Refused(&[400, 411])),
        case("a body in one-byte frames", bytewise(head(0)), Forwarded),
        case(
            "trailers are not forwarded",
            [
                head(0),
                data(1, BODY.as_bytes(), 0),
                headers(1, &[("authorization", "Bearer x"), ("x-trailer", "1")], flag::END_STREAM),
            ]
            .concat(),
            Forwarded,
        ),
        case(
            "a pseudo-header among the trailers (dropped or refused)",
            [head(0), data(1, BODY.as_bytes(), 0), headers(1, &[(":path", "/admin")], flag::END_STREAM)].concat(),
            RefusedOrForwarded(&[400]),
        ),
        case(
            "DATA after the end of the stream",
            [request(&good(key)), data(1, b"more", 0)].concat(),
            RefusedOrForwarded(&[400]),
        ),
        case("DATA before HEADERS", data(1, BODY.as_bytes(), flag::END_STREAM), RefusedAndClosed(&[])),
        case("DATA on stream 0", data(0, BODY.as_bytes(), 0), RefusedAndClosed(&[])),
        case("HEADERS on an even stream", headers(2, &good(key), flag::END_STREAM), RefusedAndClosed(&[])),
        case(
            "CONTINUATION out of nowhere",
            frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block(&good(key))),
            RefusedAndClosed(&[]),
        ),
        case(
            "DATA between HEADERS and CONTINUATION",
            [frame(kind::HEADERS, 0, 1, &block(&good(key))), data(1, b"x", 0)].concat(),
            RefusedAndClosed(&[]),
        ),
        case(
            "a frame above the allowed size",
            frame(kind::HEADERS, flag::END_HEADERS, 1, &vec![0; 16_385]),
            RefusedAndClosed(&[]),
        ),
        case(
            "a header block that is no HPACK",
            frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xff; 20]),
            RefusedAndClosed(&[]),
        ),
        case("a PING of 7 bytes", frame(kind::PING, 0, 0, &[0; 7]), RefusedAndClosed(&[])),
        case("SETTINGS of 5 bytes", frame(kind::SETTINGS, 0, 0, &[0; 5]), RefusedAndClosed(&[])),
        case("a window update of 0", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), RefusedAndClosed(&[])),
        case(
            "a window above 2^31-1",
            frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            RefusedAndClosed(&[]),
        ),
    ]
}

fn bytewise(mut bytes: Vec<u8>) -> Vec<u8> {
    let (last, rest) = BODY.as_bytes().split_last().expect("the body is not empty");
    rest.iter().for_each(|byte| bytes.extend(data(1, &[*byte], 0)));
    bytes.extend(data(1, &[*last], flag::END_STREAM));
    bytes
}

// === the tests ===

fn judge(expect: Expect, outcome: &Outcome, seen: &Seen, key: &str) -> Result<(), String> {
    let refused = |allowed: &[u16]| match outcome.status() {
        Some(status) if allowed.contains(&status) => nothing_upstream(seen),
        None if outcome.broken_off() => nothing_upstream(seen),
        Some(_) | None => Err(format!("neither one of {allowed:?} nor broken off: {outcome:?}")),
    };
    let forwarded = || {
        if outcome.status() != Some(200) || outcome.body != UPSTREAM_REPLY.as_bytes() {
            return Err(format!("not served: {outcome:?}"));
        }
        one_clean_request(seen, BODY, key)
    };
    match expect {
        Refused(allowed) => refused(allowed),
        RefusedAndClosed(_) | Closed if !(outcome.closed || outcome.goaway.is_some_and(|code| code != 0)) => {
            Err(format!("the connection was not given up: {outcome:?}"))
        }
        RefusedAndClosed(_) | Closed => nothing_upstream(seen),
        Forwarded => forwarded().map(drop),
        ForwardedAs(check) => forwarded().map(check),
        RefusedOrForwarded(allowed) => match outcome.status() {
            Some(200) => forwarded().map(drop),
            Some(_) | None => refused(allowed),
        },
    }
}

async fn run(cases: impl FnOnce(&'static str) -> Vec<Case>, at_least: usize) {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let cases = cases(bearer(&gateway));
    let (mut failures, ran) = (Vec::new(), cases.len());
    for Case { name, send, expect } in cases {
        let mut connection = Connection::open(gateway.data).await;
        connection.send(&send).await;
        // A connection error is listened for on stream 0, which never carries an answer.
        let stream = if matches!(expect, RefusedAndClosed(_) | Closed) { 0 } else { 1 };
        let outcome = connection.outcome(stream, PATIENCE).await;
        let judged = match seen_of(gateway.data, gateway.key, &upstream).await {
            Ok(seen) => judge(expect, &outcome, &seen, gateway.key),
            Err(why) => Err(why),
        };
        if let Err(why) = judged {
            failures.push((name, why));
        }
    }
    report(failures, ran, at_least);
}

/// The header value with the valid key, for as long as the tests run.
fn bearer(gateway: &Gateway) -> &'static str {
    format!("Bearer {}", gateway.key).leak()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_h2_header_list_never_reaches_a_provider() {
    run(field_cases, 45).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_h2_frames_never_reach_a_provider() {
    run(frame_cases, 20).await;
}

/// Sends in pieces until the gateway gives up the connection, and says whether it did.
async fn flood(gateway: &Gateway, pieces: impl Iterator<Item = Vec<u8>>) -> Outcome {
    let mut connection = Connection::open(gateway.data).await;
    for piece in pieces {
        if !connection.send(&piece).await {
            break;
        }
    }
    connection.outcome(0, PATIENCE).await
}

/// A client on another connection is served at once, and nothing of the flood reached the upstream.
async fn others_are_served(gateway: &Gateway, upstream: &RawUpstream) {
    let began = Instant::now();
    let seen = seen_of(gateway.data, gateway.key, upstream).await.expect("other clients are served");
    assert!(began.elapsed() < Duration::from_secs(2), "another client waited {:?}", began.elapsed());
    nothing_upstream(&seen).expect("nothing of it reached the upstream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_floods_end_the_connection_and_nobody_elses() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let key = bearer(&gateway);

    let resets = (0..5000_u32).map(|i| {
        let stream = 2 * i + 1;
        [headers(stream, &good(key), 0), frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let outcome = flood(&gateway, resets).await;
    assert!(outcome.broken_off(), "rapid reset: {outcome:?}");
    others_are_served(&gateway, &upstream).await;

    let first = std::iter::once(frame(kind::HEADERS, 0, 1, &block(&good(key))));
    let continuations = (0..5000).map(|_| frame(kind::CONTINUATION, 0, 1, &block(&[("x-a", "1")])));
    let outcome = flood(&gateway, first.chain(continuations)).await;
    assert!(outcome.broken_off(), "CONTINUATION flood: {outcome:?}");
    others_are_served(&gateway, &upstream).await;

    let first = std::iter::once(headers(1, &good(key), 0));
    let empty = (0..50_000).map(|_| data(1, b"", 0));
    let outcome = flood(&gateway, first.chain(empty)).await;
    assert!(outcome.broken_off(), "empty DATA flood: {outcome:?}");
    others_are_served(&gateway, &upstream).await;

    // One field of 4000 bytes enters the dynamic table (0x40), then a byte each (0xbe, entry 62) refers to it: 64 MB a block.
    let mut bomb = block(&good(key));
    bomb.extend_from_slice(&[0x40, 3, b'x', b'-', b'b', 127, 0xa1, 0x1e]);
    bomb.extend(std::iter::repeat_n(b'b', 4000));
    bomb.extend(std::iter::repeat_n(0xbe, 12_000));
    let bombs = (0..100_u32).map(|i| frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 2 * i + 1, &bomb));
    let mut connection = Connection::open(gateway.data).await;
    for bomb in bombs {
        if !connection.send(&bomb).await {
            break;
        }
    }
    let outcome = connection.outcome(1, PATIENCE).await;
    assert!(outcome.broken_off() || matches!(outcome.status(), Some(400 | 431)), "HPACK bomb: {outcome:?}");
    others_are_served(&gateway, &upstream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_h2_settings_or_ping_flood_holds_nobody_else_up() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    for (kind, payload) in [(kind::SETTINGS, &[][..]), (kind::PING, &[0; 8][..])] {
        let piece = frame(kind, 0, 0, payload).repeat(1000);
        let mut connection = Connection::open(gateway.data).await;
        // Nothing is read: the answers pile up, in the gateway or, where it stops reading, in the socket.
        for _ in 0..100 {
            let sent = tokio::time::timeout(Duration::from_millis(200), connection.send(&piece)).await;
            if sent != Ok(true) {
                break;
            }
        }
        others_are_served(&gateway, &upstream).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_h2_connection_cannot_open_more_than_a_hundred_streams() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let key = bearer(&gateway);
    let mut connection = Connection::open(gateway.data).await;
    // Each waits for its body, so that all are open at once.
    for i in 0..110 {
        connection.send(&headers(2 * i + 1, &good(key), 0)).await;
    }
    let (mut refused, deadline) = (0, Instant::now() + PATIENCE);
    while refused < 10 {
        match connection.next(deadline).await.expect("streams are refused in time") {
            // REFUSED_STREAM, RFC 9113 7
            Some(frame) if frame.kind == kind::RST_STREAM && frame.payload == 7_u32.to_be_bytes() => refused += 1,
            Some(_) => {}
            None => return others_are_served(&gateway, &upstream).await,
        }
    }
    others_are_served(&gateway, &upstream).await;
}

/// Pingora 0.9.1 cannot send an interim response on HTTP/2. A client does not wait for ever (RFC 9110 10.1.1): it sends its body
/// after a while, and is served then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_h2_client_that_expects_100_continue_is_served_once_it_sends_its_body() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let mut connection = Connection::open(gateway.data).await;
    let fields = [good(bearer(&gateway)), vec![("expect", "100-continue")]].concat();
    connection.send(&headers(1, &fields, 0)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    connection.send(&data(1, BODY.as_bytes(), flag::END_STREAM)).await;
    let outcome = connection.outcome(1, PATIENCE).await;
    assert_eq!(outcome.status(), Some(200), "{outcome:?}");
    let seen = seen_of(gateway.data, gateway.key, &upstream).await.expect("it goes on serving");
    one_clean_request(&seen, BODY, gateway.key).expect("one clean request, without Expect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_h2_body_over_the_limit_is_refused() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_with(upstream.address, "server:\n  body_limit: 32KB\n").await;
    let key = bearer(&gateway);
    let declared = [good(key), vec![("content-length", "900000000")]].concat();
    for bytes in [headers(1, &declared, 0), [headers(1, &good(key), 0), data(1, &[b' '; 16_384], 0).repeat(3)].concat()]
    {
        let mut connection = Connection::open(gateway.data).await;
        connection.send(&bytes).await;
        let outcome = connection.outcome(1, PATIENCE).await;
        assert_eq!(outcome.status(), Some(413), "{outcome:?}");
    }
    others_are_served(&gateway, &upstream).await;
}
