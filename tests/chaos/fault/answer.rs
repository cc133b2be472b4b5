//! The status, the body, the stream.

use std::time::Duration;

use super::Class::{Cut, Ended, Error, Final, Lenient, Next, Served};
use super::{Fault, Scene, reply, then};
use crate::family::{Family, Mode};
use crate::upstream::Step;
use crate::wire;

const PAGE: &[u8] =
    b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>";

pub fn rows() -> Vec<Fault> {
    [statuses(), quotas(), refusals(), bodies(), streams(), texts()].concat()
}

// === status ===

/// What a status means is the same in every dialect; the words are each its own.
fn statuses() -> Vec<Fault> {
    let again = [
        (408, "Request Timeout"),
        (409, "Conflict"),
        (429, "Too Many Requests"),
        (500, "Internal Server Error"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
        (520, "Unknown"),
        (529, "Overloaded"),
        // of this target, or of the operator's account there: another may do
        (401, "Unauthorized"),
        (402, "Payment Required"),
        (403, "Forbidden"),
        (404, "Not Found"),
    ];
    let row = |status: u16, reason: &'static str| {
        Fault::new(format!("{status}"), move |s: &Scene| {
            reply(s.sized(&format!("{status} {reason}"), "application/json", &s.error(status, "some_error", "No.")))
        })
    };
    let again = again.into_iter().map(|(status, reason)| row(status, reason).both(Next(status)));
    let never = [(400, "Bad Request"), (422, "Unprocessable Entity")];
    again.chain(never.into_iter().map(|(status, reason)| row(status, reason).both(Final(status)))).collect()
}

/// Every way to say when to come back.
fn quotas() -> Vec<Fault> {
    let of = |status: u16, name: &str, field: &'static str| {
        Fault::new(format!("{status}, retry-after {name}"), move |s: &Scene| {
            let body = s.error(status, "rate_limit_exceeded", "Slow down.");
            let head = s.head(&format!("{status} Not Now"), "application/json");
            reply([format!("{head}{field}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat())
        })
        .both(Next(status))
    };
    let row = |name: &str, field: &'static str| of(429, name, field);
    let rests = |row: Fault| Fault { rests: true, ..row };
    vec![
        rests(Fault { shows: Some(("retry-after", "30")), ..row("in seconds", "Retry-After: 30") }),
        row("of a second", "Retry-After: 1"),
        rests(row("as a date", "Retry-After: Wed, 21 Oct 2099 07:28:00 GMT")),
        row("as a date that has passed", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"),
        row("in milliseconds", "retry-after-ms: 644"),
        rests(row("absurd", "Retry-After: 99999999999999999999")),
        row("negative", "Retry-After: -5"),
        row("of words", "Retry-After: soon"),
        row("of a fraction", "Retry-After: 0.25"),
        rests(of(503, "in seconds", "Retry-After: 30")),
        of(503, "of a second", "Retry-After: 1"),
        rests(of(503, "absurd", "Retry-After: 99999999999999999999")),
        of(529, "of words", "Retry-After: soon"),
        of(500, "negative", "Retry-After: -5"),
        rests(of(408, "in seconds", "Retry-After: 30")),
    ]
}

/// Errors whose body is none.
fn refusals() -> Vec<Fault> {
    let page =
        |name: &str, status: &'static str| Fault::new(name, move |s: &Scene| reply(s.sized(status, "text/html", PAGE)));
    let word = |name: &str, words: [(&'static str, &'static str); 6]| {
        Fault::new(name, move |s: &Scene| {
            let at = crate::family::FAMILIES.iter().position(|family| *family == s.family).expect("one of them");
            let (word, say) = words[at];
            reply(s.sized("400 Bad Request", "application/json", &s.error(400, word, say)))
        })
        .both(Final(400))
    };
    let long = "prompt is too long: 3333404 tokens > 200000 maximum";
    vec![
        page("502 with a page", "502 Bad Gateway").both(Next(502)),
        page("404 with a page", "404 Not Found").both(Next(404)),
        page("400 with a page", "400 Bad Request").both(Final(400)),
        Fault::new("500 with nothing", |s| reply(s.sized("500 Internal Server Error", "application/json", b"")))
            .both(Next(500)),
        Fault::new("500 with half a JSON", |s| {
            reply(s.sized("500 Internal Server Error", "application/json", b"{\"error\":{\"mess"))
        })
        .both(Next(500)),
        Fault::new("503 that breaks off", |s| {
            let head = format!(
                "{}Content-Length: 500\r\n\r\n{{\"error\":",
                s.head("503 Service Unavailable", "application/json")
            );
            then(head.into(), Step::Reset)
        })
        .both(Next(503)),
        Fault::new("500 without end", |s| {
            let head = format!(
                "{}Connection: close\r\n\r\n{{\"error\":\"",
                s.head("500 Internal Server Error", "application/json")
            );
            vec![Step::Request, Step::Write(head.into()), Step::Flood(vec![b'x'; 4096], Duration::from_millis(10))]
        })
        .both(Next(500)),
        Fault::new("429 as an event", |s| {
            reply(s.sized("429 Too Many Requests", s.family.content_type(Mode::Streamed), &s.family.error_event(0)))
        })
        .both(Next(429)),
        Fault::new("429 with an error of another form", |s| {
            reply(s.sized("429 Too Many Requests", "application/json", b"{\"detail\":[{\"msg\":\"slow down\"}]}"))
        })
        .both(Next(429)),
        Fault::new("500 with a JSON string", |s| {
            reply(s.sized("500 Internal Server Error", "application/json", b"\"it broke\""))
        })
        .both(Next(500)),
        word(
            "the context is too long",
            [
                (
                    "context_length_exceeded",
                    "This model's maximum context length is 128000 tokens. However, your messages resulted in 150000 tokens.",
                ),
                (
                    "context_length_exceeded",
                    "Your input exceeds the context window of this model. Please adjust your input and try again.",
                ),
                ("invalid_request_error", long),
                (
                    "INVALID_ARGUMENT",
                    "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).",
                ),
                ("ValidationException", "Input is too long for requested model."),
                (
                    "TOO_MANY_TOKENS",
                    "too many tokens: size limit exceeded by 25836 tokens. Try using shorter or fewer inputs.",
                ),
            ],
        ),
        word(
            "the content is filtered",
            [
                (
                    "content_filter",
                    "The response was filtered due to the prompt triggering our content management policy.",
                ),
                ("content_policy_violation", "Your request was rejected as a result of our safety system."),
                ("invalid_request_error", "Output blocked by content filtering policy"),
                ("INVALID_ARGUMENT", "The prompt was blocked by safety filters."),
                ("ValidationException", "The content was blocked by a guardrail."),
                ("invalid_request", "blocked by our content policy"),
            ],
        ),
    ]
}

// === body ===

fn bodies() -> Vec<Fault> {
    let json = |name: &str, body: &'static [u8]| {
        Fault::new(name, move |s: &Scene| reply(s.sized("200 OK", "application/json", body)))
    };
    let typed = |name: &str, kind: &'static str| {
        Fault::new(name, move |s: &Scene| {
            let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
            let body = s.body();
            let head = format!("HTTP/1.1 200 OK\r\n{kind}Content-Length: {}\r\n\r\n", body.len());
            reply([head.into_bytes(), body].concat())
        })
        .both(Lenient)
    };
    vec![
        Fault::new("half a JSON", |s| {
            let body = s.family.whole(&s.words);
            reply(s.sized("200 OK", "application/json", &body[..body.len() / 2]))
        })
        .both(Error),
        Fault::new("a JSON and a half", |s| {
            let body = s.family.whole(&s.words);
            reply(s.sized("200 OK", "application/json", &[&body[..], b"{\"id\":"].concat()))
        })
        .both(Error),
        json("an empty answer", b"").both(Error),
        json("spaces only", b"   \n").both(Error),
        json("null", b"null").both(Error),
        json("an array", b"[1,2,3]").both(Error),
        json("an empty object", b"{}").both(Error),
        json("not UTF-8", b"{\"id\":\"\xff\xfe\"}").both(Error),
        Fault::new("nested without end", |s| reply(s.sized("200 OK", "application/json", &b"[".repeat(100_000))))
            .both(Error),
        Fault::new("a page", |s| reply(s.sized("200 OK", "text/html", PAGE))).both(Error),
        Fault::new("an error with status 200", |s| {
            reply(s.sized("200 OK", "application/json", &s.error(500, "server_error", "It broke.")))
        })
        .both(Error),
        Fault::new("gzip that is none", |s| {
            let head = format!("{}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", s.ok(), s.body().len());
            reply([head.into_bytes(), s.body()].concat())
        })
        .both(Lenient),
        Fault::new("gzip that was not asked for", |s| {
            let body = wire::gzip(&s.body());
            let head = format!("{}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", s.ok(), body.len());
            reply([head.into_bytes(), body].concat())
        })
        .both(Lenient),
        typed("no content type", ""),
        typed("plain text for a type", "text/plain"),
        typed("a content type of garbage", ";;=//"),
        Fault::new("a byte order mark before JSON", |s| {
            reply(s.sized("200 OK", "application/json", &["\u{feff}".as_bytes(), &s.body()].concat()))
        })
        .whole(Lenient),
        Fault::new("a whole answer for a stream", |s| {
            reply(s.sized("200 OK", "application/json", &s.family.whole(&s.words)))
        })
        .streamed(Lenient),
        Fault::new("a stream for a whole answer", |s| {
            let body = s.family.stream(&s.words).all().concat();
            reply(s.sized("200 OK", s.family.content_type(Mode::Streamed), &body))
        })
        .whole(Lenient),
    ]
}

// === stream ===

fn streams() -> Vec<Fault> {
    let row = |name: &str, frames: fn(&Scene) -> Vec<Vec<u8>>| Fault::new(name, move |s| reply(s.ended(&frames(s))));
    vec![
        row("begins with an error event", |s| failing(s, vec![])).streamed(Next(503)),
        row("an error event behind the opening", |s| failing(s, s.parts().opening)).streamed(Next(503)),
        row("an error event behind some output", |s| failing(s, s.parts().until(2))).streamed(Cut),
        Fault::new("an error event, and never ends", |s| then(s.chunked(&failing(s, vec![])), Step::Hang))
            .streamed(Next(503)),
        row("an empty stream", |_| vec![]).streamed(Error),
        row("pings only", |s| vec![s.family.ping(); 3]).streamed(Error),
        row("opening and pings only", |s| [s.parts().opening, vec![s.family.ping(); 3]].concat()).streamed(Error),
        Fault::new("pings without end", |s| {
            let ping = wire::chunk(&s.family.ping());
            vec![
                Step::Request,
                Step::Write(s.chunked(&s.parts().opening)),
                Step::Flood(ping, Duration::from_millis(100)),
            ]
        })
        .streamed(Error),
        Fault::new("opening, then silence", |s| then(s.chunked(&s.parts().opening), Step::Hang)).streamed(Error),
        Fault::new("opening, then closes", |s| then(s.chunked(&s.parts().opening), Step::Close)).streamed(Error),
        Fault::new("opening, then resets", |s| then(s.chunked(&s.parts().opening), Step::Reset)).streamed(Error),
        row("opening and nothing more", |s| s.parts().opening).streamed(Error),
        row("some output and nothing more", |s| s.parts().until(2)).streamed(Cut),
        row("stops without its end mark", |s| {
            let parts = s.parts();
            [parts.opening, parts.output, parts.finish].concat()
        })
        .streamed(Ended),
        row("ends without a finish", |s| {
            let parts = s.parts();
            [parts.opening, parts.output, parts.end].concat()
        })
        .streamed(Ended),
        row("finishes twice", |s| {
            let parts = s.parts();
            [parts.opening, parts.output, parts.finish.clone(), parts.finish, parts.end].concat()
        })
        .streamed(Ended),
        row("ends twice", |s| [s.parts().all(), s.parts().end].concat()).streamed(Ended),
        row("speaks on behind its end", |s| [s.parts().all(), s.parts().output].concat()).streamed(Ended),
        row("an error event behind its end", |s| failing(s, s.parts().all())).streamed(Ended),
        row("half an event behind some output", |s| {
            let parts = s.parts();
            let half = parts.output[1][..parts.output[1].len() / 2].to_vec();
            [parts.until(1), vec![half]].concat()
        })
        .streamed(Cut),
        row("half an event", |s| vec![s.parts().output[0][..30].to_vec()]).streamed(Error),
        row("garbage", |_| vec![b"lorem ipsum\n\ndolor\n\n".to_vec()]).streamed(Error),
        row("garbage behind some output", |s| {
            [s.parts().until(2), vec![b"lorem ipsum\n\ndolor\n\n".to_vec()]].concat()
        })
        .streamed(Cut),
        row("an answer twice", |s| [s.parts().all(), s.parts().all()].concat()).streamed(Ended),
    ]
}

/// These frames, and an error event behind them.
fn failing(s: &Scene, mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.push(s.family.error_event(frames.len()));
    frames
}

/// What only streams of text can do.
fn texts() -> Vec<Fault> {
    let row = |name: &str, frames: fn(&Scene) -> Vec<Vec<u8>>| Fault {
        sse_only: true,
        ..Fault::new(name, move |s| reply(s.ended(&frames(s))))
    };
    let ends = |s: &Scene, ends: fn(&str) -> String| -> Vec<Vec<u8>> {
        s.parts().all().iter().map(|frame| ends(std::str::from_utf8(frame).expect("UTF-8")).into_bytes()).collect()
    };
    fn crlf(text: &str) -> String {
        text.replace('\n', "\r\n")
    }
    fn cr(text: &str) -> String {
        text.replace('\n', "\r")
    }
    vec![
        Fault { sse_only: true, ..Fault::new("CR LF", move |s| reply(s.ended(&ends(s, crlf)))).streamed(Served) },
        Fault { sse_only: true, ..Fault::new("CR", move |s| reply(s.ended(&ends(s, cr)))).streamed(Served) },
        row("line ends of every kind", |s| {
            let turn = |(n, frame): (usize, Vec<u8>)| {
                let text = String::from_utf8(frame).expect("UTF-8");
                match n % 3 {
                    0 => crlf(&text),
                    1 => cr(&text),
                    _ => text,
                }
                .into_bytes()
            };
            s.parts().all().into_iter().enumerate().map(turn).collect()
        })
        .streamed(Served),
        row("a byte order mark", |s| [vec!["\u{feff}".as_bytes().to_vec()], s.parts().all()].concat()).streamed(Served),
        row("split inside letters", |s| {
            let bytes = s.body();
            let cuts: Vec<usize> = (1..bytes.len()).filter(|at| bytes[*at] & 0xc0 == 0x80).collect();
            let mut pieces = Vec::new();
            let mut from = 0;
            for at in cuts {
                pieces.push(bytes[from..at].to_vec());
                from = at;
            }
            pieces.push(bytes[from..].to_vec());
            pieces
        })
        .streamed(Served),
        row("comments, ids and unknown fields", |s| {
            let noise = b": hello\nid: 7\nretry: 1000\n\n".to_vec();
            s.parts().all().into_iter().flat_map(|frame| [noise.clone(), frame]).collect()
        })
        .streamed(Served),
        row("no space behind the colon", |s| {
            let tight = |frame: Vec<u8>| String::from_utf8(frame).expect("UTF-8").replace(": {", ":{").into_bytes();
            s.parts().all().into_iter().map(tight).collect()
        })
        .streamed(Served),
        row("no JSON in its first event", |_| vec![b"data: hello\n\n".to_vec()]).streamed(Error),
        row("no JSON behind some output", |s| [s.parts().until(2), vec![b"data: {\"id\": \n\n".to_vec()]].concat())
            .streamed(Cut),
        row("an event of another form first", |_| vec![b"data: {\"hello\":\"world\"}\n\n".to_vec()]).streamed(Error),
        row("not UTF-8 behind some output", |s| {
            let bad = s.parts().output[2].iter().map(|byte| if *byte == b'o' { 0xff } else { *byte }).collect();
            [s.parts().until(2), vec![bad]].concat()
        })
        .streamed(Cut),
        row("no blank line at the end", |s| {
            let mut all = s.parts().all();
            if let Some(last) = all.last_mut() {
                last.truncate(last.len() - 1);
            }
            all
        })
        .streamed(Ended),
        Fault {
            sse_only: true,
            ..Fault::new("a line without end behind some output", |s| {
                let start = wire::chunk(b"data: {\"id\":\"");
                let more = wire::chunk(&[b'x'; 4096]);
                let begin = [s.chunked(&s.parts().until(2)), start].concat();
                vec![Step::Request, Step::Write(begin), Step::Flood(more, Duration::from_millis(10))]
            })
            .streamed(Cut)
        },
        Fault {
            sse_only: true,
            ..Fault::new("the names of events only", |s| {
                let names = match s.family {
                    Family::Chat | Family::Gemini => b"event: message\n\n".to_vec(),
                    _ => b"event: message_start\n\nevent: message-start\n\nevent: response.created\n\n".to_vec(),
                };
                reply(s.ended(&[names]))
            })
            .streamed(Error)
        },
    ]
}
