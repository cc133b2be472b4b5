//! Models, and how long and how often a call is tried, as JSON: in the words of the file.

use serde_json::{Map, Value as Json, json};

use crate::config::policy::{
    Admission, Affinity, Balance, BreakerPolicy, Ejection, FailureRate, Fallback, Health, Hedge, HedgeAfter, Info,
    Model, ModelTarget, Policy, Pool, PoolEndpoint, Retry, RetryOn, Strategy,
};
use crate::config::prices::words;
use crate::config::snapshot::{OnLoss, Timeouts};
use crate::config::units::show_duration;

/// One target stands as `target`, with its own words beside it; several as `targets`, by name, so that a change in one is seen as that.
pub(super) fn model(model: &Model) -> Json {
    let Model { name: _, targets, strategy, affinity, policy, on_loss, listed } = model;
    let mut shown = Map::from_iter([
        ("strategy".to_owned(), json!(strategy_word(*strategy))),
        (
            "affinity".to_owned(),
            match affinity {
                Affinity::Off => json!("off"),
                Affinity::Prefix => json!("prefix"),
                Affinity::Session => json!("session"),
                Affinity::Header(name) => json!({"header": name.as_str()}),
            },
        ),
        ("on_loss".to_owned(), json!(loss(*on_loss))),
        ("listed".to_owned(), json!(listed)),
    ]);
    shown.extend(self::policy(policy));
    match targets.as_slice() {
        [one] => {
            shown.insert("target".to_owned(), json!(target_name(one)));
            shown.extend(target(one));
        }
        several => {
            let by_name = several.iter().map(|one| (target_name(one), Json::Object(target(one)))).collect();
            shown.insert("targets".to_owned(), by_name);
            // it counts where nothing else tells two apart
            shown.insert("order".to_owned(), several.iter().map(|one| target_name(one)).collect());
        }
    }
    Json::Object(shown)
}

fn target_name(target: &ModelTarget) -> String {
    format!("{}/{}", target.provider.name, target.upstream)
}

fn target(target: &ModelTarget) -> Map<String, Json> {
    let ModelTarget { provider: _, upstream: _, priority, weight, timeouts: deadlines, breaker: own, info, tariff } =
        target;
    let Info { context, max_output, vision, audio, documents, tools, json_schema, reasoning } = info;
    Map::from_iter([
        ("priority".to_owned(), json!(priority)),
        ("weight".to_owned(), json!(weight)),
        ("timeouts".to_owned(), timeouts(deadlines)),
        ("breaker".to_owned(), breaker(own)),
        (
            "info".to_owned(),
            json!({
                "context": context,
                "max_output": max_output,
                "vision": vision,
                "audio": audio,
                "documents": documents,
                "tools": tools,
                "json_schema": json_schema,
                "reasoning": reasoning,
            }),
        ),
        (
            "price".to_owned(),
            match tariff {
                Some(tariff) => {
                    let mut shown = words(tariff);
                    shown.insert("version".to_owned(), json!(tariff.version));
                    Json::Object(shown)
                }
                None => Json::Null,
            },
        ),
    ])
}

fn policy(policy: &Policy) -> Map<String, Json> {
    let Policy {
        retry: tries,
        hedge,
        fallback: Fallback { context_length, content_filter },
        resume,
        disconnect,
        total,
    } = policy;
    let hedge = match hedge {
        None => json!("off"),
        Some(Hedge { after: HedgeAfter::P95 }) => json!({"after": "p95"}),
        Some(Hedge { after: HedgeAfter::Fixed(period) }) => json!({"after": show_duration(*period)}),
    };
    Map::from_iter([
        ("retry".to_owned(), retry(tries)),
        ("hedge".to_owned(), hedge),
        (
            "fallback".to_owned(),
            json!({
                "context_length": context_length.as_ref().map(|name| name.as_str()),
                "content_filter": content_filter.as_ref().map(|name| name.as_str()),
            }),
        ),
        ("continue".to_owned(), json!(resume)),
        ("disconnect".to_owned(), json!(format!("{disconnect:?}").to_ascii_lowercase())),
        ("total".to_owned(), json!(total.map(show_duration))),
    ])
}

pub(super) fn retry(retry: &Retry) -> Json {
    let Retry { attempts, on, backoff, max_backoff, budget } = retry;
    let word = |on: &RetryOn| match on {
        RetryOn::Connect => "connect".to_owned(),
        RetryOn::Timeout => "timeout".to_owned(),
        RetryOn::Broken => "broken".to_owned(),
        RetryOn::Status(status) => status.to_string(),
        RetryOn::Class(class) => format!("{class}xx"),
    };
    json!({
        "attempts": attempts,
        "on": on.iter().map(word).collect::<Vec<_>>(),
        "backoff": show_duration(*backoff),
        "max_backoff": show_duration(*max_backoff),
        "budget": format!("{budget}%"),
    })
}

pub(super) fn timeouts(timeouts: &Timeouts) -> Json {
    let Timeouts { connect, tls, first_byte, first_token, idle, write, total } = timeouts;
    json!({
        "connect": show_duration(*connect),
        "tls": show_duration(*tls),
        "first_byte": show_duration(*first_byte),
        "first_token": show_duration(*first_token),
        "idle": show_duration(*idle),
        "write": show_duration(*write),
        "total": show_duration(*total),
    })
}

pub(super) fn breaker(breaker: &BreakerPolicy) -> Json {
    let BreakerPolicy { failures, rate, cooldown, probes } = breaker;
    let rate = match rate {
        None => json!("off"),
        Some(FailureRate { percent, window, minimum }) => {
            json!({"percent": format!("{percent}%"), "window": show_duration(*window), "minimum": minimum})
        }
    };
    json!({"failures": failures, "rate": rate, "cooldown": show_duration(*cooldown), "probes": probes})
}

/// `limits` and `queue`.
pub(super) fn admission(admission: &Admission) -> [(String, Json); 2] {
    let Admission { rpm, tpm, concurrency, depth, timeout } = admission;
    [
        ("limits".to_owned(), json!({"rpm": rpm, "tpm": tpm, "concurrency": concurrency})),
        ("queue".to_owned(), json!({"depth": depth, "timeout": show_duration(*timeout)})),
    ]
}

/// `endpoints` and what belongs to them.
pub(super) fn pool(pool: &Pool, url: impl Fn(&PoolEndpoint) -> String) -> [(String, Json); 5] {
    let Pool { endpoints, balance, health, ejection, slow_start } = pool;
    let Ejection { failures, time, max_percent } = ejection;
    let balance = match balance {
        Balance::RoundRobin => "round_robin",
        Balance::P2c => "p2c",
        Balance::LeastBusy => "least_busy",
        Balance::Hash => "hash",
    };
    let health = health.as_ref().map(|Health { path, interval, timeout, healthy, unhealthy }| {
        json!({
            "path": path,
            "interval": show_duration(*interval),
            "timeout": show_duration(*timeout),
            "healthy": healthy,
            "unhealthy": unhealthy,
        })
    });
    let ejection = json!({"failures": failures, "time": show_duration(*time), "max": format!("{max_percent}%")});
    [
        ("endpoints".to_owned(), endpoints.iter().map(|one| (url(one), json!({"weight": one.weight}))).collect()),
        ("balance".to_owned(), json!(balance)),
        ("health".to_owned(), json!(health)),
        ("ejection".to_owned(), ejection),
        ("slow_start".to_owned(), json!(show_duration(*slow_start))),
    ]
}

pub(super) fn loss(on_loss: OnLoss) -> &'static str {
    match on_loss {
        OnLoss::Report => "report",
        OnLoss::Refuse => "refuse",
    }
}

fn strategy_word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Priority => "priority",
        Strategy::Weighted => "weighted",
        Strategy::Cost => "cost",
        Strategy::Latency => "latency",
        Strategy::LeastBusy => "least_busy",
    }
}
