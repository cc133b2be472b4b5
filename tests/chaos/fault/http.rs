//! The connection, the header section, the framing.

use std::time::Duration;

use super::Class::{Cut, Ended, Error, Lenient, Next, Served};
use super::{Fault, SETTLE, Scene, reply, then};
use crate::family::{Mode, POISON};
use crate::upstream::Step;
use crate::wire::{self, LAST_CHUNK};

/// `handshake_failure`, as a TLS server says it.
const ALERT: &[u8] = b"\x15\x03\x03\x00\x02\x02\x28";
const SOON: Duration = Duration::from_millis(10);

pub fn rows() -> Vec<Fault> {
    [connection(), heads(), framing(), chunks()].concat()
}

fn connection() -> Vec<Fault> {
    vec![
        Fault { refuses: true, ..Fault::new("refuses the connection", |_| vec![]).both(Error) },
        Fault::new("closes at once", |_| vec![Step::Close]).both(Error),
        Fault::new("resets at once", |_| vec![Step::Reset]).both(Error),
        Fault::new("sends a TLS alert at once", |_| vec![Step::Write(ALERT.to_vec()), Step::Close]).both(Error),
        Fault::new("answers with a TLS alert", |_| then(ALERT.to_vec(), Step::Close)).both(Error),
        Fault::new("accepts and never reads", |_| vec![Step::Deaf]).both(Error),
        Fault { padding: 2 << 20, ..Fault::new("never reads a large request", |_| vec![Step::Deaf]).both(Error) },
        Fault::new("resets when it has read the head", |_| vec![Step::Head, Step::Reset]).both(Error),
        Fault::new("resets when it was asked", |_| vec![Step::Request, Step::Reset]).both(Error),
        Fault::new("closes when it was asked", |_| vec![Step::Request, Step::Close]).both(Error),
        Fault::new("never answers", |_| vec![Step::Request, Step::Hang]).both(Error),
        Fault::new("takes its time", |s| {
            vec![Step::Request, Step::Wait(Duration::from_millis(300)), Step::Write(s.good())]
        })
        .both(Served),
        Fault {
            padding: 2 << 20,
            ..Fault::new("answers before it has read the request", |s| {
                let answer = s.sized(
                    "429 Too Many Requests",
                    "application/json",
                    &s.error(429, "rate_limit_error", "Slow down."),
                );
                vec![Step::Head, Step::Write(answer), Step::Wait(Duration::from_millis(300)), Step::Reset]
            })
            .both(Next(429))
        },
        Fault::new("answers before it is asked", |s| {
            vec![Step::Write(s.good()), Step::Request, Step::Write(Scene { words: POISON, ..s.clone() }.good())]
        })
        .both(Lenient),
        Fault::new("drips", |s| vec![Step::Request, Step::Drip(s.good(), Duration::from_millis(300))]).both(Error),
        Fault::new("drips its body", |s| {
            let (head, body) = split_head(&s.good());
            vec![Step::Request, Step::Write(head), Step::Drip(body, Duration::from_millis(300))]
        })
        .both(Error),
        Fault::new("sends a byte at a time", |s| vec![Step::Request, Step::Drip(s.good(), Duration::ZERO)])
            .both(Served),
        Fault::new("resets right behind the whole answer", |s| then(s.good(), Step::Reset)).both(Served),
        Fault::new("closes right behind the whole answer", |s| then(s.good(), Step::Close)).both(Served),
    ]
}

fn heads() -> Vec<Fault> {
    let row = |name: &str, head: &'static str| Fault::new(name, move |_| then(head.into(), Step::Close)).both(Error);
    let with = |name: &str, line: &'static str| {
        Fault::new(name, move |s| {
            let (head, body) = split_head(&s.good());
            let head = String::from_utf8(head).expect("text");
            let (first, fields) = head.split_once("\r\n").expect("a line");
            reply([format!("{first}\r\n{line}{fields}").into_bytes(), body].concat())
        })
    };
    let status = |name: &str, line: &'static str| {
        Fault::new(name, move |s| {
            let good = String::from_utf8_lossy(&split_head(&s.good()).0).replacen("HTTP/1.1 200 OK", line, 1);
            reply([good.into_bytes(), split_head(&s.good()).1].concat())
        })
    };
    vec![
        Fault::new("half a status line, then silence", |_| then(b"HTTP/1.1 20".to_vec(), Step::Hang)).both(Error),
        row("half a status line, then closes", "HTTP/1.1 20"),
        Fault::new("half a head, then silence", |s| then(s.ok().into(), Step::Hang)).both(Error),
        Fault::new("half a head, then closes", |s| then(s.ok().into(), Step::Close)).both(Error),
        Fault::new("half a head, then resets", |s| then(s.ok().into(), Step::Reset)).both(Error),
        row("a page without a head", "<html><body>It works!</body></html>"),
        Fault::new("a body without a head", |s| then(s.body(), Step::Close)).both(Error),
        row("an answer of another protocol", "220 mail.example ESMTP\r\n"),
        row("a status line of ICY", "ICY 200 OK\r\nContent-Type: application/json\r\n\r\n{}"),
        Fault::new("HTTP/2 frames", |_| then(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64".to_vec(), Step::Close)).both(Error),
        status("a status of 999", "HTTP/1.1 999 What").both(Error),
        status("a status of 000", "HTTP/1.1 000 What").both(Error),
        status("a status of two digits", "HTTP/1.1 20 OK").both(Error),
        status("no reason", "HTTP/1.1 200").both(Lenient),
        status("HTTP/1.1 spelt small", "http/1.1 200 OK").both(Lenient),
        Fault::new("HTTP/1.0, and closes", |s| {
            let head = s.ok().replacen("HTTP/1.1", "HTTP/1.0", 1);
            then([head.as_bytes(), b"\r\n", &s.body()].concat(), Step::Close)
        })
        .both(Served),
        Fault::new("three informational answers first", |s| {
            let early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
            reply([&early[..], &s.good()].concat())
        })
        .both(Served),
        Fault::new("a flood of informational answers", |_| {
            vec![Step::Request, Step::Flood(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(50), SOON)]
        })
        .both(Error),
        Fault::new("an endless head", |s| {
            let line = format!("X-Filler: {}\r\n", "y".repeat(1000));
            vec![Step::Request, Step::Write(s.ok().into()), Step::Flood(line.into_bytes(), SOON)]
        })
        .both(Error),
        Fault::new("an endless line in its head", |s| {
            vec![Step::Request, Step::Write(format!("{}X-Filler: ", s.ok()).into()), Step::Flood(vec![b'y'; 1000], SOON)]
        })
        .both(Error),
        Fault::new("300 KB of header fields", |s| {
            let (head, body) = split_head(&s.good());
            let filler = format!("X-Filler: {}\r\n", "y".repeat(1000)).repeat(300);
            let head = String::from_utf8(head).expect("text").replacen("\r\n", &format!("\r\n{filler}"), 1);
            reply([head.into_bytes(), body].concat())
        })
        .both(Lenient),
        Fault::new("bare LF in its head", |s| {
            let (head, body) = split_head(&s.good());
            reply([String::from_utf8(head).expect("text").replace("\r\n", "\n").into_bytes(), body].concat())
        })
        .both(Lenient),
        with("a NUL in its head", "X-Strange: a\0b\r\n").both(Lenient),
        with("a header line without a colon", "what is this\r\n").both(Lenient),
        with("a folded header line", "X-Strange: a\r\n b\r\n").both(Lenient),
        with("a space before the colon", "X-Strange : a\r\n").both(Lenient),
        row("switches protocols", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n"),
        row("204", "HTTP/1.1 204 No Content\r\n\r\n"),
        row("205", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
        row("304", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n").both(Error),
        Fault::new("302 to elsewhere", |s| {
            let head = s.head("302 Found", "text/html");
            reply(format!("{head}Location: http://{}/elsewhere\r\nContent-Length: 5\r\n\r\nmoved", s.address).into())
        })
        .both(Error),
    ]
}

fn framing() -> Vec<Fault> {
    // `first`: so much of it comes at once
    let endless = |name: &str, first: usize| {
        Fault::new(name, move |s| {
            let start = match s.mode {
                Mode::Whole => "{\"id\":\"",
                Mode::Streamed => "data: {\"id\":\"",
            };
            let begin = format!("{}Connection: close\r\n\r\n{start}{}", s.ok(), "x".repeat(first));
            // what is to be held stays far below what is held, however quick the machine
            let pause = if first == 0 { Duration::from_millis(50) } else { SOON };
            vec![Step::Request, Step::Write(begin.into()), Step::Flood(vec![b'x'; 1000], pause)]
        })
        .both(Error)
    };
    let lengths = |name: &str, fields: fn(usize) -> String| {
        Fault::new(name, move |s| {
            let body = s.body();
            then([format!("{}{}\r\n", s.ok(), fields(body.len())).into_bytes(), body].concat(), Step::Close)
        })
    };
    vec![
        lengths("declares more than it sends, then closes", |n| format!("Content-Length: {}\r\n", n + 100))
            .of(Error, Ended),
        Fault::new("declares more than it sends, then silence", |s| {
            let head = format!("{}Content-Length: {}\r\n\r\n", s.ok(), s.body().len() + 100);
            then([head.into_bytes(), s.body()].concat(), Step::Hang)
        })
        .of(Error, Ended),
        Fault::new("declares less than it sends", |s| {
            let head = format!("{}Content-Length: {}\r\n\r\n", s.ok(), s.parts().until(2).concat().len() - 10);
            reply([head.into_bytes(), s.body()].concat())
        })
        .of(Error, Cut),
        lengths("two lengths that differ", |n| format!("Content-Length: {}\r\nContent-Length: {n}\r\n", n - 20))
            .both(Error),
        lengths("two lengths that agree", |n| format!("Content-Length: {n}\r\nContent-Length: {n}\r\n")).both(Lenient),
        lengths("a length that is no number", |_| "Content-Length: many\r\n".to_owned()).both(Error),
        lengths("a negative length", |_| "Content-Length: -5\r\n".to_owned()).both(Error),
        lengths("a length larger than a u64", |_| "Content-Length: 99999999999999999999999\r\n".to_owned()).both(Error),
        Fault::new("a length and chunks", |s| {
            let head = format!("{}Content-Length: 17\r\nTransfer-Encoding: chunked\r\n\r\n", s.ok());
            reply([head.as_bytes(), &wire::chunks(&s.parts().all()), LAST_CHUNK].concat())
        })
        .both(Lenient),
        lengths("an unknown transfer coding", |_| "Transfer-Encoding: rot13\r\n".to_owned()).both(Lenient),
        lengths("ends with its connection", |_| "Connection: close\r\n".to_owned()).both(Served),
        Fault::new("ends with its connection, in the middle", |s| {
            let head = format!("{}Connection: close\r\n\r\n", s.ok());
            then([head.into_bytes(), s.parts().until(2).concat()].concat(), Step::Close)
        })
        .of(Error, Cut),
        Fault::new("sends more than it declared", |s| reply([s.good(), b"}}}} and more of it".to_vec()].concat()))
            .both(Served),
        Fault::new("sends a second answer nobody asked for", |s| {
            reply([s.good(), Scene { words: POISON, ..s.clone() }.good()].concat())
        })
        .both(Served),
        Fault::new("sends a second answer later", |s| {
            let second = Scene { words: POISON, ..s.clone() }.good();
            vec![Step::Request, Step::Write(s.good()), SETTLE, Step::Write(second)]
        })
        .both(Served),
        endless("an endless body", 0),
        endless("an endless body that begins at once", 400 * 1024),
    ]
}

fn chunks() -> Vec<Fault> {
    let raw = |name: &str, bytes: &'static str| {
        Fault::new(name, move |s| then([s.chunked(&[]), bytes.into()].concat(), Step::Close)).both(Error)
    };
    // a part of the second delta, as a chunk that promises all of it
    let torn = |name: &str, last: Step| {
        Fault::new(name, move |s| {
            let parts = s.parts();
            let chunk = wire::chunk(&parts.output[1]);
            then([&s.chunked(&parts.until(1)), &chunk[..chunk.len() / 2]].concat(), last.clone())
        })
        .of(Error, Cut)
    };
    let between = |name: &str, last: Step| {
        Fault::new(name, move |s| then(s.chunked(&s.parts().until(2)), last.clone())).of(Error, Cut)
    };
    let first = |name: &str, last: Step| {
        Fault::new(name, move |s| {
            let chunk = wire::chunk(&s.parts().opening[0]);
            then([&s.chunked(&[]), &chunk[..chunk.len() / 2]].concat(), last.clone())
        })
        .both(Error)
    };
    vec![
        Fault::new("resets behind its head", |s| then(s.chunked(&[]), Step::Reset)).both(Error),
        Fault::new("closes behind its head", |s| then(s.chunked(&[]), Step::Close)).both(Error),
        Fault::new("silence behind its head", |s| then(s.chunked(&[]), Step::Hang)).both(Error),
        raw("a chunk size that is no number", "zz\r\nabc\r\n0\r\n\r\n"),
        raw("a chunk larger than a u64", "fffffffffffffffffffff\r\nabc\r\n"),
        raw("a chunk of a negative size", "-5\r\nabcde\r\n0\r\n\r\n"),
        Fault::new("an endless chunk size", |s| {
            vec![Step::Request, Step::Write(s.chunked(&[])), Step::Flood(vec![b'0'; 1000], SOON)]
        })
        .both(Error),
        Fault::new("a bad chunk behind some output", |s| {
            then([s.chunked(&s.parts().until(2)), b"zz\r\nabc\r\n".to_vec()].concat(), Step::Close)
        })
        .of(Error, Cut),
        Fault::new("a chunk without its line end", |s| {
            let parts = s.parts();
            let chunk =
                [format!("{:x}\r\n", parts.output[1].len()).as_bytes(), &parts.output[1], b"XY5\r\nabcde"].concat();
            then([s.chunked(&parts.until(1)), chunk].concat(), Step::Close)
        })
        .of(Error, Cut),
        Fault::new("chunk extensions and trailers", |s| {
            let body = s.body();
            let size = format!("{:x};name=\"value\"\r\n", body.len());
            let end = b"\r\n0;last\r\nX-Checksum: abc\r\n\r\n";
            reply([&s.chunked(&[]), size.as_bytes(), &body, end].concat())
        })
        .both(Served),
        torn("resets in the middle of a chunk", Step::Reset),
        torn("closes in the middle of a chunk", Step::Close),
        torn("silence in the middle of a chunk", Step::Hang),
        between("resets between two chunks", Step::Reset),
        between("closes between two chunks", Step::Close),
        between("silence between two chunks", Step::Hang),
        first("resets in the middle of the first chunk", Step::Reset),
        first("closes in the middle of the first chunk", Step::Close),
        first("silence in the middle of the first chunk", Step::Hang),
        Fault::new("closes without the last chunk", |s| then(s.chunked(&s.parts().all()), Step::Close))
            .of(Lenient, Ended),
        Fault::new("resets without the last chunk", |s| then(s.chunked(&s.parts().all()), Step::Reset))
            .of(Lenient, Ended),
        Fault::new("silence without the last chunk", |s| then(s.chunked(&s.parts().all()), Step::Hang))
            .of(Lenient, Ended),
        Fault::new("429, and never ends it", |s| {
            let head = format!("{}Content-Length: 500\r\n\r\n{{", s.head("429 Too Many Requests", "application/json"));
            then(head.into(), Step::Hang)
        })
        .both(Next(429)),
    ]
}

/// The header section with its blank line, and the rest.
fn split_head(reply: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let end = reply.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    (reply[..end].to_vec(), reply[end..].to_vec())
}
