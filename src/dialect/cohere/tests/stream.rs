//! Streams that were not recorded: errors, late citations, early ends.

use proptest::prelude::*;

use super::run;
use crate::chat::{Block, StopReason};
use crate::error::{Kind, Refused};

fn sse(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[test]
fn a_citation_behind_its_text_is_still_the_texts() {
    let stream = sse(&[
        r#"{"type":"message-start","id":"r"}"#,
        r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Ruby"}}},"logprobs":{"text":"Ruby","token_ids":[1],"logprobs":[-0.50]}}"#,
        r#"{"type":"content-end","index":0}"#,
        r#"{"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":4,"text":"Ruby","sources":[{"type":"document","id":"doc:2","document":{"title":"T","url":"https://a.test"}},{"type":"tool","id":"f:0"}],"type":"TEXT_CONTENT"}}}}"#,
        r#"{"type":"citation-start","index":1,"delta":{"message":{"citations":{"start":0,"end":1,"type":"PLAN"}}}}"#,
        r#"{"type":"something-new","index":1}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"TIMEOUT","usage":{"billed_units":{"input_tokens":3.0,"output_tokens":1}}}}"#,
        "[DONE]",
    ]);
    let (fold, result) = run(&[stream.as_bytes()]);
    assert_eq!((result, &fold.faults[..]), (Ok(()), &[][..]));
    let response = fold.finish();
    let choice = &response.choices[0];
    let [Block::Text(text)] = &choice.blocks[..] else { panic!("{choice:?}") };
    assert_eq!(text.citations.len(), 2);
    assert_eq!((text.citations[0].document, text.citations[0].title.as_deref()), (Some(2), Some("T")));
    assert_eq!(&*choice.logprobs[0].logprob, "-0.50");
    assert_eq!(choice.stop.as_ref().unwrap().reason, StopReason::Other("TIMEOUT".into()));
    assert_eq!(response.usage.unwrap().input.0, 3);
}

#[test]
fn an_error_within_a_stream_is_told() {
    for last in
        [r#"{"type":"message-end","delta":{"finish_reason":"ERROR","error":"it broke"}}"#, r#"{"message":"it broke"}"#]
    {
        let (fold, result) = run(&[sse(&[r#"{"type":"message-start","id":"r"}"#, last]).as_bytes()]);
        assert_eq!((result, fold.faults.len()), (Ok(()), 0));
        let error = fold.error.unwrap();
        assert_eq!(error.kind, Kind::UpstreamRefused { status: 500, reason: Refused::ServerError, retry_after: None });
        assert_eq!(error.say, "it broke");
    }
}

#[test]
fn a_stream_that_breaks_off_is_told() {
    let start = r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"a"}}}}"#;
    assert!(run(&[sse(&[start]).as_bytes()]).1.is_err());
    assert!(run(&[sse(&[start, "[DONE]"]).as_bytes()]).1.is_err());
    assert!(run(&[b"data: {\"type\n\n"]).1.is_err());
    let many: Vec<String> = (0..300).map(|i| start.replace("\"index\":0", &format!("\"index\":{i}"))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(run(&[sse(&many).as_bytes()]).1.is_err());
}

proptest! {
    /// Events in any order, of any shape: an error or words in their order, never a panic.
    #[test]
    fn no_stream_breaks_the_order_of_events(
        steps in prop::collection::vec((0usize..11, 0u32..4), 0..30),
    ) {
        let shapes = [
            r#"{"type":"message-start","id":"r"}"#,
            r#"{"type":"content-start","index":@,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
            r#"{"type":"content-delta","index":@,"delta":{"message":{"content":{"text":"x"}}}}"#,
            r#"{"type":"content-delta","index":@,"delta":{"message":{"content":{"thinking":"x"}}}}"#,
            r#"{"type":"content-end","index":@}"#,
            r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"x"}}}"#,
            r#"{"type":"tool-call-start","index":@,"delta":{"message":{"tool_calls":{"id":"t","function":{"name":"f"}}}}}"#,
            r#"{"type":"tool-call-delta","index":@,"delta":{"message":{"tool_calls":{"function":{"arguments":"{"}}}}}"#,
            r#"{"type":"tool-call-end","index":@}"#,
            r#"{"type":"citation-start","delta":{"message":{"citations":{"start":0,"end":1,"content_index":@}}}}"#,
            r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}"#,
        ];
        let steps: Vec<String> =
            steps.into_iter().map(|(shape, index)| shapes[shape].replace('@', &index.to_string())).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let (fold, result) = run(&[sse(&steps).as_bytes()]);
        prop_assert!(fold.faults.is_empty(), "{:?}", fold.faults);
        prop_assert_eq!(fold.ended, result.is_ok());
    }
}
