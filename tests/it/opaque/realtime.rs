//! The realtime API: a WebSocket through the gateway, spoken here with raw sockets (RFC 6455).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::simulator::Outcome;

use super::{NARROW, gateway_with_keys, noise};
use crate::support::raw::{RawUpstream, Until, exchange};
use crate::support::{Gateway, KEY, UPSTREAM_KEY, client, eventually, upstream};

/// The opening handshake of RFC 6455 1.3, with its example key.
fn handshake(target: &str, key: &str, protocols: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {protocols}\r\nOrigin: http://page.example\r\nAuthorization: Bearer {key}\r\n\r\n"
    )
}

struct WebSocket {
    socket: TcpStream,
    buffer: BytesMut,
    head: String,
}

impl WebSocket {
    async fn open(gateway: &Gateway, target: &str, key: &str, protocols: &str) -> WebSocket {
        let mut socket = TcpStream::connect(gateway.data).await.expect("the gateway listens");
        socket.write_all(handshake(target, key, protocols).as_bytes()).await.expect("it is taken");
        let mut buffer = BytesMut::new();
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(read_more(&mut socket, &mut buffer).await, "closed: {}", String::from_utf8_lossy(&buffer));
        };
        let head = String::from_utf8(buffer.split_to(end).to_vec()).expect("ASCII");
        WebSocket { socket, buffer, head }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }

    /// A frame as a client sends it: masked (RFC 6455 5.3).
    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![0x80 | opcode];
        match u16::try_from(payload.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | u8::try_from(length).expect("below 126")),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.socket.write_all(&frame).await.expect("it is taken");
    }

    /// The next frame: opcode and payload. `None`: the connection has ended.
    async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some((opcode, header, length)) = self.complete() {
                let frame = self.buffer.split_to(header + length).freeze();
                return Some((opcode, frame.slice(header..)));
            }
            if !read_more(&mut self.socket, &mut self.buffer).await {
                return None;
            }
        }
    }

    fn complete(&self) -> Option<(u8, usize, usize)> {
        let [first, second, ..] = self.buffer[..] else { return None };
        let (header, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(self.buffer.get(2..10)?.try_into().ok()?)).ok()?),
            short => (2, usize::from(short)),
        };
        (self.buffer.len() >= header + length).then_some((first & 0x0f, header, length))
    }
}

async fn read_more(socket: &mut TcpStream, buffer: &mut BytesMut) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read_buf(buffer)).await;
    read.expect("something within five seconds").is_ok_and(|n| n > 0)
}

#[tokio::test]
async fn a_realtime_session_passes_both_ways() {
    let upstream = upstream().await;
    let gateway = gateway_with_keys(upstream.address).await;
    let protocols = "realtime, openai-insecure-api-key.sk-canary, openai-beta.realtime-v1";
    let mut socket = WebSocket::open(&gateway, "/v1/realtime?x=1&model=voice", NARROW, protocols).await;
    assert!(socket.head.starts_with("HTTP/1.1 101 "), "{}", socket.head);
    assert_eq!(socket.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455 1.3");
    assert_eq!(socket.header("sec-websocket-protocol"), Some("realtime"));
    assert!(socket.header("x-request-id").is_some(), "{}", socket.head);

    let call = upstream.record().last().expect("a call");
    assert_eq!(
        call.path_and_query, "/v1/realtime?model=gpt-realtime&x=1",
        "the alias is turned into the provider's name"
    );
    assert_eq!(call.header("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
    assert_eq!(call.header("sec-websocket-protocol"), Some("realtime, openai-beta.realtime-v1"));
    assert_eq!(call.header("origin"), None);
    assert!(!format!("{:?}", call.headers).contains("canary") && !format!("{:?}", call.headers).contains(NARROW));

    let (opcode, greeting) = socket.next().await.expect("a greeting");
    let greeting: Value = serde_json::from_slice(&greeting).expect("JSON");
    assert_eq!(
        (opcode, &greeting["type"], &greeting["session"]["model"]),
        (1, &json!("session.created"), &json!("gpt-realtime"))
    );
    for number in 0..20 {
        let said = format!("h\u{e9}llo {number}");
        socket.send(1, said.as_bytes()).await;
        let (opcode, answer) = socket.next().await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!((opcode, &answer["response"]["output"][0]["content"][0]["text"]), (1, &json!(said)));
    }
    let sound = noise(200_000);
    socket.send(2, &sound).await;
    let (opcode, back) = socket.next().await.expect("an answer");
    assert!(opcode == 2 && back == sound, "binary frames come back byte for byte");
    socket.send(9, b"ping").await;
    assert_eq!(socket.next().await, Some((10, Bytes::from("ping"))));
    socket.send(8, &1000u16.to_be_bytes()).await;
    assert_eq!(socket.next().await.map(|(opcode, _)| opcode), Some(8));
    assert_eq!(socket.next().await, None);

    let log = gateway.log_of(1).await;
    assert_eq!(
        (&log[0]["route"], &log[0]["status"], &log[0]["model"]),
        (&json!("realtime"), &json!(101), &json!("voice"))
    );
    assert_eq!((log.len(), &log[0]["upstream_model"], log[0].get("error")), (1, &json!("gpt-realtime"), None));
    assert!(log[0]["bytes_in"].as_u64() > Some(200_000) && log[0]["bytes_out"].as_u64() > Some(200_000), "{}", log[0]);
}

#[tokio::test]
async fn a_realtime_session_ends_when_either_side_goes_away() {
    let upstream = upstream().await;
    let gateway = gateway_with_keys(upstream.address).await;
    let mut socket = WebSocket::open(&gateway, "/v1/realtime?model=voice", KEY, "realtime").await;
    socket.next().await.expect("a greeting");
    drop(socket);
    let record = upstream.record();
    let gone = |calls: &[tollgate::simulator::Call]| calls.iter().all(|call| call.outcome != Outcome::Running);
    assert!(record.wait_for(Duration::from_secs(2), gone).await, "{:?}", record.calls());

    let mut socket = WebSocket::open(&gateway, "/v1/realtime?model=voice", KEY, "realtime").await;
    socket.next().await.expect("a greeting");
    drop(upstream);
    assert_eq!(socket.next().await, None);
    eventually("both are logged once", || async { gateway.log().len() == 2 }).await;
}

#[tokio::test]
async fn realtime_is_held_to_the_keys_models_and_to_websockets() {
    let upstream = upstream().await;
    let gateway = gateway_with_keys(upstream.address).await;
    let status = |reply: crate::support::raw::Exchange| reply.last().map(|reply| reply.status);
    for (target, key, wanted) in [
        ("/v1/realtime?model=other", NARROW, 403),
        ("/v1/realtime?model=up/gpt-realtime", NARROW, 403),
        ("/v1/realtime?model=voice&model=other", NARROW, 403),
        ("/v1/realtime?model=voice&mod%65l=other", NARROW, 403),
        ("/v1/realtime", NARROW, 403),
        ("/v1/realtime?model=nowhere", KEY, 404),
        ("/v1/realtime?model=voice", "sk-wrong-0123456789abcdef", 401),
    ] {
        let got = exchange(gateway.data, handshake(target, key, "realtime").as_bytes(), Until::Reply).await;
        assert_eq!(status(got), Some(wanted), "{target}");
    }
    let plain = format!("GET /v1/realtime?model=voice HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n\r\n");
    for request in [plain.clone(), plain.replace("Host: a", "Host: a\r\nConnection: upgrade\r\nUpgrade: h2c")] {
        let got = exchange(gateway.data, request.as_bytes(), Until::Reply).await;
        assert_eq!(status(got), Some(400), "{request}");
    }
    assert_eq!(upstream.record().counters().calls, 0);
}

/// CVE-2026-2833: bytes behind an `Upgrade` request went through before the backend had agreed to it.
#[tokio::test]
async fn nothing_behind_a_refused_handshake_reaches_the_provider() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_with_keys(upstream.address).await;
    let smuggled = "DELETE /v1/files/file-1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n";
    let request = handshake("/v1/realtime?model=voice", KEY, "realtime") + smuggled;
    // this upstream answers 200 to everything
    let got = exchange(gateway.data, request.as_bytes(), Until::Close).await;
    assert!(got.replies.len() <= 1, "{got:?}");
    tokio::time::timeout(Duration::from_secs(2), async {
        // a second, plain call is served, and by then the smuggled bytes would have arrived
        let answer = client().get(gateway.url("/v1/files")).bearer_auth(KEY).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    })
    .await
    .expect("served in time");
    let seen = upstream.take();
    assert!(!String::from_utf8_lossy(&seen.bytes).contains("DELETE"), "{}", String::from_utf8_lossy(&seen.bytes));
    let lines: Vec<&str> = seen.requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, ["GET /v1/realtime?model=gpt-realtime HTTP/1.1", "GET /v1/files HTTP/1.1"]);
}
