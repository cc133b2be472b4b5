//! What one model costs at one provider: integer rates, by service tier and by the size of the prompt.
//!
//! Owned here are the form of a tariff and which of its rates count for a call. Where tariffs come from is `prices`' business (and
//! `check`'s, where one is written in the configuration); what a call costs by one is reckoned in `meter`. How vendors bill is written on the
//! pages that `conf/models.yaml` names.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::units::{NanoUsd, PicoUsd, PicoUsdPerToken, Tokens};

/// What one model costs at one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tariff {
    pub standard: Card,
    /// What differs in other service tiers; each at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<(ServiceTier, Card)>,
    /// So many percent are in the rates because the endpoint belongs to a region or a group of regions.
    pub regional_percent: u8,
    /// So many percent more for the tokens of a call that itself asks to stay in a region. `None`: nobody knows.
    pub in_region_percent: Option<u8>,
    /// The state of the table it is from: `2026-11-21`, `local.yaml:5f3a09c1`.
    pub version: Arc<str>,
    /// Where the numbers are published, or who wrote them down.
    pub source: Arc<str>,
    /// The day they were last read there: `2026-11-18`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<Arc<str>>,
    #[serde(skip)]
    pub texts: Texts,
}

/// A tariff as it was applied to a call. As JSON text it is kept beside what the call cost, so that anybody can do the sum again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied<'a> {
    pub place: Place,
    pub tariff: Cow<'a, Tariff>,
}

/// Texts that were made of a tariff: each once, and only when it is asked for. They follow from the rest of it, so they make no two tariffs
/// different.
#[derive(Debug, Default)]
pub struct Texts {
    global: OnceLock<Arc<str>>,
    regional: OnceLock<Arc<str>>,
}

/// The rates of one service tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub rates: Rates,
    /// Smallest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
}

/// What every token of a call costs, the first ones included, once its prompt (cached tokens counted) is longer than `above`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    pub above: Tokens,
    /// Of tokens only: what is paid by the piece does not hang on the prompt.
    pub rates: Rates,
}

/// `None`: not known, never 0. What is then billed as what else: `meter`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<PicoUsdPerToken>,
    /// Of the prompt: what the provider had in its cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<PicoUsdPerToken>,
    /// Of the prompt: what is written to a cache, for five minutes; also where the vendor has only one such price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<PicoUsdPerToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<PicoUsdPerToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PicoUsdPerToken>,
    /// Of the output: what is thought and not shown. `None`: as `output`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<PicoUsdPerToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<PicoUsdPerToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<PicoUsdPerToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_input: Option<PicoUsdPerToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_output: Option<PicoUsdPerToken>,
    /// One generated image, where these are not paid by token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<NanoUsd>,
    /// One call, whatever it is about. `None`: there is no such fee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<NanoUsd>,
    /// One tool that the provider ran itself (a web search).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call: Option<NanoUsd>,
    /// One search (rerank).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<NanoUsd>,
}

/// How soon a call is served, where that has a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceTier {
    #[default]
    Default,
    /// Cheaper, since it may wait.
    Flex,
    Priority,
    Batch,
    /// The same model at a higher speed.
    Fast,
    /// One whose price nobody here knows.
    Other,
}

/// Where a call is served: anywhere, or in a region or a group of regions, since the endpoint belongs to it or the call asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    #[default]
    Global,
    Regional,
}

// === impl Tariff ===

impl Tariff {
    /// So much for input and output, and nothing else is known.
    pub fn of_tokens(input: PicoUsdPerToken, output: PicoUsdPerToken) -> Tariff {
        let rates = Rates { input: Some(input), output: Some(output), ..Rates::default() };
        Tariff::of_rates(rates)
    }

    pub fn of_rates(rates: Rates) -> Tariff {
        Tariff {
            standard: Card { rates, tiers: Vec::new() },
            services: Vec::new(),
            regional_percent: 0,
            in_region_percent: None,
            version: Arc::from(""),
            source: Arc::from(""),
            checked: None,
            texts: Texts::default(),
        }
    }

    /// The rates that count for a call with this prompt. `None`: nobody knows them.
    ///
    /// What waits longer (flex, batch) never costs more than what does not: where it has no rates of its own, the standard ones count. What
    /// is served sooner has those of its own or none, also beyond a size from which on the standard rates are others.
    pub fn rates(&self, service: ServiceTier, prompt: Tokens) -> Option<Rates> {
        let standard = &self.standard;
        if service == ServiceTier::Default {
            return Some(standard.rates(prompt));
        }
        let card = self.services.iter().find(|(tier, _)| *tier == service).map(|(_, card)| card);
        match card.filter(|card| card.reached(prompt) >= standard.reached(prompt)) {
            Some(card) => Some(card.rates(prompt).with_pieces_of(&standard.rates)),
            None if service.waits() => Some(standard.rates(prompt)),
            None => None,
        }
    }

    /// The same for a call that may itself ask to stay in a region.
    pub fn rates_at(&self, service: ServiceTier, prompt: Tokens, place: Place) -> Option<Rates> {
        let rates = self.rates(service, prompt)?;
        match place {
            Place::Global => Some(rates),
            Place::Regional => Some(rates.raised(self.in_region_percent?)),
        }
    }

    /// What a call costs in all likelihood, nothing cached: its input, and all of it. `None`: nobody knows.
    pub fn estimate(&self, input: Tokens, output: Tokens) -> Option<(NanoUsd, NanoUsd)> {
        let rates = self.rates(ServiceTier::Default, input)?;
        let of = |rate: Option<PicoUsdPerToken>, tokens: Tokens| match rate {
            Some(PicoUsdPerToken(rate)) => Some(i128::from(rate) * i128::from(tokens.0)),
            None => (tokens.0 == 0).then_some(0),
        };
        let fee = PicoUsd::from(rates.request.unwrap_or_default()).0;
        // a rerank is paid by the search, or by its tokens
        if let (None, Some(search)) = (rates.input, rates.search) {
            let whole = PicoUsd(fee.saturating_add(PicoUsd::from(search).0)).rounded_up();
            return Some((whole, whole));
        }
        let (of_input, of_output) = (of(rates.input, input)?, of(rates.output, output)?);
        let whole = of_input.saturating_add(of_output).saturating_add(fee);
        Some((PicoUsd(of_input).rounded_up(), PicoUsd(whole).rounded_up()))
    }

    /// The same without what hangs on who serves it: tools, service tiers, regions.
    pub fn of_tokens_alone(&self) -> Tariff {
        let mut tariff = self.clone();
        tariff.standard.rates.tool_call = None;
        (tariff.services, tariff.in_region_percent) = (Vec::new(), None);
        tariff
    }

    /// The same at an endpoint that costs so many percent more.
    pub fn at_regional(&self, percent: u8) -> Tariff {
        let card = |card: &Card| Card {
            rates: card.rates.raised(percent),
            tiers: card.tiers.iter().map(|t| Tier { above: t.above, rates: t.rates.raised(percent) }).collect(),
        };
        Tariff {
            standard: card(&self.standard),
            services: self.services.iter().map(|(service, own)| (*service, card(own))).collect(),
            regional_percent: percent,
            in_region_percent: self.in_region_percent,
            version: Arc::clone(&self.version),
            source: Arc::clone(&self.source),
            checked: self.checked.clone(),
            texts: Texts::default(),
        }
    }

    /// Itself, as it is applied in this place: see [`Applied`].
    pub fn text(&self, place: Place) -> Arc<str> {
        let kept = match place {
            Place::Global => &self.texts.global,
            Place::Regional => &self.texts.regional,
        };
        let made = || serde_json::to_string(&Applied { place, tariff: Cow::Borrowed(self) }).unwrap_or_default();
        Arc::clone(kept.get_or_init(|| made().into()))
    }
}

// === impl Applied ===

impl Applied<'_> {
    /// `None`: no text of ours, or of a later version that has rates we do not know of.
    pub fn read(text: &str) -> Option<Applied<'static>> {
        serde_json::from_str(text).ok()
    }
}

// === impl Texts ===

impl Clone for Texts {
    /// Whoever copies a tariff may be about to change it.
    fn clone(&self) -> Self {
        Texts::default()
    }
}

impl PartialEq for Texts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Texts {}

// === impl Card ===

impl Card {
    /// From which size on the rates are those that count for this prompt; 0 for those of small ones.
    fn reached(&self, prompt: Tokens) -> Tokens {
        self.tier(prompt).map_or(Tokens(0), |tier| tier.above)
    }

    fn tier(&self, prompt: Tokens) -> Option<&Tier> {
        self.tiers.iter().rev().find(|tier| prompt > tier.above)
    }

    fn rates(&self, prompt: Tokens) -> Rates {
        match self.tier(prompt) {
            Some(tier) => tier.rates.with_pieces_of(&self.rates),
            None => self.rates,
        }
    }
}

// === impl Rates ===

impl Rates {
    /// What is paid by the piece is as there, where nothing is said here.
    fn with_pieces_of(self, other: &Rates) -> Rates {
        Rates {
            image: self.image.or(other.image),
            request: self.request.or(other.request),
            tool_call: self.tool_call.or(other.tool_call),
            search: self.search.or(other.search),
            ..self
        }
    }

    /// These rates of another tier or service, with what they do not say of what is dearer than the rest: it is dearer by as much as in `base`,
    /// rounded up. What is cheaper is not guessed: it is billed as what it is part of.
    pub fn in_proportion(self, base: &Rates) -> Rates {
        let scale = |own: Option<PicoUsdPerToken>,
                     kind: Option<PicoUsdPerToken>,
                     part: Option<PicoUsdPerToken>,
                     of: Option<PicoUsdPerToken>| {
            let (Some(kind), Some(part), Some(of), None) = (kind, part, of, own) else { return own };
            if kind <= of || of.0 <= 0 {
                return None;
            }
            let scaled = i128::from(kind.0).checked_mul(part.0.max(0).into())?;
            let rounded = (scaled + i128::from(of.0) - 1) / i128::from(of.0);
            Some(PicoUsdPerToken(i64::try_from(rounded).unwrap_or(i64::MAX)))
        };
        let input = |own, kind| scale(own, kind, self.input, base.input);
        let output = |own, kind| scale(own, kind, self.output, base.output);
        Rates {
            cache_write_5m: input(self.cache_write_5m, base.cache_write_5m),
            cache_write_1h: input(self.cache_write_1h, base.cache_write_1h),
            audio_input: input(self.audio_input, base.audio_input),
            image_input: input(self.image_input, base.image_input),
            reasoning: output(self.reasoning, base.reasoning),
            audio_output: output(self.audio_output, base.audio_output),
            image_output: output(self.image_output, base.image_output),
            ..self
        }
    }

    /// Tokens at so many percent more, rounded up. Tools cost the same everywhere.
    fn raised(self, percent: u8) -> Rates {
        let more = |rate: Option<PicoUsdPerToken>| {
            let raised = |PicoUsdPerToken(rate): PicoUsdPerToken| {
                let hundredfold = i128::from(rate) * (100 + i128::from(percent));
                PicoUsdPerToken(i64::try_from((hundredfold + 99).div_euclid(100)).unwrap_or(i64::MAX))
            };
            rate.map(raised)
        };
        Rates {
            input: more(self.input),
            cached_input: more(self.cached_input),
            cache_write_5m: more(self.cache_write_5m),
            cache_write_1h: more(self.cache_write_1h),
            output: more(self.output),
            reasoning: more(self.reasoning),
            audio_input: more(self.audio_input),
            audio_output: more(self.audio_output),
            image_input: more(self.image_input),
            image_output: more(self.image_output),
            image: self.image,
            request: self.request,
            tool_call: self.tool_call,
            search: self.search,
        }
    }
}

// === impl ServiceTier ===

impl ServiceTier {
    /// As requests ask for it (`service_tier` of OpenAI, Anthropic and Groq, `speed` of Anthropic, `serviceTier` of Bedrock and Gemini), and as
    /// answers tell it. Capacity that is paid for in advance (`scale`, `reserved`) counts at the list price.
    pub fn from_word(word: &str) -> ServiceTier {
        let is = |words: &[&str]| words.iter().any(|one| word.eq_ignore_ascii_case(one));
        match () {
            () if is(&["", "default", "auto", "standard", "standard_only", "on_demand", "scale", "reserved"]) => {
                ServiceTier::Default
            }
            () if is(&["flex"]) => ServiceTier::Flex,
            () if is(&["priority"]) => ServiceTier::Priority,
            () if is(&["batch"]) => ServiceTier::Batch,
            () if is(&["fast"]) => ServiceTier::Fast,
            () => ServiceTier::Other,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            ServiceTier::Default => "default",
            ServiceTier::Flex => "flex",
            ServiceTier::Priority => "priority",
            ServiceTier::Batch => "batch",
            ServiceTier::Fast => "fast",
            ServiceTier::Other => "other",
        }
    }

    /// Cheaper than the standard one, since it may take longer.
    fn waits(self) -> bool {
        matches!(self, ServiceTier::Flex | ServiceTier::Batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Usage;
    use crate::meter::{self, Used};

    #[test]
    fn a_tariff_read_from_its_text_makes_the_same_costs() {
        let rate = |n| Some(PicoUsdPerToken(n));
        let rates = Rates {
            input: rate(3_000_000),
            cached_input: rate(300_000),
            cache_write_1h: rate(6_000_001),
            output: rate(15_000_000),
            tool_call: Some(NanoUsd(10_000_000)),
            request: Some(NanoUsd(1)),
            ..Rates::default()
        };
        let dearer = Rates { input: rate(6_000_000), output: rate(22_500_000), ..Rates::default() };
        let card = Card { rates: Rates { input: rate(1), output: rate(2), ..Rates::default() }, tiers: Vec::new() };
        let tariff = Tariff {
            standard: Card { rates, tiers: vec![Tier { above: Tokens(200_000), rates: dearer }] },
            services: vec![(ServiceTier::Flex, card)],
            in_region_percent: Some(10),
            version: "2026-11-21".into(),
            source: "https://example.com/prices".into(),
            checked: Some("2026-11-18".into()),
            ..Tariff::of_rates(Rates::default())
        };
        for place in [Place::Global, Place::Regional] {
            let text = tariff.text(place);
            assert!(Arc::ptr_eq(&text, &tariff.text(place)), "it is made once");
            assert!(!text.contains("null"), "{text}");
            let read = Applied::read(&text).unwrap();
            assert_eq!((read.place, &*read.tariff), (place, &tariff));
            assert_eq!(read.tariff.text(place), text, "the same text again");
            for service_tier in [ServiceTier::Default, ServiceTier::Flex, ServiceTier::Priority] {
                for input in [1000, 300_000] {
                    let cache = (Tokens(17), Tokens(5));
                    let usage = Usage {
                        input: Tokens(input),
                        cache_read: cache.0,
                        cache_write_1h: cache.1,
                        output: Tokens(333),
                        server_tool_calls: 1,
                        ..Usage::default()
                    };
                    let used = Used { usage, service_tier, place, ..Used::default() };
                    assert_eq!(meter::cost(&read.tariff, &used), meter::cost(&tariff, &used));
                    assert_eq!(meter::lines(&read.tariff, &used), meter::lines(&tariff, &used));
                }
            }
        }
        assert_eq!(Applied::read("{}"), None);
    }

    #[test]
    fn a_copy_that_is_changed_has_a_text_of_its_own() {
        let tariff = Tariff::of_tokens(PicoUsdPerToken(1), PicoUsdPerToken(2));
        let text = tariff.text(Place::Global);
        let other = Tariff { version: "x".into(), ..tariff.clone() };
        assert_ne!(other.text(Place::Global), text);
    }
}
