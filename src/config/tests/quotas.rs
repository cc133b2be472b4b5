//! Limits, budgets and caps: what is written, and which rules it becomes.

use super::*;
use crate::config::key_terms;
use crate::config::quota::{Measure, OnOutage, Rule, Who, Window};
use crate::config::snapshot::Key;

fn names(rules: &[&std::sync::Arc<Rule>]) -> Vec<String> {
    rules.iter().map(|rule| format!("{} {}", rule.name, rule.amount_text())).collect()
}

fn only_key(snapshot: &Snapshot) -> &Key {
    snapshot.keys.by_hash.values().next().unwrap()
}

const LIMITS: &str = "
keys:
  - {name: ci, key: canary-0123456789, tags: {team: search, user: ada}, limits: {rpm: 600, rpd: 1000, tpm: 5, concurrency: 8, burst: 10},
     budget: [{usd: 50, per: month}, {usd: 0.5, per: {rolling: 36h}, allowance: 10%}], caps: {tokens: 7, usd: 0.25}}
limits:
  - {match: {team: search}, rpm: 1, on_outage: closed}
  - {match: {team: ads}, rpm: 2}
  - {match: {user: \"*\", model: \"gpt-*\"}, tpd: 3}
  - {match: {key: ci}, concurrency: 4}
  - {match: {model: gpt-5}, rph: 5}
  - {match: {provider: openai}, rpm: 6}
  - {match: {provider: \"*\", team: search}, rpm: 7}
  - {rpm: 8}
budgets:
  - {match: {team: search}, usd: 9, per: week, zone: Europe/Berlin}
  - {match: {team: \"*\", provider: openai, model: \"o*\"}, usd: 10, per: lifetime, shadow: true}
";

#[test]
fn each_thing_that_is_counted_is_a_rule_and_a_call_finds_those_it_is_under() {
    let snapshot = good(&format!("{SMALL}{LIMITS}"));
    let key = only_key(&snapshot);
    let own = key.own.as_ref().unwrap();
    assert_eq!((own.caps.tokens, own.caps.usd.map(|usd| usd.0)), (Some(7), Some(250_000_000)));
    assert_eq!(own.limits[0].window, Window::Rate { every: std::time::Duration::from_secs(60), burst: 10 });
    assert_eq!(own.limits[1].window, Window::Rate { every: std::time::Duration::from_secs(86_400), burst: 1000 });
    // 1 %, a dollar at most; or as written
    assert_eq!((own.budgets[0].allowance, own.budgets[1].allowance), (500_000_000, 50_000_000));
    assert_eq!((own.budgets[0].on_outage, own.limits[0].on_outage), (OnOutage::Closed, OnOutage::Local));

    let who = Who { key: Some(key), tags: &key.tags, model: "gpt-5" };
    let mut found = names(&snapshot.quotas.of_call(&who));
    found.sort();
    assert_eq!(
        found,
        [
            "concurrency of key=* 8 calls",
            "concurrency of key=ci 4 calls",
            "rpd of key=* 1000 calls",
            "rph of model=gpt-5 5 calls",
            "rpm of everybody 8 calls",
            "rpm of key=* 600 calls",
            "rpm of team=search 1 call",
            "tpd of model=gpt-* user=* 3 tokens",
            "tpm of key=* 5 tokens",
        ]
    );
    let mut found = names(&snapshot.quotas.of_attempt(&who, "openai"));
    found.sort();
    assert_eq!(
        found,
        [
            "budget of key=* in 36h $0.50",
            "budget of key=* per month $50",
            "budget of team=search per week $9",
            "rpm of provider=* team=search 7 calls",
            "rpm of provider=openai 6 calls",
        ]
    );
    let nobody = Who { key: None, tags: &[], model: "claude" };
    assert_eq!(names(&snapshot.quotas.of_call(&nobody)), ["rpm of everybody 8 calls"]);
    assert_eq!(names(&snapshot.quotas.of_attempt(&nobody, "openai")), ["rpm of provider=openai 6 calls"]);
}

#[test]
fn an_id_says_what_is_counted_and_for_whom_and_nothing_else() {
    let id = |text: &str| good(&format!("{SMALL}{text}")).quotas.all[0].id;
    // written down: on the server it must stay what it is
    let team = id("limits: [{match: {team: a}, rpm: 1}]");
    assert_eq!(team, 11_698_959_547_410_529_311);
    assert_eq!(team, id("limits: [{match: {team: a}, rpm: 500, burst: 3, shadow: true, on_outage: open}]"));
    let budget = id("budgets: [{match: {a: x, b: y}, usd: 1, per: month}]");
    assert_eq!(budget, id("budgets: [{match: {b: y, a: x}, usd: 2, per: month, zone: Asia/Tokyo, soft: 5%}]"));
    let different = [
        team,
        budget,
        id("limits: [{match: {team: b}, rpm: 1}]"),
        id("limits: [{match: {team: \"*\"}, rpm: 1}]"),
        id("limits: [{match: {user: a}, rpm: 1}]"),
        id("limits: [{match: {key: a}, rpm: 1}]"),
        id("limits: [{match: {model: a}, rpm: 1}]"),
        id("limits: [{match: {team: a}, rph: 1}]"),
        id("limits: [{match: {team: a}, tpm: 1}]"),
        id("limits: [{match: {team: a}, concurrency: 1}]"),
        id("budgets: [{match: {team: a}, usd: 1, per: month}]"),
        id("budgets: [{match: {team: a}, usd: 1, per: day}]"),
        id("budgets: [{match: {team: a}, usd: 1, per: {rolling: 24h}}]"),
        id("budgets: [{match: {team: a}, usd: 1, per: {rolling: 48h}}]"),
        id("budgets: [{match: {team: a}, usd: 1, per: lifetime}]"),
        id("budgets: [{match: {key: \"*\"}, usd: 1, per: month}]"),
        good("providers: {ollama: }\nkeys: [{name: k, key: canary-0123456789, budget: {usd: 1, per: month}}]")
            .keys
            .by_hash
            .values()
            .next()
            .unwrap()
            .own
            .as_ref()
            .unwrap()
            .budgets[0]
            .id,
    ];
    let apart: std::collections::HashSet<u64> = different.into_iter().collect();
    assert_eq!(apart.len(), different.len());
}

#[test]
fn what_a_key_may_use_can_be_read_alone() {
    let own = key_terms(r#"{"limits": {"rpm": 5}, "budget": {"usd": 1.5, "per": "day"}, "caps": {"tokens": 9}}"#);
    let own = own.unwrap().unwrap();
    assert_eq!((own.limits[0].of, own.limits[0].amount), (Measure::Requests, 5));
    assert_eq!((own.budgets[0].amount, own.caps.tokens), (1_500_000_000, Some(9)));
    assert!(key_terms("{}").unwrap().is_none());
    let errors = key_terms(
        r#"{"limits": {"rpm": 0, "rmp": 1}, "budget": [{"usd": 1, "per": "day"}, {"usd": 2, "per": "day"}]}"#,
    );
    insta::assert_snapshot!(show(&errors.unwrap_err()));
}
