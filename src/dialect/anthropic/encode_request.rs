//! A request, written.
//!
//! Of a request from this dialect everything is written as it was; only where it goes to another model than it was written for, what that
//! one is known to refuse is said in its own way. Of other dialects, every parameter has its place here or is booked.

use std::borrow::Cow;

use super::blocks_out::{Blocks, Place, plain};
use super::leftover;
use super::model::Model;
use super::thinking::{Around, Mode, Plan};
use super::tools_out::{self, Offer};
use super::turns::{self, Message, Piece};
use crate::chat::{Block, Cache, Dialect, Extra, Format, Losses, Param, Request, Role, Schema};
use crate::dialect::{Encoded, To};
use crate::json::Writer;

/// Longest `metadata.user_id`.
const USER_ID: usize = 256;

/// What the parts of an encoding share.
struct Ask<'r, 'a> {
    own: bool,
    /// The client wrote it in this dialect for this model: it knows what it asks.
    as_written: bool,
    model: Option<Model>,
    extra: &'r Extra<'a>,
}

/// The parameters of sampling, as they were written.
struct Sampling<'r, 'a> {
    temperature: &'r Option<Param<Cow<'a, str>>>,
    top_p: &'r Option<Param<Cow<'a, str>>>,
    top_k: &'r Option<Param<Cow<'a, str>>>,
}

pub(super) fn request(request: &Request<'_>, to: &To<'_>) -> Encoded {
    let Request {
        dialect,
        model: asked,
        stream,
        stream_usage: _, // always comes
        turns,
        tools,
        tool_choice,
        parallel_tool_calls,
        format,
        verbosity,
        reasoning,
        max_output,
        temperature,
        top_p,
        top_k,
        presence_penalty,
        frequency_penalty,
        seed,
        stop,
        n,
        logprobs,
        top_logprobs,
        modalities,
        service_tier,
        user,
        metadata,
        store,
        cache_key,
        cache,
        extra,
    } = request;
    let (own, model) = (*dialect == Dialect::Anthropic, Model::of(to.model));
    let ask = Ask { own, as_written: own && Model::of(asked) == model, model, extra };
    let mut losses = Losses::default();

    lost(verbosity, &mut losses);
    lost(seed, &mut losses);
    lost(cache_key, &mut losses);
    lost(metadata, &mut losses);
    lost_unless(presence_penalty, |text| is(text, 0.0), &mut losses);
    lost_unless(frequency_penalty, |text| is(text, 0.0), &mut losses);
    lost_unless(n, |n| *n == 1, &mut losses);
    lost_unless(logprobs, |wanted| !wanted, &mut losses);
    lost_unless(top_logprobs, |wanted| *wanted == 0, &mut losses);
    lost_unless(store, |wanted| !wanted, &mut losses);
    lost_unless(modalities, |all| all.iter().all(|one| one == "text"), &mut losses);

    let mut arranged = turns::arrange(turns, ask.own, ask.model, &mut losses);
    let offer = Offer::of(tools, tool_choice.as_ref(), ask.model.filter(|_| !ask.as_written), &mut losses);
    let most = ask.most_output(max_output.as_ref(), &mut losses);
    let around = Around {
        own: ask.own,
        as_written: ask.as_written,
        model: ask.model,
        forced: offer.forced(),
        // for its own clients the API itself does without the thoughts then
        thoughtless: !ask.as_written && turns::thoughtless_calls(&arranged.messages),
        most: most.or(ask.model.map(Model::most_output)),
    };
    let plan = Plan::of(reasoning.as_ref(), around, &mut losses);
    if !ask.as_written {
        let prefill = ask.model.is_none_or(Model::prefill) && !plan.budgeted();
        turns::user_ends(&mut arranged.messages, prefill, &mut losses);
    }

    let mut body = Vec::with_capacity(4096);
    let mut w = Writer::new(&mut body);
    w.object();
    match &to.manners.anthropic_version {
        Some(version) => w.name("anthropic_version").string(version),
        None => w.name("model").string(to.model),
    }
    w.name("max_tokens").number(most.unwrap_or_else(|| ask.default_output(&plan)));
    let mut blocks = Blocks { w: &mut w, losses: &mut losses, own: ask.own };
    ask.system(&mut blocks, &arranged.system);
    blocks.w.name("messages").array();
    arranged.messages.iter().for_each(|message| ask.message(&mut blocks, message));
    blocks.w.end_array();
    ask.tools(&mut blocks, &offer);
    tools_out::choice(&mut w, &offer, parallel_tool_calls.as_ref(), ask.own_extra(), &mut losses);
    ask.thinking(&mut w, plan.mode);
    ask.output_config(&mut w, &plan, format.as_ref(), &mut losses);
    ask.sampling(&mut w, &Sampling { temperature, top_p, top_k }, &plan, &mut losses);
    ask.stop(&mut w, stop.as_ref(), &mut losses);
    ask.service_tier(&mut w, service_tier.as_ref(), &mut losses);
    ask.metadata(&mut w, user.as_ref(), &mut losses);
    ask.rest(&mut w, *cache, &mut losses);
    if *stream {
        w.name("stream").boolean(true);
    }
    w.end_object();
    Encoded { body, losses }
}

fn lost<T>(param: &Option<Param<T>>, losses: &mut Losses) {
    lost_unless(param, |_| false, losses);
}

/// Book a parameter that has no place here, unless its value asks for nothing.
fn lost_unless<T>(param: &Option<Param<T>>, nothing: impl FnOnce(&T) -> bool, losses: &mut Losses) {
    if let Some(Param { value, at }) = param
        && !nothing(value)
    {
        losses.dropped(*at, "");
    }
}

fn is(number: &str, value: f64) -> bool {
    number.parse::<f64>().is_ok_and(|number| number == value)
}

// === impl Ask ===

impl Ask<'_, '_> {
    fn own_extra(&self) -> Option<&Extra<'_>> {
        Some(self.extra).filter(|_| self.own)
    }

    fn most_output(&self, asked: Option<&Param<u64>>, losses: &mut Losses) -> Option<u64> {
        let Param { value, at } = asked?;
        match self.model {
            Some(model) if !self.as_written && *value > model.most_output() => {
                losses.changed(*at, "");
                Some(model.most_output())
            }
            _ => Some(*value),
        }
    }

    fn default_output(&self, plan: &Plan<'_>) -> u64 {
        let usual = Model::default_output(self.model);
        match plan.mode {
            Mode::Enabled { budget: Some(budget), .. } => {
                let limit = self.model.map_or(u64::MAX, Model::most_output);
                usual.max(budget.saturating_add(8_192)).min(limit.max(budget.saturating_add(1)))
            }
            _ => usual,
        }
    }

    fn system(&self, blocks: &mut Blocks<'_, '_, '_>, system: &[Piece<'_, '_>]) {
        match system {
            [] => {}
            [Piece::Block(Block::Text(only))] if plain(only) => blocks.w.name("system").string(&only.text),
            pieces => {
                blocks.w.name("system").array();
                pieces.iter().for_each(|piece| write_piece(blocks, piece, Place::System));
                blocks.w.end_array();
            }
        }
    }

    fn message(&self, blocks: &mut Blocks<'_, '_, '_>, message: &Message<'_, '_>) {
        let Message { role, pieces, at: _, extra } = message;
        let (role, place) = match role {
            Role::System | Role::Developer => ("system", Place::System),
            Role::User => ("user", Place::User),
            Role::Assistant => ("assistant", Place::Assistant),
        };
        blocks.w.object();
        blocks.w.name("role").string(role);
        blocks.w.name("content");
        match &pieces[..] {
            [Piece::Block(Block::Text(only))] if plain(only) => blocks.w.string(&only.text),
            [Piece::Said(text, None)] => blocks.w.string(text),
            pieces => {
                blocks.w.array();
                pieces.iter().for_each(|piece| write_piece(blocks, piece, place));
                blocks.w.end_array();
            }
        }
        if let Some(extra) = extra {
            blocks.extra(extra);
        }
        blocks.w.end_object();
    }

    fn tools(&self, blocks: &mut Blocks<'_, '_, '_>, offer: &Offer<'_, '_>) {
        if offer.tools.is_empty() {
            return;
        }
        blocks.w.name("tools").array();
        for tool in &offer.tools {
            blocks.tool(tool, self.model);
        }
        blocks.w.end_array();
    }

    fn thinking(&self, w: &mut Writer<'_>, mode: Mode) {
        let (kind, budget, display) = match mode {
            Mode::Silent => return,
            Mode::Disabled => ("disabled", None, None),
            Mode::BetweenTools => ("between_tools", None, None),
            Mode::Adaptive { display } => ("adaptive", None, display),
            Mode::Enabled { budget, display } => ("enabled", budget, display),
        };
        w.name("thinking").object();
        w.name("type").string(kind);
        w.number_if("budget_tokens", budget);
        w.string_if("display", display.map(|display| display.word()));
        leftover::write(w, self.own_extra(), leftover::THINKING);
        w.end_object();
    }

    fn output_config(
        &self,
        w: &mut Writer<'_>,
        plan: &Plan<'_>,
        format: Option<&Param<Format<'_>>>,
        losses: &mut Losses,
    ) {
        let schema = format.and_then(|Param { value, at }| match value {
            Format::Text => None,
            Format::Json => {
                losses.dropped(*at, "");
                None
            }
            Format::Schema(schema) => {
                // its name says nothing to the model, and it is always strict
                let Schema { name: _, description, schema, strict: _ } = schema;
                if description.is_some() {
                    losses.dropped(*at, "description");
                }
                Some(schema)
            }
        });
        if schema.is_none() && plan.effort.is_none() && !leftover::has(self.own_extra(), leftover::OUTPUT) {
            return;
        }
        w.name("output_config").object();
        w.string_if("effort", plan.effort.as_deref());
        if let Some(schema) = schema {
            w.name("format").object();
            w.name("type").string("json_schema");
            w.name("schema").raw(schema);
            w.end_object();
        }
        leftover::write(w, self.own_extra(), leftover::OUTPUT);
        w.end_object();
    }

    fn sampling(&self, w: &mut Writer<'_>, sampling: &Sampling<'_, '_>, plan: &Plan<'_>, losses: &mut Losses) {
        let Sampling { temperature, top_p, top_k } = sampling;
        let write = |w: &mut Writer<'_>, name: &str, param: &Option<Param<Cow<'_, str>>>| {
            w.raw_if(name, param.as_ref().map(|param| &*param.value));
        };
        if self.as_written {
            write(w, "temperature", temperature);
            write(w, "top_p", top_p);
            write(w, "top_k", top_k);
            return;
        }
        let fixed = self.model.is_some_and(|model| !model.samples());
        if fixed || plan.thinks() {
            // only the default is taken, and with thoughts a narrow range of `top_p`
            lost_unless(temperature, |text| is(text, 1.0), losses);
            lost(top_k, losses);
            let narrow = |text: &str| text.parse::<f64>().is_ok_and(|p| (0.95..=1.0).contains(&p));
            match top_p {
                Some(p) if !fixed && narrow(&p.value) => write(w, "top_p", top_p),
                _ => lost_unless(top_p, |text| is(text, 1.0), losses),
            }
            return;
        }
        match temperature {
            Some(Param { value, at }) if value.parse::<f64>().is_ok_and(|value| value > 1.0) => {
                losses.changed(*at, "");
                w.name("temperature").raw("1");
            }
            _ => write(w, "temperature", temperature),
        }
        if temperature.is_some() && self.model.is_some_and(Model::one_sampler) {
            lost_unless(top_p, |text| is(text, 1.0), losses);
        } else {
            write(w, "top_p", top_p);
        }
        write(w, "top_k", top_k);
    }

    fn stop(&self, w: &mut Writer<'_>, stop: Option<&Param<Vec<Cow<'_, str>>>>, losses: &mut Losses) {
        let Some(Param { value, at }) = stop else { return };
        // white space alone is refused
        let taken: Vec<_> = value.iter().filter(|sequence| self.own || !sequence.trim().is_empty()).collect();
        if taken.len() < value.len() {
            losses.dropped(*at, "");
        }
        if self.own || !taken.is_empty() {
            w.name("stop_sequences").array();
            taken.iter().for_each(|sequence| w.string(sequence));
            w.end_array();
        }
    }

    fn service_tier(&self, w: &mut Writer<'_>, tier: Option<&Param<Cow<'_, str>>>, losses: &mut Losses) {
        let Some(Param { value, at }) = tier else { return };
        match &**value {
            tier if self.own => w.name("service_tier").string(tier),
            "auto" => w.name("service_tier").string("auto"),
            "default" => w.name("service_tier").string("standard_only"),
            "priority" => {
                losses.changed(*at, "");
                w.name("service_tier").string("auto");
            }
            _ => losses.dropped(*at, ""),
        }
    }

    fn metadata(&self, w: &mut Writer<'_>, user: Option<&Param<Cow<'_, str>>>, losses: &mut Losses) {
        let user = user.filter(|Param { value, at }| {
            let fits = self.own || value.len() <= USER_ID;
            if !fits {
                losses.dropped(*at, "");
            }
            fits
        });
        if user.is_none() && !leftover::has(self.own_extra(), leftover::METADATA) {
            return;
        }
        w.name("metadata").object();
        w.string_if("user_id", user.map(|user| &*user.value));
        leftover::write(w, self.own_extra(), leftover::METADATA);
        w.end_object();
    }

    fn rest(&self, w: &mut Writer<'_>, cache: Option<Cache>, losses: &mut Losses) {
        let mut blocks = Blocks { w, losses, own: self.own };
        blocks.cache(cache, Some(self.extra));
        blocks.extra(self.extra);
    }
}

fn write_piece(blocks: &mut Blocks<'_, '_, '_>, piece: &Piece<'_, '_>, place: Place) {
    match piece {
        Piece::Block(block) => blocks.block(block, place),
        Piece::Said(text, cache) => blocks.words(text, *cache),
    }
}
