//! Which rate each part of a call is billed at, and how many there are of each.

use super::{Line, Used, Worst};
use crate::config::tariff::{Rates, Tariff};
use crate::units::{NanoUsd, PicoUsd, Tokens};

/// What a token can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Input,
    CachedInput,
    CacheWrite5m,
    CacheWrite1h,
    AudioInput,
    ImageInput,
    Output,
    Reasoning,
    AudioOutput,
    ImageOutput,
}

/// What is paid by the piece.
struct Pieces {
    images: u32,
    tool_calls: u32,
    searches: u32,
}

/// A rate for one, in 1e-12 USD, and what it is called.
type Rate = (&'static str, i128);

/// Each part of a call with its amount. `None`: something that was used has no price.
pub(super) fn each(tariff: &Tariff, used: &Used, mut line: impl FnMut(Line)) -> Option<()> {
    let rates = tariff.rates_at(used.service_tier, used.usage.input, used.place)?;
    let pieces = Pieces { images: used.images, tool_calls: used.usage.server_tool_calls, searches: used.searches };
    let in_pieces = pieces.pay_for_tokens(&rates);
    for (kind, count) in parts(used) {
        match kind.rate(&rates) {
            Some(rate) if count > 0 => line(priced(kind.name(), count, rate)),
            None if count > 0 && !in_pieces => return None,
            Some(_) | None => {}
        }
    }
    for (what, count, rate) in pieces.rated(&rates, used.usage.input, used.usage.output)? {
        if count > 0 {
            line(priced(what, count.into(), rate));
        }
    }
    if let Some(fee) = rates.request {
        line(priced("requests", 1, ("requests", of_piece(fee))));
    }
    Some(())
}

/// The most that a call can cost by these rates, in 1e-12 USD. `None`: something that it can use has no price.
pub(super) fn most(rates: &Rates, ask: &Worst) -> Option<i128> {
    let pieces = Pieces { images: ask.images, tool_calls: ask.server_tool_calls, searches: ask.searches };
    let in_pieces = pieces.pay_for_tokens(rates);
    let output = Tokens(ask.output.0.saturating_mul(ask.choices.max(1).into()));
    let without = ask.without;
    let input: &[(Kind, bool)] = &[
        (Kind::Input, false),
        (Kind::CachedInput, false),
        (Kind::CacheWrite5m, without.cache_write),
        (Kind::CacheWrite1h, without.cache_write || without.cache_hour),
        (Kind::AudioInput, without.audio),
        (Kind::ImageInput, without.images),
    ];
    let told: &[(Kind, bool)] = &[
        (Kind::Output, false),
        (Kind::Reasoning, false),
        (Kind::AudioOutput, without.audio),
        (Kind::ImageOutput, without.images),
    ];
    let mut sum = 0i128;
    for (kinds, tokens) in [(input, ask.input), (told, output)] {
        if tokens.0 == 0 {
            continue;
        }
        let possible = kinds.iter().filter(|(_, ruled_out)| !ruled_out).map(|(kind, _)| kind.rate(rates));
        let mut rates = possible.map(|rate| rate.map_or(in_pieces.then_some(0), |(_, rate)| Some(rate)));
        let dearest = rates.try_fold(0, |most, rate| rate.map(|rate| rate.max(most)))?;
        sum = sum.saturating_add(dearest.saturating_mul(tokens.0.into()));
    }
    for (_, count, (_, rate)) in pieces.rated(rates, ask.input, output)? {
        sum = sum.saturating_add(rate.saturating_mul(count.into()));
    }
    Some(sum.saturating_add(rates.request.map_or(0, of_piece)))
}

/// How many tokens of each kind; each token is one kind. Where a provider's numbers do not fit into each other, what costs more comes first.
fn parts(used: &Used) -> [(Kind, u64); 10] {
    let usage = &used.usage;
    let (mut input, mut output) = (usage.input, usage.output);
    let take = |from: &mut Tokens, wanted: Tokens| {
        let taken = wanted.0.min(from.0);
        from.0 -= taken;
        taken
    };
    [
        (Kind::CacheWrite1h, take(&mut input, usage.cache_write_1h)),
        (Kind::CacheWrite5m, take(&mut input, usage.cache_write_5m)),
        (Kind::CachedInput, take(&mut input, usage.cache_read)),
        (Kind::AudioInput, take(&mut input, usage.input_audio)),
        (Kind::ImageInput, take(&mut input, used.input_image)),
        (Kind::Input, input.0),
        (Kind::AudioOutput, take(&mut output, usage.output_audio)),
        (Kind::ImageOutput, take(&mut output, used.output_image)),
        (Kind::Reasoning, take(&mut output, usage.reasoning)),
        (Kind::Output, output.0),
    ]
}

fn priced(what: &'static str, count: u64, (name, rate): Rate) -> Line {
    let amount = PicoUsd(rate.saturating_mul(count.into()));
    Line { what, count, rate: PicoUsd(rate), billed_as: (name != what).then_some(name), amount }
}

fn of_piece(NanoUsd(rate): NanoUsd) -> i128 {
    i128::from(rate).max(0) * 1000
}

// === impl Kind ===

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::CachedInput => "cached_input",
            Kind::CacheWrite5m => "cache_write_5m",
            Kind::CacheWrite1h => "cache_write_1h",
            Kind::AudioInput => "audio_input",
            Kind::ImageInput => "image_input",
            Kind::Output => "output",
            Kind::Reasoning => "reasoning",
            Kind::AudioOutput => "audio_output",
            Kind::ImageOutput => "image_output",
        }
    }

    /// What it is billed as where it has no rate of its own.
    fn part_of(self) -> Option<Kind> {
        match self {
            Kind::CacheWrite1h => Some(Kind::CacheWrite5m),
            Kind::CachedInput | Kind::CacheWrite5m | Kind::AudioInput | Kind::ImageInput => Some(Kind::Input),
            Kind::Reasoning | Kind::AudioOutput | Kind::ImageOutput => Some(Kind::Output),
            Kind::Input | Kind::Output => None,
        }
    }

    fn rate(self, rates: &Rates) -> Option<Rate> {
        let own = match self {
            Kind::Input => rates.input,
            Kind::CachedInput => rates.cached_input,
            Kind::CacheWrite5m => rates.cache_write_5m,
            Kind::CacheWrite1h => rates.cache_write_1h,
            Kind::AudioInput => rates.audio_input,
            Kind::ImageInput => rates.image_input,
            Kind::Output => rates.output,
            Kind::Reasoning => rates.reasoning,
            Kind::AudioOutput => rates.audio_output,
            Kind::ImageOutput => rates.image_output,
        };
        match own {
            Some(rate) => Some((self.name(), i128::from(rate.0).max(0))),
            None => self.part_of()?.rate(rates),
        }
    }
}

// === impl Pieces ===

impl Pieces {
    /// Tokens that have no rate are in the price of what they were used for: an image, a search.
    fn pay_for_tokens(&self, rates: &Rates) -> bool {
        let searched = self.searches > 0 || (self.tool_calls > 0 && rates.tool_call.is_none());
        (self.images > 0 && rates.image.is_some()) || (searched && rates.search.is_some())
    }

    /// `None`: one has no rate, and its tokens do not pay for it.
    fn rated(&self, rates: &Rates, input: Tokens, output: Tokens) -> Option<[(&'static str, u32, Rate); 3]> {
        let in_tokens = |tokens: Tokens| (tokens.0 > 0).then_some(("tokens", 0));
        let own = |name: &'static str, rate: Option<NanoUsd>| rate.map(|rate| (name, of_piece(rate)));
        let image = own("images", rates.image).or_else(|| in_tokens(output));
        let tool = own("tool_calls", rates.tool_call).or_else(|| own("searches", rates.search));
        let search = own("searches", rates.search).or_else(|| in_tokens(input));
        let one = |what, count, rate: Option<Rate>| match (count, rate) {
            (0, _) => Some((what, 0, (what, 0))),
            (_, Some(rate)) => Some((what, count, rate)),
            (_, None) => None,
        };
        Some([
            one("images", self.images, image)?,
            one("tool_calls", self.tool_calls, tool)?,
            one("searches", self.searches, search)?,
        ])
    }
}
