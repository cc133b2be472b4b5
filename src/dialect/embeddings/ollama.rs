//! A provider with Ollama's own embeddings: `/api/embed`; the answer of the older `/api/embeddings` too.
//!
//! Truth: ollama/docs/api.md, "Generate Embeddings".

use super::{Found, Input, Losses, Truncate, Wanted, count, string_if};
use crate::dialect::codec::{Garbled, To};
use crate::json::{Walk, Writer};

pub(super) fn question(wanted: &Wanted<'_>, inputs: &[Input<'_>], to: &To<'_>, losses: &mut Losses) -> Vec<u8> {
    let Wanted { inputs: _, dimensions, truncate, normalize } = wanted;
    Input::drop_hints(inputs, losses);
    if let Some(normalize) = normalize {
        losses.dropped(normalize.at, "");
    }
    if let Some(truncate) = truncate.filter(|asked| asked.value == Truncate::Start) {
        losses.changed(truncate.at, "");
    }
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("model").string(to.model);
    w.name("input").array();
    for input in inputs {
        w.string(&input.text);
    }
    w.end_array();
    w.boolean_if("truncate", truncate.map(|p| p.value != Truncate::Never));
    w.number_if("dimensions", dimensions.map(|p| p.value));
    w.end_object();
    body
}

pub(super) fn read_answer<'a>(walk: &mut Walk<'a>, found: &mut Found<'a>) -> Result<(), Garbled> {
    walk.object(|name, walk| {
        match name {
            "embeddings" => found.push_all(walk)?,
            "embedding" => found.push(super::Vector::read(walk)?)?,
            "model" => found.model = string_if(walk)?,
            "prompt_eval_count" => found.input_tokens = count(walk)?,
            _ => {}
        }
        Ok(())
    })
}
