//! `POST /embeddings`: deterministic unit vectors (API reference, "Embeddings"). Texts that share words lie near each other, so
//! that a cache or a search by likeness has something to find.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::answer::count;
use super::fault::Fault;
use super::inquiry::Task;
use super::reply::Reply;

/// The API's bound on inputs in one call.
const MOST_INPUTS: usize = 2048;
/// Words of a text that count; the rest would only cost time.
const MOST_WORDS: usize = 512;

pub(super) fn answer(task: &Task<'_>) -> Result<Reply, Fault> {
    let inputs = inputs(task.body.get("input"))?;
    let full = if task.model.ends_with("3-large") { 3072 } else { 1536 };
    let dimensions = match task.body.get("dimensions") {
        None | Some(Value::Null) => full,
        Some(value) => match value.as_u64() {
            Some(asked) if (1..=full).contains(&asked) => asked,
            Some(_) | None => {
                let message = format!("Invalid value for 'dimensions' = {value}. Must be an integer from 1 to {full}.");
                return Err(Fault::bad(message).param("dimensions"));
            }
        },
    };
    let base64 = match task.text("encoding_format") {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("Invalid value: '{other}'. Supported values are: 'float' and 'base64'.");
            return Err(Fault::bad(message).param("encoding_format").code("invalid_value"));
        }
    };
    let data = inputs.iter().enumerate().map(|(index, (text, _))| {
        let vector = vector(text, dimensions as usize);
        let embedding = if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
            Value::String(STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let mut document = json!({ "object": "list", "data": data.collect::<Vec<_>>(), "model": task.model });
    if task.scenario.reports_usage() {
        let tokens: u64 = inputs.iter().map(|(_, tokens)| tokens).sum();
        document["usage"] = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    }
    Ok(task.scenario.whole(&document))
}

/// Every input as text with its tokens: a string, strings, token numbers or lists of them.
fn inputs(input: Option<&Value>) -> Result<Vec<(String, u64)>, Fault> {
    let invalid = || {
        Fault::bad(
            "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.",
        )
    };
    let one = |input: &Value| match input {
        Value::String(text) if !text.is_empty() => Ok((text.clone(), count(text))),
        Value::Array(tokens) if !tokens.is_empty() && tokens.iter().all(Value::is_u64) => {
            let text = tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            Ok((text, tokens.len() as u64))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Err(invalid())
        }
    };
    match input {
        None | Some(Value::Null) => Err(Fault::missing("input")),
        Some(Value::Array(some)) if some.len() > MOST_INPUTS => Err(invalid()),
        Some(Value::Array(some)) if !some.is_empty() && !some.iter().all(Value::is_u64) => {
            some.iter().map(one).collect()
        }
        Some(input) => Ok(vec![one(input)?]),
    }
}

/// The sum of its words' directions, of length one, rounded to what an `f32` carries.
pub(super) fn vector(text: &str, dimensions: usize) -> Vec<f64> {
    let mut sum = vec![0.0; dimensions];
    let lower = text.to_lowercase();
    let words = lower.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    for word in words
        .take(MOST_WORDS)
        .chain(std::iter::once(lower.as_str()).filter(|text| !text.contains(char::is_alphanumeric)))
    {
        let mut state = word.bytes().fold(0xcbf2_9ce4_8422_2325, |state: u64, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a
        });
        for place in &mut sum {
            *place += direction(&mut state);
        }
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    sum.iter().map(|value| (value / length * 1e8).round() / 1e8).collect()
}

/// The next of a fixed sequence between -1 and 1 (SplitMix64).
fn direction(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_likeness_follows_shared_words() {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cats = vector("the cat sat on the mat", 256);
        let dogs = vector("the dog sat on the mat", 256);
        let far = vector("quarterly revenue grew strongly", 256);
        assert!((dot(&cats, &cats) - 1.0).abs() < 1e-5);
        assert!(dot(&cats, &dogs) > 0.7);
        assert!(dot(&cats, &far).abs() < 0.3);
        assert!((dot(&vector("?!", 8), &vector("?!", 8)) - 1.0).abs() < 1e-5);
    }
}
