//! From usage and a tariff to an amount: what a call costs, line by line, and the most that one can cost before it is made. Pure.
//!
//! Every token is billed once. What has no rate of its own is billed as what it is a part of: what was read from a cache or written to one,
//! audio and images of the prompt as input (a cache's hour as its five minutes, where that has a rate), reasoning, audio and images of the
//! answer as output; a search of a rerank as the tokens it read, a tool of the provider's as a search, a generated image as the output tokens
//! it is reported as. Where that has no rate either, the call has no price (`None`), which is never 0. Amounts are summed in 1e-12 USD and
//! rounded up once. What a rate is: `config::tariff`; how usage is read: `dialect`.

mod bill;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::chat::Usage;
use crate::config::tariff::Tariff;
use crate::units::{NanoUsd, PicoUsd, Tokens};

pub use crate::config::tariff::{Place, ServiceTier};

/// What a call used, as its answer tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    pub usage: Usage,
    /// As the answer says; where it says nothing, as the request asked.
    pub service_tier: ServiceTier,
    /// Whether the call asked to stay in a region (Anthropic's `inference_geo`). Not: whether its endpoint belongs to one.
    pub place: Place,
    /// Of `usage.input`: images, where the answer counts them apart.
    pub input_image: Tokens,
    /// Of `usage.output`: images, where the answer counts them apart.
    pub output_image: Tokens,
    /// Images that were generated.
    pub images: u32,
    /// Searches of a rerank.
    pub searches: u32,
}

/// The most that a call can use, as its request shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Worst {
    pub input: Tokens,
    /// Of each choice: what the request allows, else what the model can.
    pub output: Tokens,
    /// 0 counts as 1.
    pub choices: u32,
    /// As the request asks.
    pub service_tier: ServiceTier,
    /// Whether the request asks to stay in a region.
    pub place: Place,
    /// Tools of the provider's own (web search); 0: the request has none.
    pub server_tool_calls: u32,
    pub images: u32,
    pub searches: u32,
    pub without: Without,
}

/// What a call cannot be billed for, since its request has nothing of the kind. Default: nothing is ruled out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Without {
    /// Nothing is written to a cache for an hour.
    pub cache_hour: bool,
    /// Nothing is written to a cache at all.
    pub cache_write: bool,
    pub audio: bool,
    pub images: bool,
}

/// One line of a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What is counted: `input`, `cached_input`, .. as the rates are called; `rounding` in the last one.
    pub what: &'static str,
    pub count: u64,
    /// For one: US dollars.
    #[serde(rename = "rate_usd")]
    pub rate: PicoUsd,
    /// Whose rate it is, where it has none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billed_as: Option<&'static str>,
    #[serde(rename = "amount_usd")]
    pub amount: PicoUsd,
}

/// What a call costs. `None`: nobody knows.
pub fn cost(tariff: &Tariff, used: &Used) -> Option<NanoUsd> {
    let mut sum = 0i128;
    bill::each(tariff, used, |line| sum = sum.saturating_add(line.amount.0))?;
    Some(PicoUsd(sum).rounded_up())
}

/// The same, line by line. The amounts make exactly [`cost`]; empty where that is `None`.
pub fn lines(tariff: &Tariff, used: &Used) -> Vec<Line> {
    let mut lines = Vec::new();
    if bill::each(tariff, used, |line| lines.push(line)).is_none() {
        return Vec::new();
    }
    let sum = lines.iter().fold(0i128, |sum, line| sum.saturating_add(line.amount.0));
    let billed = PicoUsd::from(PicoUsd(sum).rounded_up());
    // what nobody ever paid, and no ledger can hold, is taken off again here
    let rounding = PicoUsd(billed.0.saturating_sub(sum));
    if rounding.0 != 0 {
        lines.push(Line { what: "rounding", count: 1, rate: rounding, billed_as: None, amount: rounding });
    }
    lines
}

/// The most that a call can cost: whatever kind its tokens are of, and whichever tier it falls in. `None`: nobody knows.
///
/// What a project's own settings do to a call that asks for nothing cannot be seen in its request: the priority tier counts only where it is
/// asked for.
pub fn worst(tariff: &Tariff, ask: &Worst) -> Option<NanoUsd> {
    let asked = [ServiceTier::Default, ask.service_tier];
    let services = if ask.service_tier == ServiceTier::Default { &asked[..1] } else { &asked[..] };
    let mut most = 0i128;
    for service in services {
        let cards = tariff.services.iter().filter(|(tier, _)| tier == service).map(|(_, card)| card);
        let tiers = cards.chain([&tariff.standard]).flat_map(|card| &card.tiers).map(|tier| tier.above);
        let prompts = tiers.filter(|above| *above < ask.input).map(|above| Tokens(above.0.saturating_add(1)));
        for prompt in prompts.chain([Tokens(0)]) {
            most = most.max(bill::most(&tariff.rates_at(*service, prompt, ask.place)?, ask)?);
        }
    }
    Some(PicoUsd(most).rounded_up())
}
