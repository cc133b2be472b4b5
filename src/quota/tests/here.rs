//! On one node, by a clock that is held.

use super::*;
use crate::config::quota::Measure;
use crate::quota::{Left, Why};

const KEYS: &str = "
keys:
  - {name: ci, key: sk-test-0123456789abcdef, tags: {team: search, user: ada},
     limits: {rpm: 3, tpm: 1000, concurrency: 2}, budget: [{usd: 10, per: month}, {usd: 2, per: day}]}
  - {name: two, key: sk-test-1123456789abcdef, tags: {team: search, user: bob}}
  - {name: other, key: sk-test-2123456789abcdef, tags: {team: ads}}
";

#[test]
fn requests_are_counted_and_the_wait_is_true() {
    let world = World::new(KEYS);
    let who = world.who("ci");
    for _ in 0..3 {
        drop(world.call(&who, 10).unwrap());
    }
    let refused = world.call(&who, 10).unwrap_err();
    assert_eq!((refused.why, &*refused.name, &*refused.label), (Why::Limit, "rpm of key=ci", "rpm of key=*"));
    assert_eq!((refused.limit, refused.used, refused.retry_after), (3, 3, Some(Duration::from_secs(20))));
    assert_eq!(refused.to_string(), "The limit is reached: rpm of key=ci is 3 calls. Try again in 20 s.");
    world.wait(19.999_999);
    assert!(world.call(&who, 10).is_err());
    world.wait(0.000_001);
    drop(world.call(&who, 10).unwrap());
    // others have their own
    drop(world.call(&world.who("other"), 1_000_000).unwrap());
}

#[test]
fn tokens_are_held_as_estimated_and_settled_as_used() {
    let world = World::new(KEYS);
    let who = world.who("ci");
    let hold = world.call(&who, 900).unwrap();
    let refused = world.call(&who, 200).unwrap_err();
    assert_eq!((&*refused.name, refused.retry_after), ("tpm of key=ci", Some(Duration::from_secs(6))));
    hold.settle(Tokens(100));
    // the refused one was no request
    let hold = world.call(&who, 200).unwrap();
    assert_eq!(world.quotas.standing(&world.snapshot.quotas, &who).requests.unwrap().remaining, 1);
    // more than was estimated
    hold.settle(Tokens(950));
    let refused = world.call(&who, 1).unwrap_err();
    assert_eq!(refused.retry_after, Some(Duration::from_micros(51 * 60_000)));
    let refused = world.call(&who, 1001).unwrap_err();
    assert_eq!(refused.retry_after, None);
    assert!(refused.to_string().contains("more than the tpm of key=ci ever lets through at once (1000 tokens)"));
}

#[test]
fn a_call_that_is_dropped_gives_its_tokens_back_and_was_a_request() {
    let world = World::new(KEYS);
    let who = world.who("ci");
    drop(world.call(&who, 1000).unwrap());
    drop(world.call(&who, 1000).unwrap());
    let standing = world.quotas.standing(&world.snapshot.quotas, &who);
    assert_eq!(standing.requests, Some(Left { limit: 3, remaining: 1, reset: Duration::from_secs(40) }));
    assert_eq!(standing.tokens, Some(Left { limit: 1000, remaining: 1000, reset: Duration::ZERO }));
}

#[test]
fn calls_at_once_are_limited_and_a_place_is_free_again_at_the_end() {
    let world = World::new(KEYS);
    let who = world.who("ci");
    let (one, _two) = (world.call(&who, 1).unwrap(), world.call(&who, 1).unwrap());
    let refused = world.call(&who, 1).unwrap_err();
    assert_eq!((&*refused.name, refused.used), ("concurrency of key=ci", 2));
    one.settle(Tokens(1));
    assert!(world.call(&who, 1).is_ok());
}

#[test]
fn of_several_rules_the_longest_wait_is_told() {
    let world = World::new(
        "
keys: [{name: k, key: sk-test-0123456789abcdef, limits: {rpm: 2, rpd: 2, tpm: 10}}]
",
    );
    let who = world.who("k");
    drop(world.call(&who, 1).unwrap());
    world.call(&who, 9).unwrap().settle(Tokens(9));
    let refused = world.call(&who, 1).unwrap_err();
    assert_eq!((&*refused.name, refused.retry_after), ("rpd of key=k", Some(Duration::from_secs(12 * 3600))));
    world.wait(12.0 * 3600.0);
    assert!(world.call(&who, 1).is_ok());
}

#[test]
fn a_burst_is_the_size_of_the_shortest_window() {
    let world = World::new(
        "
keys: [{name: k, key: sk-test-0123456789abcdef, limits: {rpm: 60, rpd: 1000, burst: 2}}]
",
    );
    let who = world.who("k");
    assert!((0..2).all(|_| world.call(&who, 1).is_ok()));
    assert_eq!(world.call(&who, 1).unwrap_err().retry_after, Some(Duration::from_secs(1)));
    let passed = (0..600).filter(|_| {
        world.wait(0.1);
        world.call(&who, 1).is_ok()
    });
    assert_eq!(passed.count(), 60);
}

#[test]
fn every_budget_must_have_enough_and_none_is_charged_when_one_has_not() {
    let world = World::new(KEYS);
    let who = world.who("ci");
    let hold = world.attempt(&who, usd(1.5)).unwrap();
    let refused = world.attempt(&who, usd(1.0)).unwrap_err();
    assert_eq!((refused.why, &*refused.name, refused.of), (Why::Budget, "budget of key=ci per day", Measure::Usd));
    assert_eq!((refused.used, refused.held, refused.retry_after), (0, 1_500_000_000, Some(Duration::from_secs(1))));
    assert_eq!(world.spent("budget of key=ci per month"), (usd(0.0), usd(1.5)));
    let booked = hold.settle(Some(usd(0.25)), None);
    assert_eq!((booked.cost, booked.worst_case), (Some(usd(0.25)), false));
    assert_eq!(world.spent("budget of key=ci per day"), (usd(0.25), usd(0.0)));
    // the worst case stays where the real cost is not known
    let booked = world.attempt(&who, usd(1.5)).unwrap().settle(None, None);
    assert_eq!((booked.cost, booked.worst_case), (Some(usd(1.5)), true));
    let refused = world.attempt(&who, usd(0.5)).unwrap_err();
    assert_eq!(refused.retry_after, Some(Duration::from_secs(12 * 3600)));
    assert_eq!(refused.resets_at.unwrap().to_string(), "2026-05-15T00:00:00Z");
    assert_eq!(
        refused.to_string(),
        "The budget of key=ci per day has no money for this call: $1.75 of $2 are spent, and it may cost $0.50. It resets at \
         2026-05-15T00:00:00Z."
    );
    drop(world.attempt(&who, usd(0.25)).unwrap());
    world.wait(12.0 * 3600.0);
    assert!(world.attempt(&who, usd(2.0)).is_ok());
    assert_eq!(world.spent("budget of key=ci per month").0, usd(1.75));
}

#[test]
fn what_has_no_price_is_refused_where_a_budget_would_pay() {
    let world = World::new(KEYS);
    let refused = world.attempt_at(&world.who("ci"), "a", None).unwrap_err();
    assert_eq!((refused.why, refused.retry_after), (Why::Unpriced, None));
    assert!(refused.to_string().contains("budget of key=ci per month"));
    let booked = world.attempt_at(&world.who("two"), "a", None).unwrap().settle(None, None);
    assert_eq!((booked.cost, booked.worst_case), (None, true));
}

#[test]
fn caps_hold_for_each_call_alone() {
    let world = World::new(
        "
keys: [{name: k, key: sk-test-0123456789abcdef, caps: {tokens: 100, usd: 0.5}}]
",
    );
    let who = world.who("k");
    assert!(world.call(&who, 100).is_ok());
    let refused = world.call(&who, 101).unwrap_err();
    assert_eq!((refused.why, refused.retry_after), (Why::Cap, None));
    assert_eq!(
        refused.to_string(),
        "The call is too large: it may take 101 tokens, and the caps of key=k allow 100 tokens for one call."
    );
    assert!(world.attempt(&who, usd(0.5)).is_ok());
    assert_eq!(world.attempt(&who, usd(0.51)).unwrap_err().why, Why::Cap);
    assert_eq!(world.attempt_at(&who, "a", None).unwrap_err().why, Why::Unpriced);
}

#[test]
fn shared_rules_count_over_all_they_match() {
    let world = World::new(&format!(
        "{KEYS}
limits:
  - {{match: {{team: search}}, rpm: 4}}
  - {{match: {{user: \"*\"}}, rph: 3}}
  - {{match: {{model: \"gpt*\", team: ads}}, tpm: 50}}
  - {{match: {{provider: b}}, concurrency: 1, rpm: 100}}
budgets:
  - {{match: {{team: search}}, usd: 3, per: week}}
  - {{match: {{user: \"*\", provider: b}}, usd: 1, per: lifetime}}
"
    ));
    let (ci, two, other) = (world.who("ci"), world.who("two"), world.who("other"));
    for who in [&ci, &ci, &two, &two] {
        assert!(world.call(who, 1).is_ok());
    }
    assert_eq!(&*world.call(&two, 1).unwrap_err().name, "rpm of team=search");
    world.wait(30.0);
    // two of ada's, three of bob's
    assert!(world.call(&two, 1).is_ok());
    assert_eq!(&*world.call(&two, 1).unwrap_err().name, "rph of user=bob");
    assert!(world.call(&ci, 1).is_ok());
    assert_eq!(&*world.call(&other, 51).unwrap_err().name, "tpm of model=gpt* team=ads");
    assert!(world.call(&Who { model: "claude", ..other }, 51).is_ok());

    let _held = world.attempt_at(&other, "b", Some(usd(9.0))).unwrap();
    assert_eq!(&*world.attempt_at(&two, "b", Some(usd(0.1))).unwrap_err().name, "concurrency of provider=b");
    drop(_held);
    world.attempt_at(&two, "b", Some(usd(1.0))).unwrap().settle(Some(usd(1.0)), None);
    let refused = world.attempt_at(&two, "b", Some(usd(0.1))).unwrap_err();
    assert_eq!((&*refused.name, refused.retry_after), ("budget of provider=b user=bob in all", None));
    world.attempt_at(&ci, "b", Some(usd(1.0))).unwrap().settle(Some(usd(1.0)), None);
    world.attempt_at(&two, "a", Some(usd(1.0))).unwrap().settle(Some(usd(1.0)), None);
    assert_eq!(&*world.attempt_at(&two, "a", Some(usd(0.1))).unwrap_err().name, "budget of team=search per week");
    assert!(world.snapshot.quotas.has_budget(&ci, None) && world.snapshot.quotas.has_budget(&two, Some("a")));
    assert!(!world.snapshot.quotas.has_budget(&other, None));
}

#[test]
fn a_rule_that_is_watched_counts_and_refuses_nobody() {
    let world = World::new(
        "
keys: [{name: k, key: sk-test-0123456789abcdef, tags: {team: t}}]
limits: [{match: {team: t}, rpm: 1, concurrency: 1, shadow: true}]
budgets: [{match: {team: t}, usd: 1, per: day, shadow: true}]
",
    );
    let who = world.who("k");
    let one = world.call(&who, 1).unwrap();
    let two = world.call(&who, 1).unwrap();
    assert!(one.shadowed.is_empty());
    assert_eq!(two.shadowed.iter().map(|name| &**name).collect::<Vec<_>>(), ["rpm of team=t", "concurrency of team=t"]);
    let cost = world.attempt(&who, usd(5.0)).unwrap();
    assert_eq!(cost.shadowed.len(), 1);
    cost.settle(Some(usd(5.0)), None);
    assert_eq!(world.spent("budget of team=t per day").0, usd(5.0));
    // what is unpriced is let through, too
    assert!(world.attempt_at(&who, "a", None).is_ok());
    assert!(!world.snapshot.quotas.has_budget(&who, None));
    assert_eq!(world.quotas.standing(&world.snapshot.quotas, &who), crate::quota::Standing::default());
}

#[test]
fn soft_percents_send_one_event_a_period() {
    let world = World::new(
        "
keys: [{name: k, key: sk-test-0123456789abcdef, budget: {usd: 10, per: day, soft: [50%, 90%]}}]
",
    );
    let mut events = world.quotas.events().unwrap();
    assert!(world.quotas.events().is_none());
    let who = world.who("k");
    for _ in 0..10 {
        world.attempt(&who, usd(1.0)).unwrap().settle(Some(usd(1.0)), None);
    }
    let told: Vec<(u8, NanoUsd)> =
        std::iter::from_fn(|| events.try_recv().ok()).map(|e| (e.percent, e.spent)).collect();
    assert_eq!(told, [(50, usd(5.0)), (90, usd(9.0))]);
    world.wait(24.0 * 3600.0);
    world.attempt(&who, usd(9.0)).unwrap().settle(Some(usd(9.0)), None);
    let told: Vec<u8> = std::iter::from_fn(|| events.try_recv().ok()).map(|e| e.percent).collect();
    assert_eq!(told, [50, 90]);
}

#[test]
fn counters_outlive_a_reload_and_follow_what_is_allowed_now() {
    let mut world =
        World::new("keys: [{name: k, key: sk-test-0123456789abcdef, limits: {rpm: 10}, budget: {usd: 10, per: day}}]");
    {
        let who = world.who("k");
        for _ in 0..8 {
            drop(world.call(&who, 1).unwrap());
        }
        world.attempt(&who, usd(6.0)).unwrap().settle(Some(usd(6.0)), None);
    }
    world.snapshot = snapshot(
        "keys: [{name: k, key: sk-test-0123456789abcdef, limits: {rpm: 9}, budget: {usd: 7, per: day, zone: Asia/Tokyo}}]",
    );
    let who = world.who("k");
    assert!(world.call(&who, 1).is_ok() && world.call(&who, 1).is_err());
    assert!(world.attempt(&who, usd(1.5)).is_err() && world.attempt(&who, usd(1.0)).is_ok());
    // midnight there
    world.wait(3.0 * 3600.0);
    assert!(world.attempt(&who, usd(7.0)).is_ok());
}

#[test]
fn what_the_ledger_knows_counts_from_the_start() {
    let world = World::new(
        "
keys: [{name: k, key: sk-test-0123456789abcdef, tags: {user: ada}, budget: {usd: 10, per: month}}]
budgets: [{match: {user: \"*\"}, usd: 5, per: {rolling: 24h}}]
",
    );
    let who = world.who("k");
    let own = &who.key.unwrap().own.as_ref().unwrap().budgets[0];
    let user = &world.snapshot.quotas.all[0];
    let (month, day) = (world.quotas.since(own).unwrap(), world.quotas.since(user).unwrap());
    assert_eq!((month.to_string(), day.to_string()), ("2026-05-01T00:00:00Z".into(), "2026-05-13T12:00:00Z".into()));
    world.quotas.restore(own, &["k"], month, usd(9.0));
    world.quotas.restore(user, &["ada"], day, usd(4.5));
    assert!(world.attempt(&who, usd(1.1)).is_err());
    assert!(world.attempt(&who, usd(0.6)).is_err());
    assert!(world.attempt(&who, usd(0.5)).is_ok());
    world.wait(25.0 * 3600.0);
    assert!(world.attempt(&who, usd(1.0)).is_ok());
}

#[test]
fn budgets_of_somebody_named_are_shown_before_they_are_used() {
    let world = World::new(
        "budgets: [{match: {team: a}, usd: 5, per: day}, {match: {team: \"*\"}, usd: 5, per: day}, {usd: 9, per: month}]",
    );
    world.quotas.adopt(&world.snapshot.quotas);
    world.quotas.sweep();
    let shown = world.quotas.show();
    let names: Vec<&str> = shown.iter().map(|shown| shown.name.as_str()).collect();
    assert_eq!(names, ["budget of everybody per month", "budget of team=a per day"]);
    world.quotas.adopt(&Default::default());
    world.quotas.sweep();
    assert!(world.quotas.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_at_once_on_a_budget_for_ten_are_ten() {
    let world = Arc::new(World::new(KEYS));
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let who = world.who("ci");
                world.attempt(&who, usd(0.2))
            })
        })
        .collect();
    let mut holds = Vec::new();
    for task in tasks {
        holds.extend(task.await.unwrap());
    }
    assert_eq!(holds.len(), 10);
    assert_eq!(world.spent("budget of key=ci per day"), (usd(0.0), usd(2.0)));
    for hold in holds {
        hold.settle(Some(usd(0.2)), None);
    }
    assert_eq!(world.spent("budget of key=ci per day"), (usd(2.0), usd(0.0)));
}

#[test]
fn keys_with_the_same_rules_share_them() {
    let terms = "limits: {rpm: 10, tpm: 1000}, budget: {usd: 1, per: day}";
    let world = World::new(&format!(
        "
keys:
  - {{name: a, key: sk-test-0123456789abcdef, {terms}}}
  - {{name: b, key: sk-test-1123456789abcdef, {terms}}}
  - {{name: c, key: sk-test-2123456789abcdef, limits: {{rpm: 11, tpm: 1000}}, budget: {{usd: 1, per: day}}}}
"
    ));
    let own = |name| key(&world.snapshot, name).own.as_ref().unwrap();
    assert!(Arc::ptr_eq(own("a"), own("b")) && !Arc::ptr_eq(own("a"), own("c")));
    assert_eq!(own("a").limits[0].id, own("c").limits[0].id);
    drop(world.call(&world.who("a"), 1000).unwrap());
    assert_eq!(world.quotas.standing(&world.snapshot.quotas, &world.who("b")).requests.unwrap().remaining, 10);
}

#[test]
fn a_hundred_thousand_keys_leave_nothing_behind_when_they_are_idle() {
    let world = World::new(
        "
keys: [{name: k, key: sk-test-0123456789abcdef, limits: {rpm: 10, tpm: 1000, concurrency: 2}, budget: {usd: 1, per: day}}]
",
    );
    let own = &key(&world.snapshot, "k").own;
    for n in 0..100_000 {
        let key = Key {
            request_tags: None,
            name: crate::id::KeyName::new(format!("k{n}")),
            models: None,
            opaque: false,
            weight: 1,
            revoked: false,
            expires: None,
            tags: Vec::new(),
            own: own.clone(),
        };
        let who = Who { key: Some(&key), tags: &[], model: "m" };
        world.call(&who, 10).unwrap().settle(Tokens(5));
        world.attempt(&who, NanoUsd(DOLLAR / 10)).unwrap().settle(Some(NanoUsd(7)), None);
    }
    assert_eq!(world.quotas.len(), 400_000);
    world.wait(60.0);
    world.quotas.sweep();
    // what was spent today is remembered, and nothing else
    assert_eq!(world.quotas.len(), 100_000);
    world.wait(24.0 * 3600.0);
    world.quotas.sweep();
    assert!(world.quotas.is_empty());
}
