//! Limits, budgets and caps as JSON: in the words of the file, one entry for each thing that is counted.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use crate::config::quota::{Caps, Measure, OnOutage, Own, Rule, Rules, Window};
use crate::config::units::{show_dollars, show_span};
use crate::units::NanoUsd;

/// `limits` and `budgets`, by name, so that a change in one is seen as that.
pub(super) fn quotas(rules: &Rules) -> [(String, Json); 2] {
    let of = |budgets: bool| rules.all.iter().filter(move |rule| (rule.of == Measure::Usd) == budgets);
    [("limits".to_owned(), named(of(false))), ("budgets".to_owned(), named(of(true)))]
}

/// What stands on a key.
pub(super) fn own(own: Option<&Own>) -> [(String, Json); 3] {
    let Own { limits, budgets, caps: Caps { tokens, usd } } = &own.cloned().unwrap_or_default();
    let caps = json!({"tokens": tokens, "usd": usd.map(show_dollars)});
    [
        ("limits".to_owned(), named(limits.iter())),
        ("budget".to_owned(), named(budgets.iter())),
        ("caps".to_owned(), caps),
    ]
}

fn named<'a>(rules: impl Iterator<Item = &'a Arc<Rule>>) -> Json {
    rules.map(|rule| (rule.name.to_string(), self::rule(rule))).collect::<Map<_, _>>().into()
}

fn rule(rule: &Rule) -> Json {
    let Rule { id: _, name: _, scope: _, of, amount, window, soft, on_outage, allowance, shadow } = rule;
    let on_outage = match on_outage {
        OnOutage::Local => "local",
        OnOutage::Open => "open",
        OnOutage::Closed => "closed",
    };
    let mut shown = Map::from_iter([("on_outage".to_owned(), json!(on_outage)), ("shadow".to_owned(), json!(shadow))]);
    let mut put = |name: &str, value: Json| shown.insert(name.to_owned(), value);
    if *of == Measure::Usd {
        put("usd", json!(show_dollars(NanoUsd(*amount))));
        put("soft", json!(soft.iter().map(|percent| format!("{percent}%")).collect::<Vec<_>>()));
        put("allowance", json!(show_dollars(NanoUsd(*allowance))));
    } else {
        put("amount", json!(amount));
    }
    match window {
        Window::Rate { burst, .. } => drop(put("burst", json!(burst))),
        Window::Now | Window::Lifetime => {}
        Window::Rolling(time) => drop(put("rolling", json!(show_span(*time)))),
        Window::Calendar { unit: _, zone } => drop(put("zone", json!(zone.iana_name().unwrap_or("UTC")))),
    }
    Json::Object(shown)
}
