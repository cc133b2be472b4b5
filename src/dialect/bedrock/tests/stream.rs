//! Streams that were not recorded: exceptions, hidden thoughts, sources in odd places, early ends.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::corpus::fold;
use super::{CLAUDE, NOVA};
use crate::chat::{Block, Dialect, Event, Fold, Issuer, ServerToolKind, StopReason};
use crate::dialect::bedrock::Bedrock;
use crate::dialect::codec::{Garbled, Origin, Outbound};
use crate::dialect::eventstream::{MessageKind, message};
use crate::dialect::frame::{Cutter, Framing};
use crate::error::{Kind, Refused};

fn events(events: &[(&str, &str)]) -> Bytes {
    let mut out = BytesMut::new();
    for (name, payload) in events {
        out.extend_from_slice(&message(name, MessageKind::Event, payload.as_bytes()).unwrap());
    }
    out.freeze()
}

/// What is said up to the first error, and the error.
fn run(bytes: Bytes) -> (Fold, Result<(), Garbled>) {
    let mut cutter = Cutter::new(Framing::EventStream);
    let mut decoder = Bedrock.stream_decoder(&Origin { model: CLAUDE });
    let mut fold = Fold::new(Dialect::Bedrock);
    let result = cutter.push(bytes, |frame| {
        let mut events = Vec::new();
        decoder.push(frame, &mut events)?;
        events.into_iter().for_each(|event| fold.push(event));
        Ok(())
    });
    let mut events: Vec<Event<'static>> = Vec::new();
    let result = result.and_then(|()| decoder.finish(&mut events));
    events.into_iter().for_each(|event| fold.push(event));
    (fold, result)
}

#[test]
fn an_exception_ends_a_stream_with_its_own_status() {
    for (name, payload, status, reason) in [
        ("throttlingException", r#"{"message":"Too many requests"}"#, 429, Refused::RateLimit),
        ("modelStreamErrorException", r#"{"message":"m","originalStatusCode":529}"#, 529, Refused::ServerError),
        ("internalServerException", "{}", 500, Refused::ServerError),
        ("validationException", r#"{"message":"Input is too long"}"#, 400, Refused::ContextLength),
        ("serviceUnavailableException", r#"{"message":"x"}"#, 503, Refused::Overloaded),
        ("modelTimeoutException", "", 408, Refused::Timeout),
    ] {
        let mut bytes = events(&[("messageStart", r#"{"role":"assistant"}"#)]).to_vec();
        super::dump_to("events.bin", &bytes);
        bytes.extend_from_slice(&message(name, MessageKind::Exception, payload.as_bytes()).unwrap());
        bytes.extend_from_slice(&events(&[("messageStop", r#"{"stopReason":"end_turn"}"#)]));
        let (fold, result) = run(bytes.into());
        assert_eq!((result, fold.faults.len()), (Ok(()), 0), "{name}");
        let error = fold.error.unwrap();
        assert_eq!(error.kind, Kind::UpstreamRefused { status, reason, retry_after: None }, "{name}");
        assert!(!error.say.is_empty());
    }
}

#[test]
fn a_stream_that_breaks_off_is_told() {
    let delta = ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"hi"}}"#);
    let (fold, result) = run(events(&[("messageStart", "{}"), delta]));
    assert!(result.is_err() && !fold.ended);
    // usage may be missing, the end of the message may not
    let (fold, result) = run(events(&[delta, ("messageStop", r#"{"stopReason":"max_tokens"}"#)]));
    assert_eq!((result, fold.ended, fold.faults.len()), (Ok(()), true, 0));
    assert_eq!(fold.finish().choices[0].stop.as_ref().unwrap().reason, StopReason::Length);
    assert!(run(events(&[("messageStop", "{")])).1.is_err());
    assert!(run(events(&[("contentBlockDelta", r#"{"delta":{"text":"x"}}"#)])).1.is_err());
}

#[test]
fn hidden_thoughts_are_sealed_as_anthropic_writes_them() {
    let bytes = events(&[
        ("messageStart", r#"{"role":"assistant"}"#),
        // base64 of `EmwKAhgB`
        (
            "contentBlockDelta",
            r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"redactedContent":"RW13S0FoZ0I="}}}"#,
        ),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"reasoningContent":{"text":"Hm"}}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"reasoningContent":{"signature":"sig"}}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
        ("messageStop", r#"{"stopReason":"end_turn"}"#),
    ]);
    super::dump_to("events.bin", &bytes);
    let response = fold(&[&bytes], CLAUDE);
    let seals: Vec<_> = response.choices[0]
        .blocks
        .iter()
        .map(|block| match block {
            Block::Thinking(thinking) => (thinking.redacted, thinking.seal.clone().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((seals[0].0, seals[0].1.issuer, &*seals[0].1.raw), (true, Issuer::Anthropic, "EmwKAhgB"));
    assert_eq!((seals[1].0, &*seals[1].1.raw), (false, "sig"));
}

#[test]
fn sources_go_to_the_text_they_are_of() {
    let source = |index: u32| {
        format!(
            r#"{{"contentBlockIndex":{index},"delta":{{"citation":{{"location":{{"web":{{"url":"https://a.test/{index}"}}}}}}}}}}"#
        )
    };
    let (behind, before, alone) = (source(1), source(2), source(4));
    let bytes = events(&[
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"a"}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        ("contentBlockDelta", &behind),
        ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
        ("contentBlockDelta", &before),
        ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"text":"b"}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":2}"#),
        ("contentBlockStart", r#"{"contentBlockIndex":3,"start":{"toolUse":{"toolUseId":"t","name":"f"}}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":3}"#),
        ("contentBlockDelta", &alone),
        ("messageStop", r#"{"stopReason":"tool_use"}"#),
    ]);
    let response = fold(&[&bytes], NOVA);
    let cited: Vec<(String, Vec<String>)> = response.choices[0]
        .blocks
        .iter()
        .filter_map(|block| match block {
            Block::Text(text) => {
                let urls = text.citations.iter().map(|c| c.url.as_ref().unwrap().to_string()).collect();
                Some((text.text.to_string(), urls))
            }
            _ => None,
        })
        .collect();
    let one = |text: &str, n: u32| (text.to_owned(), vec![format!("https://a.test/{n}")]);
    assert_eq!(cited, [one("a", 1), one("b", 2), one("", 4)]);
}

#[test]
fn a_program_the_provider_ran_is_told_whole() {
    let bytes = events(&[
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"t","name":"nova_code_interpreter","type":"server_tool_use"}}}"#,
        ),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"toolUse":{"input":"{\"snippet\":"}}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"toolUse":{"input":"\"1+1\"}"}}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":1,"start":{"toolResult":{"toolUseId":"t","type":"nova_code_interpreter_result","status":"success"}}}"#,
        ),
        (
            "contentBlockDelta",
            r#"{"contentBlockIndex":1,"delta":{"toolResult":[{"json":{"stdOut":"2","stdErr":""}}]}}"#,
        ),
        ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
        ("contentBlockStart", r#"{"contentBlockIndex":2,"start":{"image":{"format":"png"}}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"image":{"source":{"bytes":"YQ=="}}}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"image":{"source":{"bytes":"YmM="}}}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":2}"#),
        ("messageStop", r#"{"stopReason":"end_turn"}"#),
    ]);
    super::dump_to("events.bin", &bytes);
    let response = fold(&[&bytes], NOVA);
    let [Block::ServerCall(call), Block::ServerResult(result), Block::Media(image)] = &response.choices[0].blocks[..]
    else {
        panic!("{response:?}")
    };
    assert_eq!((call.tool, &*call.input), (ServerToolKind::CodeExecution, r#"{"snippet":"1+1"}"#));
    assert_eq!(result.output.as_deref(), Some("2"));
    assert!(result.native.as_ref().unwrap().1.contains(r#""stdErr":"""#));
    let crate::chat::Source::Base64 { media_type, data } = &image.source else { panic!("{image:?}") };
    assert_eq!((&**media_type, &**data), ("image/png", "YWJj"));
}

#[test]
fn no_stream_can_open_blocks_without_limit() {
    let many: Vec<String> =
        (0..300).map(|i| format!(r#"{{"contentBlockIndex":{i},"delta":{{"text":"x"}}}}"#)).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|payload| ("contentBlockDelta", payload.as_str())).collect();
    assert!(run(events(&many)).1.is_err());
}

proptest! {
    /// Events in any order, of any shape: an error or words in their order, never a panic.
    #[test]
    fn no_stream_breaks_the_order_of_events(
        steps in prop::collection::vec((0usize..14, 0u32..4), 0..30),
    ) {
        let shapes = [
            ("messageStart", r#"{"role":"assistant"}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":@,"start":{"toolUse":{"toolUseId":"t","name":"f"}}}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":@,"start":{"toolUse":{"type":"server_tool_use"}}}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":@,"start":{"toolResult":{"toolUseId":"t"}}}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":@,"start":{"image":{"format":"png"}}}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":@,"start":{"new":1}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":@,"delta":{"text":"x"}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":@,"delta":{"toolUse":{"input":"{"}}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":@,"delta":{"citation":{"title":"t"}}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":@,"delta":{"reasoningContent":{"text":"x"}}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":@,"delta":{"toolResult":[{"text":"x"}]}}"#),
            ("contentBlockStop", r#"{"contentBlockIndex":@}"#),
            ("messageStop", r#"{"stopReason":"end_turn"}"#),
            ("metadata", r#"{"usage":{"inputTokens":1}}"#),
        ];
        let steps: Vec<(&str, String)> = steps
            .into_iter()
            .map(|(shape, index)| (shapes[shape].0, shapes[shape].1.replace('@', &index.to_string())))
            .collect();
        let steps: Vec<(&str, &str)> = steps.iter().map(|(name, payload)| (*name, payload.as_str())).collect();
        let (fold, result) = run(events(&steps));
        let faults: Vec<&String> = fold.faults.iter().collect();
        prop_assert!(faults.is_empty(), "{:?}", faults);
        prop_assert_eq!(fold.ended, result.is_ok());
    }
}
