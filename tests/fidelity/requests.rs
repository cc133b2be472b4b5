//! Features of requests: said by each client's dialect, written in each provider's.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate::chat::Losses;
use tollgate::dialect::adapt::{Undo, adapt};
use tollgate::dialect::{Dialect, Operation, To, inbound, outbound};
use tollgate::json::Node;

use crate::cell::{Arrival, Cell, Outcome, judge};
use crate::marks::Hay;
use crate::{CLIENTS, Row, Section, files, manners_of, model_of};

pub type Members = BTreeMap<String, Box<RawValue>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    section: String,
    features: Vec<Feature>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feature {
    feature: String,
    /// What arrives, unless `to` knows better.
    carried: Option<Arrival>,
    /// The request's members by client; what every request needs is added.
    from: BTreeMap<String, Members>,
    /// What arrives at a dialect that spells it otherwise.
    #[serde(default)]
    to: BTreeMap<String, Arrival>,
    /// The same where client and provider speak the same dialect.
    #[serde(default)]
    own: BTreeMap<String, Arrival>,
    /// Beginnings of paths whose losses are another feature's.
    #[serde(default)]
    beside: Vec<String>,
    refused: Option<String>,
}

/// A request as it was said in a provider's dialect.
pub struct Said {
    pub text: Vec<u8>,
    pub body: Vec<u8>,
    pub losses: Losses,
    pub undo: Undo,
}

pub fn run(faults: &mut Vec<String>) -> Vec<Section> {
    let mut sections = Vec::new();
    for file in files("requests") {
        let text = std::fs::read_to_string(&file).expect("a file");
        let topic: Topic = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let rows = topic.features.iter().map(|feature| row(feature, faults)).collect();
        sections.push(Section { title: topic.section, rows });
    }
    sections
}

fn row(feature: &Feature, faults: &mut Vec<String>) -> Row {
    let Feature { feature: name, carried, from, to, own, beside, refused } = feature;
    known(name, from.keys(), &CLIENTS.map(|(_, client, _)| client));
    known(name, to.keys().chain(own.keys()), &Dialect::ALL.map(Dialect::name));
    let mut cells = Vec::new();
    for (operation, client, _) in CLIENTS {
        let Some(members) = from.get(client) else {
            cells.push(vec![(Cell::Unsaid, Cell::Unsaid); Dialect::ALL.len()]);
            continue;
        };
        let cell = |dialect: Dialect| {
            let same = operation != Operation::Completions && operation.dialect() == Some(dialect);
            let own = own.get(dialect.name()).filter(|_| same);
            let arrival = own.or(to.get(dialect.name())).or(carried.as_ref());
            let arrival = arrival.unwrap_or_else(|| panic!("{name}: nothing says what arrives at {dialect}"));
            let said = say(operation, members, dialect).unwrap_or_else(|e| panic!("{name} of {client}: {e}"));
            let outcome = Outcome {
                hay: &Hay::of_body(&said.body),
                losses: &said.losses,
                beside,
                text: &said.text,
                adapted: !said.undo.is_empty(),
                same,
            };
            judge(arrival, &outcome).unwrap_or_else(|fault| {
                let body = String::from_utf8_lossy(&said.body).into_owned();
                faults.push(format!("{name:?} of {client} to {dialect}: {fault}\n    {body}"));
                Cell::Unsaid
            })
        };
        cells.push(Dialect::ALL.into_iter().map(cell).map(|cell| (cell, cell)).collect());
    }
    if refused.is_some() != cells.iter().flatten().any(|cell: &(Cell, Cell)| cell.0 == Cell::Refused) {
        faults.push(format!("{name:?}: `refused` says why, where something is refused and nowhere else"));
    }
    Row { feature: name.clone(), cells, refused: refused.clone() }
}

pub fn known<'k>(feature: &str, names: impl Iterator<Item = &'k String>, of: &[&str]) {
    for name in names {
        assert!(of.contains(&name.as_str()), "{feature}: {name} is none of {of:?}");
    }
}

/// Write a client's request in a provider's dialect, as the bridge does. In its own nothing is emulated: it is forwarded.
pub fn say(operation: Operation, members: &Members, to: Dialect) -> Result<Said, String> {
    let text = request(operation, members);
    let codec = inbound(operation).expect("clients speak it");
    let node = Node::parse(&text).map_err(|e| e.to_string())?;
    let mut losses = codec.unsaid(&node);
    let mut request = codec.decode_request(node).map_err(|wrong| format!("{wrong:?}"))?;
    let (model, manners, outbound) = (model_of(to), manners_of(to), outbound(to));
    request.model = model.into();
    let undo = match operation.dialect() == Some(to) && operation != Operation::Completions {
        true => Undo::default(),
        false => adapt(&mut request, &outbound.abilities(model, &manners), &mut losses),
    };
    let encoded = outbound.encode_request(&request, &To { model, manners: &manners });
    losses.merge(encoded.losses);
    drop(request);
    Ok(Said { text, body: encoded.body, losses, undo })
}

/// The members of a feature, and those without which a request is none.
fn request(operation: Operation, members: &Members) -> Vec<u8> {
    let needed: &[(&str, &str)] = match operation {
        Operation::ChatCompletions => {
            &[("model", r#""m""#), ("messages", r#"[{"role": "user", "content": "Say something."}]"#)]
        }
        Operation::Responses => &[("model", r#""m""#), ("input", r#""Say something.""#)],
        Operation::Messages => &[
            ("model", r#""m""#),
            ("max_tokens", "512"),
            ("messages", r#"[{"role": "user", "content": "Say something."}]"#),
        ],
        Operation::GenerateContent => &[("contents", r#"[{"role": "user", "parts": [{"text": "Say something."}]}]"#)],
        Operation::Completions => &[("model", r#""m""#), ("prompt", r#""Say something.""#)],
        _ => panic!("no conversation"),
    };
    whole(members, needed)
}

/// A JSON object of some members and those that it needs beside.
pub fn whole(members: &Members, needed: &[(&str, &str)]) -> Vec<u8> {
    let missing = needed.iter().filter(|(name, _)| !members.contains_key(*name));
    let mut all: Vec<String> = missing.map(|(name, value)| format!("{name:?}: {value}")).collect();
    all.extend(members.iter().map(|(name, value)| format!("{name:?}: {}", value.get())));
    format!("{{{}}}", all.join(", ")).into_bytes()
}
