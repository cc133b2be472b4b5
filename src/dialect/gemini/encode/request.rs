//! A request as Gemini is asked.

use super::contents::{Terms, spoken};
use super::{config, tools};
use crate::chat::{Dialect, Losses, Param, Request};
use crate::dialect::codec::{Encoded, To};
use crate::dialect::gemini::model::Model;
use crate::json::Writer;

pub fn encode(request: &Request<'_>, to: &To<'_>) -> Encoded {
    let model = Model::of(to.model);
    let native = request.dialect == Dialect::Gemini;
    let terms = Terms { native, vertex: to.manners.vertex, third: model.third };
    let mut losses = Losses::default();
    unspeakable(request, &mut losses);
    let spoken = spoken(request, terms, &mut losses);
    let mut body = Vec::with_capacity(1024);
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("contents").array();
    for content in &spoken.contents {
        content.write(&mut w);
    }
    w.end_array();
    if !spoken.system.is_empty() {
        w.name("systemInstruction").object();
        w.name("parts").array();
        for part in &spoken.system {
            part.write(&mut w);
        }
        w.end_array();
        w.end_object();
    }
    let written = tools::write(request, terms, &mut w, &mut losses);
    tools::config(request, terms, written, &mut w, &mut losses);
    config::write(request, model, terms, &mut w, &mut losses);
    config::tier(request, terms, &mut w, &mut losses);
    config::labels(request, terms, &mut w, &mut losses);
    if native {
        let within = |name: &str| name.starts_with("generationConfig.") || name.starts_with("toolConfig.");
        for member in request.extra.0.iter().filter(|member| !within(&member.name)) {
            w.name(&member.name).raw(&member.json);
        }
    }
    w.end_object();
    Encoded { body, losses }
}

/// What Gemini has no word for; and the list of what it has.
fn unspeakable(request: &Request<'_>, losses: &mut Losses) {
    let Request {
        dialect,
        // both are in the path, and usage always comes
        model: _,
        stream: _,
        stream_usage: _,
        // `contents`
        turns: _,
        // `tools`
        tools: _,
        tool_choice: _,
        parallel_tool_calls,
        // `config`
        format: _,
        reasoning: _,
        max_output: _,
        temperature: _,
        top_p: _,
        top_k: _,
        presence_penalty: _,
        frequency_penalty: _,
        seed: _,
        stop: _,
        n: _,
        logprobs: _,
        top_logprobs: _,
        modalities: _,
        service_tier: _,
        metadata: _,
        verbosity,
        user,
        store,
        cache_key,
        cache,
        extra,
    } = request;
    // calls may always come in parallel
    if let Some(Param { value: false, at }) = parallel_tool_calls {
        losses.dropped(*at, "");
    }
    let user = user.as_ref().map(|param| param.at);
    let words = verbosity.as_ref().map(|param| param.at);
    let key = cache_key.as_ref().map(|param| param.at);
    // nothing is kept that could be asked for later
    let store = store.as_ref().filter(|store| store.value).map(|param| param.at);
    let mark = cache.map(|cache| cache.at);
    for at in [user, words, key, store, mark].into_iter().flatten() {
        losses.dropped(at, "");
    }
    if *dialect != Dialect::Gemini {
        losses.extra(extra);
    }
}
