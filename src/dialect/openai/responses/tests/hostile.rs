//! What no provider sends and no decoder says, and still must not break anything.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::streams::{decode, events, lawful};
use super::*;
use crate::chat::{CallKind, Citation, Delta, Event, Issuer, Open, Seal, Stop, StopReason};

/// Blocks as any dialect's decoder may say them: opened in order, told in pieces that overlap in time.
#[derive(Debug, Clone)]
struct Told {
    kind: u8,
    pieces: Vec<u8>,
}

fn told() -> impl Strategy<Value = (Vec<Told>, Vec<prop::sample::Index>, u8)> {
    let block = (0u8..5, prop::collection::vec(0u8..4, 0..4)).prop_map(|(kind, pieces)| Told { kind, pieces });
    (prop::collection::vec(block, 0..6), prop::collection::vec(any::<prop::sample::Index>(), 20), 0u8..4)
}

fn open(n: usize, told: &Told) -> Open<'static> {
    match told.kind {
        0 => Open::Text,
        1 => Open::Refusal,
        2 => Open::Thinking { redacted: n == 0, id: (n == 1).then(|| "rs_x".into()) },
        kind => Open::ToolCall {
            id: format!("c{n}").into(),
            name: "f".into(),
            kind: if kind == 3 { CallKind::Function } else { CallKind::Custom },
            item_id: None,
        },
    }
}

fn delta(kind: u8, piece: u8) -> Delta<'static> {
    let seal = || Delta::Seal(Seal::new(Issuer::Gemini, "s"));
    match (kind, piece) {
        (0, 0) => Delta::Citation(Citation { url: Some("u".into()), ..Citation::default() }),
        (0 | 2 | 3 | 4, 1) => seal(),
        (0, _) => Delta::Text("t".into()),
        (1, _) => Delta::Refusal("r".into()),
        (2, piece) => Delta::Thought { part: piece.into(), summary: piece == 0, text: "h".into() },
        _ => Delta::Arguments("{".into()),
    }
}

/// One legal order of what is told.
fn ordered(blocks: &[Told], picks: &[prop::sample::Index], stop: u8) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    let (mut opened, mut left): (usize, Vec<Vec<u8>>) = (0, blocks.iter().map(|b| b.pieces.clone()).collect());
    let mut active: Vec<usize> = Vec::new();
    for pick in picks {
        let choice = pick.index(active.len() + 1);
        if choice == active.len() {
            if let Some(told) = blocks.get(opened) {
                events.push(Event::Open { choice: 0, block: opened as u32, open: open(opened, told) });
                active.push(opened);
                opened += 1;
            }
            continue;
        }
        let block = active[choice];
        match left[block].pop() {
            Some(piece) => {
                events.push(Event::Delta { choice: 0, block: block as u32, delta: delta(blocks[block].kind, piece) });
            }
            None => {
                events.push(Event::Close { choice: 0, block: block as u32 });
                active.remove(choice);
            }
        }
    }
    events.extend(active.into_iter().map(|block| Event::Close { choice: 0, block: block as u32 }));
    let reason = [StopReason::End, StopReason::Length, StopReason::Refusal, StopReason::MalformedCall];
    events.push(Event::Stop { choice: 0, stop: Stop::new(reason[usize::from(stop)].clone()) });
    events.push(Event::End);
    events
}

proptest! {
    #[test]
    fn every_legal_order_becomes_a_lawful_stream((blocks, picks, stop) in told()) {
        let mut encoder = Responses.stream_encoder(&TO);
        let mut out = Vec::new();
        ordered(&blocks, &picks, stop).into_iter().for_each(|event| encoder.push(event, &mut out));
        let stream = String::from_utf8(out).unwrap();
        lawful(&stream);
        // the text is all there, in one of its two places
        let said = |value: &Value| value.to_string().matches("\"text\":\"t").count();
        let last = events(&stream).pop().unwrap();
        let texts: usize = last["response"]["output"].as_array().unwrap().iter().map(said).sum();
        let wanted = ordered(&blocks, &picks, stop).iter().filter(|event| matches!(event, Event::Delta { delta: Delta::Text(_), .. })).count();
        prop_assert!(texts <= wanted && (wanted == 0 || texts > 0));
    }

    #[test]
    fn events_in_any_order_and_of_any_shape_are_read_or_refused(
        picks in prop::collection::vec((0usize..16, 0u64..3, 0u64..3, 0u8..4), 0..20),
    ) {
        let kinds = [
            "response.created", "response.output_item.added", "response.output_item.done", "response.content_part.added",
            "response.content_part.done", "response.output_text.delta", "response.output_text.done",
            "response.output_text.annotation.added", "response.reasoning_summary_text.delta", "response.reasoning_text.done",
            "response.function_call_arguments.delta", "response.function_call_arguments.done", "response.refusal.delta",
            "response.completed", "error", "response.reasoning_summary_part.done",
        ];
        let item = |shape: u8, index: u64| match shape {
            0 => json!({"type": "message", "id": format!("m{index}"), "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}),
            1 => json!({"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hmm"}], "encrypted_content": "e"}),
            2 => json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
            _ => json!({"type": "web_search_call", "action": {"type": "search", "query": "q"}}),
        };
        let stream: String = picks.iter().map(|(kind, output, part, shape)| {
            let event = json!({
                "type": kinds[*kind], "output_index": output, "content_index": part, "summary_index": part, "item": item(*shape, *output),
                "part": {"type": "output_text", "text": "hell"}, "delta": "he", "text": "hello", "arguments": "{}", "annotation": {},
                "response": {"id": "r", "output": [item(*shape, *output), item(0, 1)]},
            });
            format!("data: {event}\n\n")
        }).collect();
        let mut fold = crate::chat::Fold::new(crate::chat::Dialect::OpenAiResponses);
        let _ = decode(&[stream.as_bytes()], |event| fold.push(event));
        prop_assert_eq!(fold.faults, Vec::<String>::new(), "{}", stream);
    }

    #[test]
    fn near_json_is_read_or_refused(text in r#"[\[\]{}",:a-z0-9\\ ]{0,60}"#) {
        if let Ok(node) = Node::parse(text.as_bytes()) {
            let _ = Responses.decode_request(node);
        }
        let _ = decode(&[format!("data: {text}\n\n").as_bytes()], |_| {});
        let _ = Responses.decode_error(400, text.as_bytes());
    }
}
