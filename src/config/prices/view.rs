//! Prices as they are shown: in the words of the file, US dollars per million tokens and per thousand pieces; and what each configured model costs,
//! for `GET /api/prices`.

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::Unpriced;
use super::table::Table;
use crate::config::catalogue;
use crate::config::snapshot::Snapshot;
use crate::config::tariff::{Card, Rates, Tariff};
use crate::config::units::show_price;
use crate::units::{NanoUsd, PicoUsdPerToken};

/// What every configured model costs, and who says so.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// Of all tables together.
    pub version: String,
    pub unpriced: Unpriced,
    /// The one that counts least first.
    pub tables: Vec<Source>,
    pub models: Vec<Listed>,
}

/// One table.
#[derive(Debug, Serialize)]
pub struct Source {
    pub version: String,
    /// `tollgate`, `litellm` or `models.dev`.
    pub form: &'static str,
    /// Rows with a price.
    pub priced: usize,
    /// Rows that could not be used, as `line:column: name: why`; the first hundred.
    pub skipped: Vec<String>,
}

/// One target of a model.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub model: String,
    /// `provider/model`.
    pub target: String,
    /// In the words of the file; `null`: no price is known.
    pub price: Option<Json>,
    /// The state of the table it is from.
    pub version: Option<String>,
    pub source: Option<String>,
    /// The day it was last read there.
    pub checked: Option<String>,
}

/// What is in force.
pub fn overview(snapshot: &Snapshot) -> Overview {
    let builtin = Source {
        version: catalogue::version().to_owned(),
        form: "tollgate",
        priced: catalogue::priced(),
        skipped: Vec::new(),
    };
    let tables = std::iter::once(builtin).chain(snapshot.prices.files.iter().map(Source::of));
    let listed = snapshot.model_order.iter().filter_map(|name| snapshot.models.get(name));
    let targets = listed.chain(&snapshot.wildcards).flat_map(|model| model.targets.iter().map(move |t| (model, t)));
    let models = targets.map(|(model, target)| {
        let tariff = target.tariff.as_deref();
        Listed {
            model: model.name.to_string(),
            target: format!("{}/{}", target.provider.name, target.upstream),
            price: tariff.map(|tariff| Json::Object(words(tariff))),
            version: tariff.map(|tariff| tariff.version.to_string()),
            source: tariff.map(|tariff| tariff.source.to_string()),
            checked: tariff.and_then(|tariff| tariff.checked.as_ref()).map(ToString::to_string),
        }
    });
    Overview {
        version: snapshot.prices.version(),
        unpriced: snapshot.unpriced,
        tables: tables.collect(),
        models: models.collect(),
    }
}

/// A price in the words of the file: what is not known is not there.
pub(in crate::config) fn words(tariff: &Tariff) -> Map<String, Json> {
    let Tariff {
        standard,
        services,
        regional_percent: _,
        in_region_percent,
        version: _,
        source: _,
        checked: _,
        texts: _,
    } = tariff;
    let mut shown = rates(&standard.rates);
    if !standard.tiers.is_empty() {
        shown.insert("above".to_owned(), steps(standard, None).into());
    }
    if !services.is_empty() {
        let steps = services.iter().flat_map(|(service, card)| {
            let mut first = Map::from_iter([("tier".to_owned(), json!(service.name()))]);
            first.extend(rates(&card.rates));
            std::iter::once(Json::Object(first)).chain(steps(card, Some(service.name())))
        });
        shown.insert("services".to_owned(), steps.collect());
    }
    if let Some(percent) = in_region_percent {
        shown.insert("in_region".to_owned(), json!(percent));
    }
    shown
}

fn steps(card: &Card, service: Option<&str>) -> Vec<Json> {
    let step = |tier: &crate::config::tariff::Tier| {
        let mut shown = Map::new();
        if let Some(service) = service {
            shown.insert("tier".to_owned(), json!(service));
        }
        shown.insert("tokens".to_owned(), json!(tier.above.0));
        shown.extend(rates(&tier.rates));
        Json::Object(shown)
    };
    card.tiers.iter().map(step).collect()
}

fn rates(rates: &Rates) -> Map<String, Json> {
    let Rates {
        input,
        cached_input,
        cache_write_5m,
        cache_write_1h,
        output,
        reasoning,
        audio_input,
        audio_output,
        image_input,
        image_output,
        image,
        request,
        tool_call,
        search,
    } = rates;
    let token = |rate: &Option<PicoUsdPerToken>| rate.map(show_price);
    // a thousand pieces at 1e-9 dollars are a millionth of a dollar
    let thousand = |rate: &Option<NanoUsd>| rate.map(|NanoUsd(rate)| show_price(PicoUsdPerToken(rate)));
    let all = [
        ("input", token(input)),
        ("cached_input", token(cached_input)),
        ("cache_write_5m", token(cache_write_5m)),
        ("cache_write_1h", token(cache_write_1h)),
        ("output", token(output)),
        ("reasoning", token(reasoning)),
        ("audio_input", token(audio_input)),
        ("audio_output", token(audio_output)),
        ("image_input", token(image_input)),
        ("image_output", token(image_output)),
        ("images", thousand(image)),
        ("requests", thousand(request)),
        ("tool_calls", thousand(tool_call)),
        ("searches", thousand(search)),
    ];
    all.into_iter().filter_map(|(name, rate)| Some((name.to_owned(), Json::from(rate?)))).collect()
}

// === impl Source ===

impl Source {
    fn of(table: &Table) -> Source {
        let told = table.skipped.iter().take(100);
        Source {
            version: table.version.to_string(),
            form: table.form.name(),
            priced: table.priced(),
            skipped: told.map(|s| format!("{}:{}: {}: {}", s.at.line, s.at.column, s.name, s.why)).collect(),
        }
    }
}

// === impl Unpriced ===

impl Unpriced {
    pub fn word(self) -> &'static str {
        match self {
            Unpriced::Allow => "allow",
            Unpriced::Warn => "warn",
            Unpriced::Refuse => "refuse",
        }
    }
}

impl Serialize for Unpriced {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}
