//! The front door: what is refused before any provider is called, and what exactly goes upstream when it is let in.
//!
//! Two tables of raw bytes, HTTP/1.1 (`h1`) and HTTP/2 frames (`h2`), judged by the upstream's own record of the wire, never
//! by the gateway's word. After each case a plain request is sent: it must be served, and nothing else may have arrived.
//!
//! The fixture these modules build on, in `support`:
//!
//! ```text
//! pub struct Gateway { pub data: SocketAddr, pub admin: SocketAddr, pub key: &'static str, .. }   // stopped when dropped
//! pub async fn gateway_to(upstream: SocketAddr) -> Gateway;
//! pub async fn gateway_with(upstream: SocketAddr, extra_yaml: &str) -> Gateway;   // whole top-level YAML sections
//!
//! providers: {up: {kind: openai, base_url: "http://UPSTREAM/v1", api_key: upstream-key}}
//! models:    {gpt-4o-mini: up/gpt-4o-mini}     # the same name, so that the body needs no patch
//! ```

mod h1;
mod h2;

use std::net::SocketAddr;

use crate::support::raw::{RawReply, RawRequest, RawUpstream, Seen, UPSTREAM_SECRET, Until, exchange};

/// A chat body that the gateway has no reason to change.
const BODY: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}],"x_unknown":[1.0,1e3]}"#;

/// The request sent after each case.
const SENTINEL: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"sentinel"}]}"#;

/// What must be among the headers sent upstream, and what else may be: nothing outside these two lists.
const SENT_ALWAYS: [&str; 4] = ["authorization", "content-length", "content-type", "host"];
const SENT_PERHAPS: [&str; 4] = ["accept", "accept-encoding", "user-agent", "x-request-id"];

#[derive(Clone, Copy)]
enum Expect {
    /// One of these statuses, and not a byte upstream. The connection may live on.
    Refused(&'static [u16]),
    /// One of these statuses, then the end of the connection: after a framing error nothing on it can be trusted.
    RefusedAndClosed(&'static [u16]),
    /// The end of the connection, whether or not something was answered (HTTP/2: or of the stream, with no success).
    Closed,
    /// Exactly one request upstream, in the gateway's own words, with the body's own bytes, and 200 to the client.
    Forwarded,
    /// The same, and this too.
    ForwardedAs(fn(&RawRequest)),
    /// Both are right by the RFC: refused with one of these, or forwarded as above; never anything between.
    RefusedOrForwarded(&'static [u16]),
}

struct Case {
    name: &'static str,
    send: Vec<u8>,
    expect: Expect,
}

fn case(name: &'static str, send: impl Into<Vec<u8>>, expect: Expect) -> Case {
    Case { name, send: send.into(), expect }
}

/// A complete, harmless request.
fn plain(key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What the upstream saw of a case. Serves a plain request first, so that whatever the case left behind has had its chance to
/// arrive, and takes that request out of the record again.
async fn seen_of(gateway: SocketAddr, key: &str, upstream: &RawUpstream) -> Result<Seen, String> {
    let answer = exchange(gateway, &plain(key, SENTINEL), Until::Reply).await;
    let mut seen = upstream.take();
    match answer.last().map(|reply| reply.status) {
        Some(200) => {}
        other => return Err(format!("a plain request afterwards got {other:?}")),
    }
    match seen.requests.pop() {
        Some(last) if last.body == SENTINEL.as_bytes() => {
            seen.bytes.truncate(seen.bytes.len() - last.length);
            Ok(seen)
        }
        other => Err(format!("the plain request afterwards reached the upstream as {other:?}")),
    }
}

fn nothing_upstream(seen: &Seen) -> Result<(), String> {
    if seen.bytes.is_empty() {
        return Ok(());
    }
    Err(format!("{} bytes reached the upstream: {}", seen.bytes.len(), String::from_utf8_lossy(&seen.bytes)))
}

/// Exactly one request, nothing beside it, and nothing in it that the gateway did not put there itself.
fn one_clean_request<'a>(seen: &'a Seen, body: &str, client_key: &str) -> Result<&'a RawRequest, String> {
    let [request] = seen.requests.as_slice() else {
        return Err(format!("{} requests reached the upstream ({:?})", seen.requests.len(), seen.broken));
    };
    if request.length != seen.bytes.len() || !seen.broken.is_empty() {
        return Err(format!("bytes beside the request: {}", String::from_utf8_lossy(&seen.bytes)));
    }
    if request.line != "POST /v1/chat/completions HTTP/1.1" {
        return Err(format!("the upstream's request line is {:?}", request.line));
    }
    if request.body != body.as_bytes() {
        return Err(format!("the upstream's body is {}", String::from_utf8_lossy(&request.body)));
    }
    if request.all("authorization") != ["Bearer upstream-key"] {
        return Err(format!("the upstream's authorization is {:?}", request.all("authorization")));
    }
    if let Some(name) = SENT_ALWAYS.into_iter().find(|name| request.all(name).len() != 1) {
        return Err(format!("{name} was sent {} times", request.all(name).len()));
    }
    for (name, _) in &request.headers {
        let allowed = SENT_ALWAYS.iter().chain(&SENT_PERHAPS).any(|n| n == name);
        if !allowed || request.all(name).len() != 1 {
            return Err(format!("header {name} went upstream: {:?}", request.headers));
        }
    }
    if String::from_utf8_lossy(&seen.bytes).contains(client_key) {
        return Err("the client's key went upstream".to_owned());
    }
    Ok(request)
}

/// No header of the upstream's private ones, whatever their names.
fn no_private_header(reply: &RawReply) -> Result<(), String> {
    match reply.headers.iter().find(|(_, value)| value.contains(UPSTREAM_SECRET)) {
        Some((name, _)) => Err(format!("the upstream's {name} header reached the client")),
        None => Ok(()),
    }
}

/// Fails with every case that failed, by name.
fn report(failures: Vec<(&'static str, String)>, ran: usize, at_least: usize) {
    let lines: Vec<_> = failures.iter().map(|(name, why)| format!("  {name}: {why}")).collect();
    assert!(failures.is_empty(), "{} of {ran} cases failed:\n{}", failures.len(), lines.join("\n"));
    assert!(ran >= at_least, "only {ran} cases in a table of at least {at_least}");
}
