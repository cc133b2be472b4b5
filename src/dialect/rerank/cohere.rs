//! Rerank in Cohere's grammar, from either side, and in what is shaped like it.
//!
//! Truth: Cohere API reference, "Rerank" v1 and v2. Version 1 takes documents that are objects (`rank_fields` says which members count;
//! `text` alone by default) and gives them back (`return_documents`); version 2 takes strings, in YAML for what was an object, and never
//! gives them back. vLLM and llama.cpp speak version 2's with a `usage`; some servers say `data` for `results` and `score` for
//! `relevance_score`.

use std::borrow::Cow;

use super::{Asked, Content, Document, Found, MAX_DOCUMENTS, Placed, Wanted};
use crate::chat::{Extra, Losses, Param};
use crate::dialect::codec::{Garbled, ReplyTo, To};
use crate::json::{Members, Node, Value, Writer, Wrong};

/// So many documents are one search unit (Cohere, "Pricing", rerank).
const DOCUMENTS_PER_UNIT: usize = 100;

/// Most `rank_fields`: each is looked up in every document.
const MAX_FIELDS: usize = 32;

/// A client's question.
pub(super) struct Question<'a> {
    pub wanted: Wanted<'a>,
    /// Members of one vendor or another.
    pub extra: Extra<'a>,
    pub version: &'static str,
    /// Documents stand again in the answer.
    pub again: bool,
}

// === the client asks ===

pub(super) fn read_question<'a>(body: Node<'a>, losses: &mut Losses) -> Result<Question<'a>, Wrong> {
    let at = body.at;
    let mut members = body.object()?;
    members.take("model");
    let query = members.take_string("query")?.ok_or(Wrong::new(at, "\"query\" is missing"))?;
    let documents = members.take("documents").ok_or(Wrong::new(at, "\"documents\" is missing"))?;
    let top = param(&mut members, "top_n")?;
    let max_tokens_per_document = param(&mut members, "max_tokens_per_doc")?;
    let again = members.take_bool("return_documents")?;
    let rank_fields = members.take_array("rank_fields")?;
    let version = if again.is_some() || rank_fields.is_some() { "1" } else { "2" };
    let rank_fields = match rank_fields {
        Some(fields) if fields.len() > MAX_FIELDS => {
            return Err(Wrong::new(at, format!("at most {MAX_FIELDS} \"rank_fields\"")));
        }
        Some(fields) => fields.into_iter().map(Node::string).collect::<Result<Vec<_>, _>>()?,
        None => vec![Cow::Borrowed("text")],
    };
    if let Some(chunks) = members.take("max_chunks_per_doc") {
        losses.dropped(chunks.at, "");
    }
    let place = documents.at;
    let documents = documents.array()?;
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        return Err(Wrong::new(place, format!("expected 1 to {MAX_DOCUMENTS} documents")));
    }
    let documents =
        documents.into_iter().map(|document| read_document(document, &rank_fields)).collect::<Result<_, _>>()?;
    let wanted = Wanted { query, documents, top, max_tokens_per_document };
    Ok(Question { wanted, extra: Extra::rest(members), version, again: again.unwrap_or(false) })
}

fn param(members: &mut Members<'_>, name: &str) -> Result<Option<Param<u64>>, Wrong> {
    let Some(node) = members.take(name) else { return Ok(None) };
    let at = node.at;
    match node.whole_number()? {
        0 => Err(Wrong::new(at, "expected at least 1")),
        value => Ok(Some(Param { value, at })),
    }
}

fn read_document<'a>(document: Node<'a>, rank_fields: &[Cow<'a, str>]) -> Result<Document<'a>, Wrong> {
    let (raw, at) = (document.raw, document.at);
    let mut members = match document.value {
        Value::String(text) => return Ok(Document { content: Content::Text(text), raw }),
        Value::Object(members) => members,
        _ => return Err(Wrong::new(at, "expected a string or an object")),
    };
    let mut fields: Vec<_> = rank_fields.iter().filter_map(|name| Some((name.clone(), members.take(name)?))).collect();
    let content = match (fields.pop(), fields.is_empty()) {
        (None, _) => return Err(Wrong::new(at, "expected a member \"text\", or one that \"rank_fields\" names")),
        (Some((name, Node { value: Value::String(text), .. })), true) if name == "text" => Content::Text(text),
        (Some(last), _) => {
            fields.push(last);
            Content::Fields(fields)
        }
    };
    Ok(Document { content, raw })
}

// === the provider is asked ===

pub(super) fn question(wanted: &Wanted<'_>, extra: &Extra<'_>, to: &To<'_>, losses: &mut Losses) -> Vec<u8> {
    let Wanted { query, documents, top, max_tokens_per_document } = wanted;
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("model").string(to.model);
    w.name("query").string(query);
    w.name("documents").array();
    for Document { content, raw: _ } in documents {
        match content {
            Content::Text(text) => w.string(text),
            Content::Fields(fields) => {
                if let Some((_, first)) = fields.first() {
                    losses.changed(first.at, "");
                }
                w.string(&yaml(fields));
            }
        }
    }
    w.end_array();
    w.number_if("top_n", top.map(|p| p.value));
    w.number_if("max_tokens_per_doc", max_tokens_per_document.map(|p| p.value));
    for member in &extra.0 {
        w.name(&member.name).raw(&member.json);
    }
    w.end_object();
    body
}

/// A line for each member; a JSON value is YAML as it is, and most strings are.
fn yaml(fields: &[(Cow<'_, str>, Node<'_>)]) -> String {
    let mut text = String::new();
    for (name, node) in fields {
        let plain = node.as_str().filter(|s| !s.contains(['\n', '\r']));
        text.push_str(name);
        text.push_str(": ");
        text.push_str(plain.unwrap_or(node.raw));
        text.push('\n');
    }
    text
}

pub(super) fn read_answer(reply: Node<'_>) -> Result<Found<'_>, Garbled> {
    let mut found = Found::default();
    let results = match reply.value {
        Value::Array(results) => results,
        Value::Object(mut members) => {
            found.id = string_if(members.take("id"));
            found.read_usage(&mut members);
            let results = members.take("results").or_else(|| members.take("data"));
            results.ok_or(Garbled::new("a reply without results"))?.array()?
        }
        _ => return Err(Garbled::new("expected an object")),
    };
    for result in results {
        found.results.push(Placed::read(result, &["relevance_score", "score"])?);
    }
    Ok(found)
}

fn string_if<'a>(node: Option<Node<'a>>) -> Option<Cow<'a, str>> {
    node?.string().ok()
}

fn object_if<'a>(members: &mut Members<'a>, name: &str) -> Option<Members<'a>> {
    members.take(name)?.object().ok()
}

fn whole_if(members: &Members<'_>, name: &str) -> Option<u64> {
    members.get(name)?.as_u64()
}

impl<'a> Found<'a> {
    /// Cohere: `meta`; the others: `usage`.
    fn read_usage(&mut self, members: &mut Members<'a>) {
        if let Some(mut meta) = object_if(members, "meta") {
            self.billed_units = meta.get("billed_units").filter(|node| node.as_object().is_some()).map(|node| node.raw);
            self.input_tokens = object_if(&mut meta, "tokens").and_then(|tokens| whole_if(&tokens, "input_tokens"));
        }
        if let Some(usage) = object_if(members, "usage") {
            let tokens = whole_if(&usage, "prompt_tokens").or_else(|| whole_if(&usage, "total_tokens"));
            self.input_tokens = self.input_tokens.or(tokens);
        }
    }
}

// === the client is answered ===

pub(super) fn answer(found: &Found<'_>, asked: &Asked, to: &ReplyTo<'_>) -> Vec<u8> {
    let Found { id, results, input_tokens, billed_units } = found;
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("id").string(id.as_deref().unwrap_or(to.id));
    w.name("results").array();
    for Placed { index, score: _, text } in results {
        w.object();
        w.name("index").number(*index as u64);
        w.name("relevance_score").raw(text);
        let again = asked.again.as_ref().and_then(|documents| documents.get(*index));
        w.raw_if("document", again.map(String::as_str));
        w.end_object();
    }
    w.end_array();
    w.name("meta").object();
    w.name("api_version").object();
    w.name("version").string(asked.version);
    w.end_object();
    w.name("billed_units");
    match billed_units {
        Some(units) => w.raw(units),
        None => {
            w.object();
            w.name("search_units").number(asked.documents.div_ceil(DOCUMENTS_PER_UNIT) as u64);
            w.end_object();
        }
    }
    if let Some(tokens) = input_tokens {
        w.name("tokens").object();
        w.name("input_tokens").number(*tokens);
        w.end_object();
    }
    w.end_object();
    w.end_object();
    body
}
