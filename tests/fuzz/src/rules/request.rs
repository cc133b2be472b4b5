//! Requests of clients, said to every provider.

use serde_json::{Value, json};

use super::{CLIENTS, chosen, model_of, read, shown};
use crate::chat::{Block, Dialect, How, Losses, Request, Tool, ToolChoice};
use crate::dialect::adapt::{Undo, adapt};
use crate::dialect::{Manners, Operation, ThinkingForm, To, inbound, outbound};
use crate::json::{Node, Paths};

const INBOUND: [Operation; 5] = [
    Operation::ChatCompletions,
    Operation::Completions,
    Operation::Responses,
    Operation::Messages,
    Operation::GenerateContent,
];

/// The first byte is the client's dialect (and the manners of the providers), the rest the body. What can be read can be written for every
/// provider: in JSON, and so that a reader of that dialect takes it, and writing that again changes nothing and loses nothing.
pub fn decode_request(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let (client, manners) = chosen(*first, INBOUND.len());
    let codec = inbound(INBOUND[client]).expect("clients speak it");
    let old = manners % 2 == 1;
    let default = manners == 0;
    let manners = manners_of(manners / 2);
    let Ok(node) = Node::parse(body) else { return };
    let unsaid = codec.unsaid(&node);
    let request = match codec.decode_request(node) {
        Ok(request) => request,
        Err(wrong) => {
            let _ = Paths::new(body).of(wrong.at);
            return;
        }
    };
    read(format!("{{{}}}", codec.echo(&request)).as_bytes(), "echo");
    // what is no schema is refused by who reads it next
    let schemas = request.tools.iter().all(|tool| match tool {
        Tool::Function(tool) => tool.parameters.as_ref().is_none_or(|schema| schema.starts_with('{')),
        Tool::Server(_) => true,
    });
    // a call without an id gets one from who reads it next
    let mut blocks = request.turns.iter().flat_map(|turn| &turn.blocks);
    let paired = !blocks.any(|block| matches!(block, Block::ToolCall(call) if call.id.is_empty()));
    // a number too large for a double is text to us, and nothing to who compares here
    let comparable = serde_json::from_slice::<Value>(body).is_ok();
    // one that names no tool is the caller's mistake, and told by the provider
    let named = match request.tool_choice.as_ref().map(|choice| &choice.value) {
        Some(ToolChoice::Tool(name)) => request.tools.iter().any(|tool| match tool {
            Tool::Function(tool) => tool.name == *name,
            Tool::Server(tool) => tool.name == *name,
        }),
        _ => true,
    };
    let offers = !request.tools.is_empty() && schemas && named && comparable;
    for to in Dialect::ALL {
        let (sent, losses, _) = said(request.clone(), to, old, &manners);
        let mut paths = Paths::new(body);
        for loss in unsaid.iter().chain(losses.iter()) {
            let _ = paths.of(loss.at);
        }
        let what = format!("{} to {to}", INBOUND[client]);
        let node = read(&sent, &what);
        if default && to == request.dialect && schemas {
            own_again(&losses, &mut paths, &what);
        }
        if offers && losses.iter().all(|loss| loss.how != How::Essential) {
            offered(&sent, &what);
        }
        if schemas && paired && comparable {
            read_again(node, &sent, to, old, &manners, &what);
        }
    }
}

/// What is sent, what was lost, and what has to be undone.
pub(super) fn said(mut request: Request<'_>, to: Dialect, old: bool, manners: &Manners) -> (Vec<u8>, Losses, Undo) {
    let outbound = outbound(to);
    let model = model_of(to, old);
    let mut losses = Losses::default();
    let undo = adapt(&mut request, &outbound.abilities(model, manners), &mut losses);
    let encoded = outbound.encode_request(&request, &To { model, manners });
    losses.merge(encoded.losses);
    (encoded.body, losses, undo)
}

/// In its own dialect a request loses none of its parameters. Of turns and tools what has no pair, or a vendor has not, may go.
fn own_again(losses: &Losses, paths: &mut Paths<'_>, what: &str) {
    for loss in losses.iter().filter(|loss| loss.how != How::Changed) {
        let place = format!("{}.{}", paths.of(loss.at), loss.member);
        assert!(place.contains('['), "{what}: {place} is lost");
    }
}

/// A choice is refused where there is nothing to choose from, and an empty list of tools too.
fn offered(sent: &[u8], what: &str) {
    let body: Value = serde_json::from_slice(sent).expect("JSON");
    let bedrock = &body["toolConfig"]["tools"];
    let tools = [&body["tools"], bedrock].into_iter().find_map(Value::as_array);
    assert!(tools.is_none_or(|tools| !tools.is_empty()), "{what}: no tools in a list: {}", shown(sent));
    let chosen = !body["tool_choice"].is_null() || !body["toolConfig"]["toolChoice"].is_null();
    let forced = body["toolConfig"]["functionCallingConfig"]["mode"] == "ANY";
    assert!(tools.is_some() || !(chosen || forced), "{what}: a choice among nothing: {}", shown(sent));
}

fn read_again(node: Node<'_>, sent: &[u8], to: Dialect, old: bool, manners: &Manners, what: &str) {
    let Some(codec) = CLIENTS.into_iter().find(|c| c.dialect() == Some(to)).and_then(inbound) else { return };
    let request = codec
        .decode_request(node)
        .unwrap_or_else(|e| panic!("{what}: what we wrote is refused: {e:?}: {}", shown(sent)));
    let (again, losses, _) = said(request, to, old, manners);
    if plain(&again) != plain(sent) {
        panic!("{what}: written again it is another request\n sent  {}\n again {}", shown(sent), shown(&again));
    }
    // the name of a call that has none
    let lost = losses.iter().any(|loss| loss.member != "name");
    assert!(!lost, "{what}: written again it loses {losses:?}: {}", shown(sent));
}

/// Two spellings of one request in one form.
fn plain(body: &[u8]) -> Value {
    let mut value = serde_json::from_slice(body).expect("JSON");
    simplify(&mut value);
    value
}

fn simplify(value: &mut Value) {
    match value {
        Value::Array(items) => {
            // a thought that is none
            items.retain(|item| *item != json!({"text": "", "thought": true}));
            items.iter_mut().for_each(simplify);
        }
        Value::Object(members) => {
            if let Some(user) = members.remove("safety_identifier") {
                members.entry("user").or_insert(user);
            }
            for (name, value) in members.iter_mut() {
                simplify(value);
                simplify_member(name, value);
            }
            members.retain(|_, value| !(value.is_null() || *value == json!("") || *value == json!([])));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn simplify_member(name: &str, value: &mut Value) {
    match (name, &mut *value) {
        // a text alone is a part alone
        ("content" | "system" | "output", Value::Array(parts)) => {
            let [Value::Object(part)] = parts.as_mut_slice() else { return };
            let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
            if part.len() <= 2 && matches!(kind, "text" | "input_text" | "output_text") {
                *value = part.remove("text").unwrap_or_default();
            }
        }
        ("data", Value::String(data)) => *data = data.replace('-', "+").replace('_', "/"),
        ("functionResponse", Value::Object(response)) => {
            response.remove("name");
        }
        _ => {}
    }
}

fn manners_of(bits: usize) -> Manners {
    let set = |bit: usize| bits >> bit & 1 == 1;
    Manners {
        max_completion_tokens: !set(0),
        developer_role: !set(0),
        no_json_schema: set(1),
        cache_control: set(2),
        reasoning_object: set(2),
        thinking: match bits % 4 {
            0 => ThinkingForm::ReasoningContent,
            1 => ThinkingForm::Reasoning,
            2 => ThinkingForm::Parts,
            _ => ThinkingForm::Nowhere,
        },
        anthropic_version: set(3).then(|| "vertex-2023-10-16".into()),
        vertex: set(3),
        region: set(4).then(|| "us-east-1".into()),
    }
}
