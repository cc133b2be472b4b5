//! `generationConfig`: what shapes the answer.

use std::borrow::Cow;

use super::{keep, keep_one, list, number, param, take, take_bool, take_string, whole};
use crate::chat::{Effort, Format, Param, Reasoning, Request, Schema};
use crate::dialect::gemini::schema::to_json_schema;
use crate::json::{Members, Node, Wrong};

const WITHIN: &str = "generationConfig";

pub fn generation<'a>(node: Node<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    let mut members = node.object()?;
    let m = &mut members;
    request.temperature = param(m, "temperature", number)?;
    request.top_p = param(m, "topP", number)?;
    request.top_k = param(m, "topK", number)?;
    request.presence_penalty = param(m, "presencePenalty", number)?;
    request.frequency_penalty = param(m, "frequencyPenalty", number)?;
    request.seed = param(m, "seed", number)?;
    request.n = param(m, "candidateCount", whole)?;
    request.max_output = param(m, "maxOutputTokens", whole)?;
    request.logprobs = param(m, "responseLogprobs", Node::boolean)?;
    request.top_logprobs = param(m, "logprobs", whole)?;
    request.stop = param(m, "stopSequences", |stops| list(stops).into_iter().map(Node::string).collect())?;
    request.modalities = param(m, "responseModalities", |words| list(words).into_iter().map(modality).collect())?;
    if let Some(thinking) = take(m, "thinkingConfig") {
        request.reasoning = reasoning(thinking, request)?;
    }
    format(m, request)?;
    keep(&mut request.extra, WITHIN, members);
    Ok(())
}

fn modality(node: Node<'_>) -> Result<Cow<'_, str>, Wrong> {
    match node.as_u64() {
        Some(1) => Ok(Cow::Borrowed("text")),
        Some(2) => Ok(Cow::Borrowed("image")),
        Some(3) => Ok(Cow::Borrowed("audio")),
        _ => node.string().map(|word| Cow::Owned(word.to_ascii_lowercase())),
    }
}

fn reasoning<'a>(node: Node<'a>, request: &mut Request<'a>) -> Result<Option<Param<Reasoning<'a>>>, Wrong> {
    let at = node.at;
    let mut members = node.object()?;
    let mut value = Reasoning::default();
    if let Some(budget) = take(&mut members, "thinkingBudget") {
        let tokens = number(budget.clone())?;
        match tokens.parse::<f64>() {
            // -1: the model decides
            Ok(tokens) if tokens < 0.0 => value.adaptive = true,
            _ => {
                let tokens = whole(budget)?;
                value.budget = Some(tokens);
                value.enabled = Some(tokens > 0);
            }
        }
    }
    if let Some(level) = take(&mut members, "thinkingLevel") {
        let word = level.string()?.to_ascii_lowercase();
        if word != "thinking_level_unspecified" {
            value.effort = Some(Effort::from_word(Cow::Owned(word)));
        }
    }
    if let Some(shown) = take_bool(&mut members, "includeThoughts")? {
        value.summary = Some(Cow::Borrowed(if shown { "auto" } else { "none" }));
    }
    keep(&mut request.extra, "generationConfig.thinkingConfig", members);
    Ok((value != Reasoning::default()).then_some(Param { value, at }))
}

/// `responseMimeType` with one of the four names a schema has had.
fn format<'a>(members: &mut Members<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    let Some(kind) = take(members, "responseMimeType") else { return schema(members, request) };
    let at = kind.at;
    match kind.as_str() {
        Some("application/json") => {
            request.format = Some(Param { value: Format::Json, at });
            schema(members, request)
        }
        Some("text/plain") => {
            request.format = Some(Param { value: Format::Text, at });
            Ok(())
        }
        // `text/x.enum`, and what is to come: the schema stays beside it
        _ => {
            keep_one(&mut request.extra, WITHIN, "responseMimeType", &kind);
            Ok(())
        }
    }
}

fn schema<'a>(members: &mut Members<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    let standard = take(members, "responseJsonSchema")
        .or_else(|| members.take("_responseJsonSchema"))
        .or_else(|| members.take("_response_json_schema"));
    let (schema, at) = match standard {
        Some(node) => (Cow::Borrowed(node.raw), node.at),
        None => match take(members, "responseSchema") {
            Some(node) => (to_json_schema(&node), node.at),
            None => return Ok(()),
        },
    };
    let value = Format::Schema(Schema { name: None, description: None, schema, strict: None });
    request.format = Some(Param { value, at });
    Ok(())
}

/// `serviceTier` and `labels` stand beside `generationConfig`.
pub fn beside<'a>(members: &mut Members<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    if let Some(node) = members.take("labels") {
        let at = node.at;
        let value = Cow::Borrowed(node.raw);
        node.object()?;
        request.metadata = Some(Param { value, at });
    }
    let at = members.get("serviceTier").or(members.get("service_tier")).map(|node| node.at);
    if let (Some(value), Some(at)) = (take_string(members, "serviceTier")?, at) {
        request.service_tier = Some(Param { value, at });
    }
    Ok(())
}
