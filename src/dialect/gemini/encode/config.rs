//! `generationConfig`, and what stands beside it.

use super::contents::Terms;
use super::part::kept;
use super::reasoning::Thinking;
use crate::chat::{Format, Json, Losses, Param, Request, Schema};
use crate::dialect::gemini::model::Model;
use crate::json::{Node, Value, Writer};

/// Most stop sequences that are taken.
const STOPS: usize = 5;

pub fn write(request: &Request<'_>, model: Model, terms: Terms, w: &mut Writer<'_>, losses: &mut Losses) {
    let mut out = Vec::new();
    let mut c = Writer::new(&mut out);
    c.object();
    sampling(request, terms, &mut c, losses);
    if let Some(format) = &request.format {
        self::format(format, terms, &mut c, losses);
    }
    if let Some(modalities) = &request.modalities {
        c.name("responseModalities").array();
        for modality in &modalities.value {
            c.string(&modality.to_ascii_uppercase());
        }
        c.end_array();
    }
    thinking(request, model, terms, &mut c, losses);
    if terms.native {
        kept(&mut c, &request.extra, "generationConfig.");
    }
    c.end_object();
    if out.len() > 2 {
        w.name("generationConfig").raw(std::str::from_utf8(&out).unwrap_or("{}"));
    }
}

fn sampling(request: &Request<'_>, terms: Terms, w: &mut Writer<'_>, losses: &mut Losses) {
    for (name, number) in [
        ("temperature", &request.temperature),
        ("topP", &request.top_p),
        ("topK", &request.top_k),
        ("presencePenalty", &request.presence_penalty),
        ("frequencyPenalty", &request.frequency_penalty),
    ] {
        w.raw_if(name, number.as_ref().map(|number| &*number.value));
    }
    if let Some(seed) = &request.seed {
        // a number of 32 bits here
        if terms.native || seed.value.parse::<f64>().is_ok_and(|seed| seed.abs() <= f64::from(i32::MAX)) {
            w.name("seed").raw(&seed.value);
        } else {
            losses.dropped(seed.at, "");
        }
    }
    w.number_if("candidateCount", request.n.as_ref().map(|n| n.value));
    w.number_if("maxOutputTokens", request.max_output.as_ref().map(|most| most.value));
    if let Some(stop) = request.stop.as_ref().filter(|stop| terms.native || !stop.value.is_empty()) {
        let taken = if terms.native { usize::MAX } else { STOPS };
        if stop.value.len() > taken {
            losses.changed(stop.at, "");
        }
        w.name("stopSequences").array();
        for sequence in stop.value.iter().take(taken) {
            w.string(sequence);
        }
        w.end_array();
    }
    let wanted = request.logprobs.as_ref().map(|wanted| wanted.value).filter(|wanted| terms.native || *wanted);
    w.boolean_if("responseLogprobs", wanted);
    let top = request.top_logprobs.as_ref().map(|top| top.value).filter(|top| terms.native || *top > 0);
    w.number_if("logprobs", top);
}

fn format(format: &Param<Format<'_>>, terms: Terms, w: &mut Writer<'_>, losses: &mut Losses) {
    match &format.value {
        Format::Text if terms.native => w.name("responseMimeType").string("text/plain"),
        Format::Text => {}
        Format::Json => w.name("responseMimeType").string("application/json"),
        // the name is a label for the writer's own use, and the schema is always followed
        Format::Schema(Schema { name: _, description, schema, strict: _ }) => {
            w.name("responseMimeType").string("application/json");
            w.name("responseJsonSchema").raw(schema);
            if description.is_some() {
                losses.dropped(format.at, "description");
            }
        }
    }
}

fn thinking(request: &Request<'_>, model: Model, terms: Terms, w: &mut Writer<'_>, losses: &mut Losses) {
    const WITHIN: &str = "generationConfig.thinkingConfig.";
    let thinking = match &request.reasoning {
        Some(asked) if terms.native => Thinking::native(&asked.value),
        Some(asked) => Thinking::of(asked, request.dialect, model.thinks, losses),
        None => Thinking::default(),
    };
    let of_its_own = terms.native && request.extra.0.iter().any(|member| member.name.starts_with(WITHIN));
    if thinking.is_empty() && !of_its_own {
        return;
    }
    w.name("thinkingConfig").object();
    thinking.write(w);
    if of_its_own {
        kept(w, &request.extra, WITHIN);
    }
    w.end_object();
}

/// `serviceTier`: a member at AI Studio, a header at Vertex.
pub fn tier(request: &Request<'_>, terms: Terms, w: &mut Writer<'_>, losses: &mut Losses) {
    let Some(tier) = &request.service_tier else { return };
    let word = match &*tier.value {
        word if terms.native => word,
        // what happens anyway
        "auto" => return,
        "default" if terms.vertex => return,
        "default" => "standard",
        word @ ("flex" | "priority") if !terms.vertex => word,
        _ => return losses.dropped(tier.at, ""),
    };
    w.name("serviceTier").string(word);
}

/// `labels`: Vertex bills by them, and takes small plain words only.
pub fn labels(request: &Request<'_>, terms: Terms, w: &mut Writer<'_>, losses: &mut Losses) {
    let Some(metadata) = &request.metadata else { return };
    if terms.native || (terms.vertex && are_labels(&metadata.value)) {
        w.name("labels").raw(&metadata.value);
    } else {
        losses.dropped(metadata.at, "");
    }
}

fn are_labels(metadata: &Json<'_>) -> bool {
    let plain = |text: &str| {
        text.len() <= 63 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
    };
    let Ok(node) = Node::parse(metadata.as_bytes()) else { return false };
    node.as_object().is_some_and(|members| {
        members.len() <= 64
            && members.iter().all(|(key, node)| {
                let lettered = key.starts_with(|c: char| c.is_ascii_lowercase());
                lettered && plain(key) && matches!(&node.value, Value::String(text) if plain(text))
            })
    })
}
