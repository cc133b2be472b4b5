//! Clients that hold a connection and say little or nothing: each is closed on time, and others are served meanwhile.
//!
//! Real time on real sockets, because the deadlines under test are the listener's own; they are set short instead. The fixture
//! (`support::gateway_with`) is described in `front_door`. Source: the slowloris family, and HTTP/2's forms of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::support::gateway_with;
use crate::support::raw::h2::{PREFACE, data, frame, headers, kind};
use crate::support::raw::{RawUpstream, Until, exchange};

const DEADLINES: &str = "\
server:
  first_byte_timeout: 300ms
  header_timeout: 600ms
  body_timeout: 1s
  keepalive_timeout: 1s
";
const FIRST_BYTE: Duration = Duration::from_millis(300);
const HEADER: Duration = Duration::from_millis(600);
const BODY: Duration = Duration::from_secs(1);
const KEEPALIVE: Duration = Duration::from_secs(1);

/// How late a close may be: timers are coarse and the machine is shared.
const GRACE: Duration = Duration::from_secs(1);

/// How early it may be, for the same reason.
const EARLY: Duration = Duration::from_millis(100);

struct Shape {
    name: &'static str,
    /// Sent at once.
    first: Vec<u8>,
    /// Sent again and again, every 100 ms, for as long as the gateway takes it.
    drip: Vec<u8>,
    /// When the clock starts: at once, or when the answer to `first` has come.
    after_reply: bool,
    /// Not before this: a deadline is a promise to the client too.
    earliest: Duration,
    deadline: Duration,
}

fn shapes(key: &str) -> Vec<Shape> {
    let shape = |name, first: Vec<u8>, drip: &[u8], deadline: Duration| Shape {
        name,
        first,
        drip: drip.to_vec(),
        after_reply: false,
        earliest: deadline.saturating_sub(EARLY),
        deadline,
    };
    // Which of the deadlines ends an HTTP/2 connection without a request is the gateway's choice; that one does is not.
    let before_any_request = |name, first: Vec<u8>| Shape {
        earliest: FIRST_BYTE.saturating_sub(EARLY),
        ..shape(name, first, b"", KEEPALIVE)
    };
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\n"
    );
    let models = format!("GET /v1/models HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {key}\r\n\r\n");
    let hello = [PREFACE, &frame(kind::SETTINGS, 0, 0, &[]), &frame(kind::SETTINGS, 1, 0, &[])].concat();
    let bearer = format!("Bearer {key}");
    let h2_head = headers(
        1,
        &[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/v1/chat/completions"),
            (":authority", "gateway.test"),
            ("authorization", &bearer),
            ("content-type", "application/json"),
        ],
        0,
    );
    vec![
        shape("no byte", vec![], b"", FIRST_BYTE),
        shape("half a request line", b"POST /v1/chat".to_vec(), b"", HEADER),
        shape("half a header section", head.clone().into_bytes(), b"", HEADER),
        // Answered with an error at once, or waited on as if more must come: both are right, if it ends.
        Shape { earliest: Duration::ZERO, ..shape("HTTP/0.9", b"GET /v1/models\r\n\r\n".to_vec(), b"", HEADER) },
        shape("a header that drips", head.clone().into_bytes(), b"x", HEADER),
        shape("headers that drip, a line each", head.clone().into_bytes(), b"X-A: 1\r\n", HEADER),
        shape("no body", format!("{head}Content-Length: 1000\r\n\r\n").into_bytes(), b"", BODY),
        shape("a body that drips", format!("{head}Content-Length: 1000\r\n\r\n").into_bytes(), b" ", BODY),
        shape(
            "chunks that drip",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes(),
            b"1\r\n \r\n",
            BODY,
        ),
        Shape { after_reply: true, ..shape("idle after an answer", models.into_bytes(), b"", KEEPALIVE) },
        before_any_request("half an HTTP/2 preface", PREFACE[..10].to_vec()),
        before_any_request("an HTTP/2 preface and nothing more", PREFACE.to_vec()),
        before_any_request("an idle HTTP/2 connection", hello.clone()),
        shape("an HTTP/2 body that never comes", [hello.clone(), h2_head.clone()].concat(), b"", BODY),
        shape("an HTTP/2 body that drips", [hello, h2_head].concat(), &data(1, b" ", 0), BODY),
    ]
}

/// How long the gateway kept it: until the connection ended or, over HTTP/2, the stream was answered or reset.
async fn held(address: SocketAddr, shape: &Shape) -> Result<Duration, String> {
    let limit = shape.deadline + GRACE;
    let socket = TcpStream::connect(address).await.expect("the gateway listens");
    socket.set_nodelay(true).expect("TCP_NODELAY can be set");
    let (mut reader, mut writer) = socket.into_split();
    let mut began = Instant::now();
    writer.write_all(&shape.first).await.expect("the first bytes are taken");
    let mut received = Vec::new();
    if shape.after_reply {
        timeout(limit, reader.read_buf(&mut received)).await.map_err(|_| "no answer")?.expect("an answer");
        began = Instant::now();
    }
    let drip = shape.drip.clone();
    let dripping = tokio::spawn(async move {
        while !drip.is_empty() && writer.write_all(&drip).await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
        drop(writer);
    });
    let ended = timeout(limit.saturating_sub(began.elapsed()), async {
        loop {
            match reader.read_buf(&mut received).await {
                Ok(0) | Err(_) => return,
                Ok(_) if answered_on_stream_1(&received) => return,
                Ok(_) => {}
            }
        }
    })
    .await;
    dripping.abort();
    match ended {
        Ok(()) => Ok(began.elapsed()),
        Err(_) => Err(format!("still open after {limit:?}")),
    }
}

/// A HEADERS or RST_STREAM frame for stream 1: over HTTP/2 it is the stream that is closed on time, not the connection.
fn answered_on_stream_1(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [a, b, c, kind, _flags, stream @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if stream.starts_with(&[0, 0, 0, 1]) && [kind::HEADERS, kind::RST_STREAM].contains(kind) {
            return true;
        }
        rest = rest.get(9 + length..).unwrap_or(&[]);
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_closed_on_time_and_others_are_served_meanwhile() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_with(upstream.address, DEADLINES).await;
    let (address, key) = (gateway.data, gateway.key.to_string());

    let done = Arc::new(AtomicBool::new(false));
    let stop = done.clone();
    let plain = format!("GET /v1/models HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {key}\r\n\r\n");
    let normal = tokio::spawn(async move {
        let mut served = 0;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let answer = exchange(address, plain.as_bytes(), Until::Reply).await;
            assert_eq!(answer.last().map(|reply| reply.status), Some(200), "a normal client among slow ones");
            assert!(began.elapsed() < Duration::from_millis(800), "a normal client waited {:?}", began.elapsed());
            served += 1;
            sleep(Duration::from_millis(20)).await;
        }
        served
    });

    // Four of each at once: what one slow client must not do to another.
    let running: Vec<_> = (0..4)
        .flat_map(|_| shapes(&key))
        .map(|shape| tokio::spawn(async move { (shape.name, shape.earliest, held(address, &shape).await) }))
        .collect();
    let mut failures = Vec::new();
    for task in running {
        match task.await.expect("a shape does not panic") {
            (name, _, Err(why)) => failures.push(format!("{name}: {why}")),
            (name, earliest, Ok(held)) if held < earliest => {
                failures.push(format!("{name}: ended after {held:?}, before {earliest:?}"));
            }
            (_, _, Ok(_)) => {}
        }
    }
    done.store(true, Ordering::Relaxed);
    let served = normal.await.expect("normal clients are served all the time");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(served > 5, "only {served} normal requests were tried");
    assert!(upstream.take().bytes.is_empty(), "an unfinished request reached the upstream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_uploads_steadily_within_the_deadline_is_served() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_with(upstream.address, DEADLINES).await;
    let body = r#"{"model":"gpt-4o-mini","messages":[]}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        gateway.key,
        body.len()
    );
    let mut socket = TcpStream::connect(gateway.data).await.expect("the gateway listens");
    // 5 pieces of head and 5 of body, 40 ms apart: within `header_timeout` and `body_timeout`.
    for part in [head.as_bytes(), body.as_bytes()] {
        for piece in part.chunks(part.len().div_ceil(5)) {
            socket.write_all(piece).await.expect("it is taken");
            sleep(Duration::from_millis(40)).await;
        }
    }
    let reply = crate::support::raw::next_reply(&mut socket, &mut bytes::BytesMut::new()).await.expect("a reply");
    assert_eq!(reply.status, 200);
    assert_eq!(upstream.take().requests.len(), 1);
}
