//! What calls need, and who is passed over for it.

use proptest::prelude::*;

use super::*;
use crate::route::needs::{Body, Need};
use proptest::strategy::Strategy;

const CHAT: Operation = Operation::ChatCompletions;
const RESPONSES: Operation = Operation::Responses;
const MESSAGES: Operation = Operation::Messages;
const GEMINI: Operation = Operation::GenerateContent;

fn needs(operation: Operation, body: &str) -> String {
    assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
    let body = Body::new(operation, body.as_bytes());
    let words: Vec<&str> = body.needs().all().map(Need::word).collect();
    words.join(" ")
}

#[test]
fn what_a_call_needs_is_found_in_every_dialect() {
    for (operation, body, wanted) in [
        (CHAT, r#"{"messages":[{"role":"user","content":"Hi"}]}"#, ""),
        (CHAT, r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#, "vision"),
        (CHAT, r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"aGk="}}]}]}"#, "audio"),
        (CHAT, r#"{"messages":[{"content":[{"file":{"file_id":"f"},"type":"file"}]}]}"#, "documents"),
        (CHAT, r#"{"messages":[],"tools":[{"type":"function","function":{"name":"f"}}]}"#, "tools"),
        (CHAT, r#"{"messages":[],"functions":[{"name":"f"}]}"#, "tools"),
        (CHAT, r#"{"messages":[],"tools":[ ],"response_format":{"type":"json_object"}}"#, ""),
        (
            CHAT,
            r#"{"messages":[],"tools":null,"response_format":{"type":"json_schema","json_schema":{}}}"#,
            "json_schema",
        ),
        (CHAT, r#"{"messages":[],"reasoning_effort":"high"}"#, "reasoning"),
        (CHAT, r#"{"messages":[],"reasoning_effort":"none"}"#, ""),
        (RESPONSES, r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:x"}]}]}"#, "vision"),
        (RESPONSES, r#"{"input":[{"type":"function_call_output","output":[{"type":"input_file"}]}]}"#, "documents"),
        (RESPONSES, r#"{"input":[{"type":"computer_call_output","output":{"type":"computer_screenshot"}}]}"#, "vision"),
        (RESPONSES, r#"{"input":"x","text":{"format":{"type":"json_schema","schema":{}}}}"#, "json_schema"),
        (RESPONSES, r#"{"input":"x","reasoning":{"effort":"low"},"tools":[{"type":"web_search"}]}"#, "tools reasoning"),
        (
            MESSAGES,
            r#"{"messages":[{"content":[{"type":"image","source":{"type":"base64","data":"aGk="}}]}]}"#,
            "vision",
        ),
        (MESSAGES, r#"{"messages":[{"content":[{"type":"tool_result","content":[{"type":"image"}]}]}]}"#, "vision"),
        (
            MESSAGES,
            r#"{"messages":[{"content":[{"type":"document","source":{"type":"url","url":"u"}}]}]}"#,
            "documents",
        ),
        (MESSAGES, r#"{"messages":[{"content":[{"type":"document","source":{"type":"text","data":"t"}}]}]}"#, ""),
        (
            MESSAGES,
            r#"{"messages":[{"content":[{"type":"document","source":{"content":[{"type":"image"}],"type":"content"}}]}]}"#,
            "vision",
        ),
        (MESSAGES, r#"{"messages":[],"thinking":{"type":"enabled","budget_tokens":1024}}"#, "reasoning"),
        (MESSAGES, r#"{"messages":[],"thinking":{"type":"disabled"},"tools":[{"name":"f"}]}"#, "tools"),
        (MESSAGES, r#"{"messages":[],"output_config":{"format":{"type":"json_schema","schema":{}}}}"#, "json_schema"),
        (GEMINI, r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"aGk="}}]}]}"#, "vision"),
        (GEMINI, r#"{"contents":[{"parts":[{"inline_data":{"data":"aGk=","mime_type":"audio/wav"}}]}]}"#, "audio"),
        (GEMINI, r#"{"contents":[{"parts":[{"fileData":{"mimeType":"application/pdf"}}]}]}"#, "documents"),
        (
            GEMINI,
            r#"{"contents":[{"parts":[{"functionResponse":{"parts":[{"inlineData":{"mimeType":"image/png"}}]}}]}]}"#,
            "vision",
        ),
        (
            GEMINI,
            r#"{"contents":[],"tools":[{"googleSearch":{}}],"generationConfig":{"responseSchema":{},"thinkingConfig":{"thinkingBudget":0}}}"#,
            "tools json_schema",
        ),
    ] {
        assert_eq!(needs(operation, body), wanted, "{operation} {body}");
    }
}

#[test]
fn words_of_users_and_arguments_of_tools_are_no_need() {
    for (operation, body) in [
        (CHAT, r#"{"messages":[{"role":"user","content":"{\"type\":\"image_url\",\"tools\":[1]} \"file\""}]}"#),
        (CHAT, r#"{"messages":[{"tool_calls":[{"function":{"arguments":"{\"type\":\"input_audio\"}"}}]}]}"#),
        (CHAT, r#"{"messages":[],"metadata":{"tools":["image_url"],"type":"image_url"},"user":"file"}"#),
        (
            MESSAGES,
            r#"{"messages":[{"content":[{"type":"tool_use","input":{"type":"image","content":[{"type":"image"}]}}]}]}"#,
        ),
        (MESSAGES, r#"{"messages":[{"content":"\"image\""}],"metadata":{"tools":[1]}}"#),
        (GEMINI, r#"{"contents":[{"parts":[{"functionCall":{"args":{"inlineData":{"mimeType":"image/png"}}}}]}]}"#),
        (
            GEMINI,
            r#"{"contents":[{"parts":[{"functionResponse":{"response":{"inlineData":{"mimeType":"image/png"}}}}]}]}"#,
        ),
        (
            RESPONSES,
            r#"{"input":[{"type":"custom_tool_call","input":"{\"type\":\"input_image\"}"}],"text":{"format":{"type":"text"}}}"#,
        ),
    ] {
        assert_eq!(needs(operation, body), "", "{operation} {body}");
    }
}

#[test]
fn tokens_are_those_of_text_and_not_of_what_is_packed_in_it() {
    let tokens = |body: &str| Body::new(CHAT, body.as_bytes()).needs().input.0;
    let text = "four words of text ".repeat(1000);
    let image = "iVBORw0KGgo".repeat(10_000);
    let plain = tokens(&format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#));
    assert!((4700..4800).contains(&plain), "{plain}");
    let with = tokens(&format!(
        r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
    ));
    assert!((plain + 700..plain + 900).contains(&with), "{with}");
    // in a place that is no part, by its looks
    let pasted = tokens(&format!(r#"{{"messages":[{{"role":"user","content":"data:image/png;base64,{image}"}}]}}"#));
    assert!(pasted < 20, "{pasted}");
    let asked = Body::new(CHAT, br#"{"messages":[],"max_tokens":10,"max_completion_tokens":1e3,"x":{"max_tokens":7}}"#);
    assert_eq!(asked.needs().max_output, Some(crate::units::Tokens(10)));
    assert_eq!(asked.most_output(), 10);
    let nested = Body::new(CHAT, br#"{"tools":[{"max_length":99999}],"max_tokens" : 12}"#);
    assert_eq!((nested.most_output(), nested.about().1), (12, Some(crate::units::Tokens(12))));
}

fn info(change: impl FnOnce(&mut Info)) -> Special {
    let mut special = PLAIN;
    change(&mut special.info);
    special
}

const IMAGE: &str = r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"u"}}]}]}"#;

#[test]
fn who_cannot_see_is_passed_over_and_where_nobody_can_it_is_said() {
    let mut world = World::new();
    let blind = || info(|i| i.vision = Some(false));
    world.model(
        "m",
        vec![("a/x", blind()), ("b/x", Special { priority: 2, ..PLAIN }), ("c/x", info(|i| i.vision = Some(true)))],
    );
    let question = Question { body: IMAGE.to_owned(), ..chat("m") };
    let plan = world.plan(&question).unwrap();
    assert_eq!(plan.targets.iter().map(name).collect::<Vec<_>>(), ["c/x", "b/x"], "what is not known is no reason");
    assert_eq!(plan.passed_over, [PassedOver { target: "a/x".into(), why: "has no image input".into() }]);
    assert_eq!(world.order(&chat("m")).len(), 3);

    world.model(
        "none",
        vec![("a/x", blind()), ("unset/x", PLAIN), ("b/x", info(|i| (i.vision, i.tools) = (None, Some(false))))],
    );
    let body = IMAGE.replacen('{', r#"{"tools":[{"name":"f"}],"#, 1);
    let error = world.plan(&Question { body, ..chat("none") }).unwrap_err();
    assert_eq!(
        (error.kind, error.param.as_deref(), error.code),
        (Kind::Unsupported, Some("messages"), Some("no_capable_target"))
    );
    assert_eq!(error.say, "No target of the model `none` has all that this call needs: image input, tools.");
    world.model("two", vec![("a/x", blind()), ("b/x", blind())]);
    let error = world.plan(&Question { body: IMAGE.to_owned(), ..chat("two") }).unwrap_err();
    assert_eq!(error.say, "No target of the model `two` has what this call needs: image input.");
    // of a single target nobody knows better than its provider
    world.model("one", vec![("a/x", blind())]);
    assert_eq!(world.order(&Question { body: IMAGE.to_owned(), ..chat("one") }), ["a/x"]);
    // tokens of it can be counted all the same
    let counted = Question { operation: Operation::CountMessageTokens, body: IMAGE.to_owned(), ..chat("two") };
    assert_eq!(world.order(&counted).len(), 2);
}

#[test]
fn a_format_and_reasoning_are_a_matter_of_preference() {
    let mut world = World::new();
    let plain = || info(|i| (i.json_schema, i.reasoning) = (Some(false), Some(false)));
    world.model("m", vec![("a/x", plain()), ("b/x", Special { priority: 2, ..PLAIN })]);
    let format = r#"{"messages":[],"response_format":{"type":"json_schema","json_schema":{}}}"#;
    for (body, why) in [
        (format, "has no output by a JSON schema"),
        (r#"{"messages":[],"reasoning_effort":"high"}"#, "has no reasoning"),
    ] {
        let plan = world.plan(&Question { body: body.to_owned(), ..chat("m") }).unwrap();
        assert_eq!(plan.targets.iter().map(name).collect::<Vec<_>>(), ["b/x"]);
        assert_eq!(plan.passed_over[0].why, why);
    }
    world.model("n", vec![("a/x", plain()), ("b/x", plain())]);
    let plan = world.plan(&Question { body: format.to_owned(), ..chat("n") }).unwrap();
    assert!(plan.targets.len() == 2 && plan.passed_over.is_empty());
}

#[test]
fn too_small_a_context_is_passed_over_and_the_largest_is_tried_when_all_are() {
    let mut world = World::new();
    let of = |context| info(|i| i.context = Some(context));
    world.model(
        "m",
        vec![
            ("a/x", of(8192)),
            ("b/x", Special { priority: 2, ..of(32_768) }),
            ("c/x", Special { priority: 3, ..of(16_384) }),
        ],
    );
    let asking = |words: usize, output: u32| {
        let text = "wor ".repeat(words);
        let body = format!(r#"{{"max_tokens":{output},"messages":[{{"role":"user","content":"{text}, or so"}}]}}"#);
        world.plan(&Question { body, ..chat("m") }).unwrap()
    };
    let names = |plan: &Plan| plan.targets.iter().map(name).collect::<Vec<_>>();
    assert_eq!(names(&asking(6000, 1000)), ["a/x", "b/x", "c/x"]);
    let plan = asking(19_000, 990);
    assert_eq!(names(&plan), ["b/x"]);
    assert_eq!(plan.passed_over[0].why, "context of 8192 tokens, about 19993 needed");
    let plan = asking(40_000, 1);
    assert_eq!(names(&plan), ["b/x"], "an estimate refuses nobody");
    assert_eq!(plan.passed_over.len(), 2);
    world.model("m", vec![("a/x", info(|i| i.max_output = Some(4096))), ("b/x", PLAIN)]);
    let body = r#"{"messages":[],"max_completion_tokens":8000}"#.to_owned();
    let plan = world.plan(&Question { body, ..chat("m") }).unwrap();
    assert_eq!(plan.passed_over[0].why, "output of 4096 tokens at most, 8000 asked for");
}

fn marks() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "image_url",
        "input_image",
        "image",
        "computer_screenshot",
        "video_url",
        "input_audio",
        "audio_url",
        "file",
        "input_file",
        "document",
        "inlineData",
        "fileData",
        "text",
        "json_schema",
        "high",
        "enabled",
        "image/png",
        "audio/wav",
        "application/pdf",
        "base64",
        "url",
        "function",
    ])
    .prop_map(|word| format!("{word:?}"));
    let name = prop::sample::select(vec![
        "type",
        "content",
        "parts",
        "output",
        "source",
        "messages",
        "input",
        "contents",
        "system",
        "tools",
        "functions",
        "response_format",
        "text",
        "format",
        "output_config",
        "generationConfig",
        "responseSchema",
        "thinkingConfig",
        "thinkingBudget",
        "thinking",
        "reasoning",
        "reasoning_effort",
        "effort",
        "inlineData",
        "file_data",
        "mimeType",
        "functionResponse",
        "max_tokens",
        "maxOutputTokens",
    ]);
    let leaf =
        prop_oneof![word, Just("null".to_owned()), (0u32..99_999).prop_map(|n| n.to_string()), Just("[]".to_owned())];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    /// The cheap search may be wrong in one direction only.
    #[test]
    fn what_is_found_by_walking_was_not_ruled_out_before(body in marks(), which in 0usize..4) {
        let operation = [CHAT, RESPONSES, MESSAGES, GEMINI][which];
        let (fresh, walked) = (Body::new(operation, body.as_bytes()), Body::new(operation, body.as_bytes()));
        let needs = walked.needs();
        for need in Need::ALL {
            // a part of another dialect is none of this one's
            if needs.has(need) && !matches!(need, Need::Images | Need::Audio | Need::Documents) {
                prop_assert!(fresh.may_need(need), "{need:?}");
            }
        }
        prop_assert!(fresh.most_output() >= needs.max_output.unwrap_or_default().0);
    }

    #[test]
    fn no_body_is_too_odd(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let body = Body::new(CHAT, &body);
        let _ = (body.needs(), body.tools(), body.most_output());
    }
}
