//! From names to targets: entries, wildcards, names written out, keys, credentials.

use super::*;

fn why(plan: &Plan) -> Vec<String> {
    plan.passed_over.iter().map(|p| format!("{}: {}", p.target, p.why)).collect()
}

#[test]
fn an_entry_comes_before_a_wildcard_and_the_wildcard_with_most_other_characters_before_the_rest() {
    let mut world = World::new();
    world.model("gpt-5", vec![("openai/exact", PLAIN)]);
    world.model("gpt-*", vec![("openai/any-*", PLAIN)]);
    world.model("gpt-5*", vec![("openai/five-*", PLAIN)]);
    world.model("*-small", vec![("a/s/*/x", PLAIN)]);
    world.model("fixed-*", vec![("a/one", PLAIN)]);
    for (model, target, listed) in [
        ("gpt-5", "openai/exact", true),
        ("gpt-5.1", "openai/five-.1", false),
        ("gpt-4o", "openai/any-4o", false),
        ("phi-small", "a/s/phi/x", false),
        ("fixed-7", "a/one", false),
    ] {
        let plan = world.plan(&chat(model)).unwrap();
        let found: Vec<String> = plan.targets.iter().map(name).collect();
        assert_eq!(found, [target], "{model}");
        assert_eq!(plan.targets[0].listed, listed, "{model}");
        assert_eq!(&*plan.model, model);
        assert_eq!(name(&super::target(&world.snapshot, None, model).unwrap()), target);
    }
    // the run is never empty
    assert_eq!(world.plan(&chat("gpt-")).unwrap_err().kind, Kind::UnknownModel);
}

#[test]
fn a_name_written_out_means_just_that_target() {
    let mut world = World::new();
    world.model("*", vec![("b/*", PLAIN)]);
    world.model("gpt", vec![("b/gpt", PLAIN), ("c/gpt", PLAIN)]);
    assert_eq!(world.order(&chat("a/gpt")), ["a/gpt"]);
    assert_eq!(world.order(&chat("a/gpt/4")), ["a/gpt/4"]);
    assert_eq!(world.order(&chat("nobody/gpt")), ["b/nobody/gpt"]);
    // what the operator wrote with a slash is meant so
    world.model("a/*", vec![("c/*", PLAIN)]);
    assert_eq!(world.order(&chat("a/gpt")), ["c/gpt"]);
    world.model("a/gpt", vec![("openai/gpt", PLAIN)]);
    assert_eq!(world.order(&chat("a/gpt")), ["openai/gpt"]);
    // strictly, it is a name like any other
    world.snapshot.strict = true;
    assert_eq!(world.order(&chat("openai/x")), ["b/openai/x"]);
    world.snapshot.wildcards.clear();
    assert_eq!(world.plan(&chat("openai/x")).unwrap_err().kind, Kind::UnknownModel);
    let ask = chat("anything");
    let instead = plan_instead(&world.ask(&ask), "openai/x", &world).unwrap();
    assert_eq!((name(&instead.targets[0]).as_str(), &*instead.model), ("openai/x", "openai/x"));
}

#[test]
fn a_key_sees_only_what_it_may_use() {
    let mut world = World::of("keys: [{name: ci, key: 0123456789abcdef, models: [smart, \"a/*\"]}]\n").with_key("ci");
    world.model("smart", vec![("b/x", PLAIN)]);
    world.model("smarter", vec![("b/y", PLAIN)]);
    world.model("smart-hidden", vec![("b/y", PLAIN)]).listed = false;
    assert_eq!(world.order(&chat("smart")), ["b/x"]);
    assert_eq!(world.order(&chat("a/x")), ["a/x"]);
    for model in ["smarter", "smartest", "b/x"] {
        let error = world.plan(&chat(model)).unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Forbidden, Some("model_not_allowed")), "{model}");
        assert!(!error.say.contains("smarter`,") && !error.say.contains("hidden"), "{}", error.say);
    }
    let error = world.plan(&chat("smarter")).unwrap_err();
    assert!(error.say.ends_with("Did you mean `smart`?"), "{}", error.say);
    world.key = None;
    let error = world.plan(&chat("smarte")).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (Kind::UnknownModel, Some("model")));
    assert!(error.say.ends_with("Did you mean `smarter` or `smart`?"), "{}", error.say);
}

#[test]
fn a_provider_that_is_not_set_up_is_passed_over_and_told() {
    let mut world = World::new();
    world.model("m", vec![("unset/x", PLAIN), ("a/x", PLAIN)]);
    let plan = world.plan(&chat("m")).unwrap();
    assert_eq!(plan.targets.iter().map(name).collect::<Vec<_>>(), ["a/x"]);
    assert_eq!(why(&plan), ["unset/x: not configured: NOPE unset"]);
    assert_eq!(name(&super::target(&world.snapshot, None, "m").unwrap()), "a/x");
    world.model("none", vec![("unset/x", PLAIN), ("unset/y", PLAIN)]);
    for error in [world.plan(&chat("none")).unwrap_err(), super::target(&world.snapshot, None, "none").unwrap_err()] {
        assert_eq!((error.kind, error.code), (Kind::UpstreamFailed, Some("provider_not_configured")));
        assert!(error.to_string().contains("NOPE"));
    }
}

#[test]
fn a_target_without_a_way_is_passed_over_and_told() {
    let mut world = World::new();
    world.model("m", vec![("anthropic/x", PLAIN), ("openai/x", PLAIN)]);
    let question = Question { operation: Operation::Embeddings, body: r#"{"input":"x"}"#.into(), ..chat("m") };
    let plan = world.plan(&question).unwrap();
    assert_eq!(plan.targets.iter().map(name).collect::<Vec<_>>(), ["openai/x"]);
    assert_eq!(why(&plan), ["anthropic/x: does not offer embeddings"]);
    // in conversation it has
    assert_eq!(world.order(&chat("m")).len(), 2);
    world.model("m", vec![("anthropic/x", PLAIN), ("anthropic/y", PLAIN)]);
    let error = world.plan(&question).unwrap_err();
    assert_eq!((error.kind, &*error.say), (Kind::Unsupported, "Provider \"anthropic\" does not offer embeddings."));
}

#[test]
fn the_accounts_of_a_target_follow_each_other_the_one_with_most_left_first() {
    let mut world = World::new();
    world.accounts("a", &["b", "c"]);
    world.model("m", vec![("a/x", PLAIN), ("openai/x", Special { priority: 2, ..PLAIN })]);
    let left = |left: f32, in_flight| Gauge { left: Some(left), in_flight, ..Gauge::default() };
    world.set("a/x", left(0.1, 0));
    world.set("a/x#1", left(0.9, 9));
    world.set("a/x#2", left(0.5, 0));
    assert_eq!(world.order(&chat("m")), ["a/x#1", "a/x#2", "a/x", "openai/x"]);
    let ids: std::collections::HashSet<u64> = world.plan(&chat("m")).unwrap().targets.iter().map(|t| t.id).collect();
    assert_eq!(ids.len(), 4);
    // equal: the fewest in flight
    world.set("a/x", left(0.5, 1));
    world.set("a/x#1", left(0.5, 0));
    world.set("a/x#2", left(0.5, 2));
    assert_eq!(world.order(&chat("m")), ["a/x#1", "a/x", "a/x#2", "openai/x"]);
    // one that refuses goes behind everything
    world.set("a/x#1", Gauge { refused: Some(Duration::from_secs(1)), ..left(1.0, 0) });
    assert_eq!(world.order(&chat("m")), ["a/x", "a/x#2", "openai/x", "a/x#1"]);
    // equal in everything: they take turns
    world.gauges.clear();
    let firsts = world.firsts("m", 3000);
    assert_eq!(firsts.len(), 3, "{firsts:?}");
    assert!(firsts.values().all(|share| (0.30..0.37).contains(share)), "{firsts:?}");
}
