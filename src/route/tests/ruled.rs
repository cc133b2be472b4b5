//! Rules: which call goes where, and what is told of it.

use super::*;

const RULES: &str = r#"
keys:
  - {name: ci, key: 0123456789abcdef, tags: {team: search}, models: ["auto", "gpt-*"]}
  - {name: batch-7, key: 0123456789abcdeg, tags: {team: ads, tier: low}}
models: {smart: a/smart, cheap: b/cheap, gpt-4o: c/gpt-4o}
routes:
  - {name: low, match: {tag: {tier: [low, none]}, model: "gpt-*"}, model: cheap}
  - name: search
    match: {model: [auto, "gpt-*"], key: ci, header: {X-Team: "sea*"}, path: "/v1/chat*"}
    model: smart
  - {match: {model: auto}, when: 'request.tokens > 1000 || "vision" in request.needs || "shell" in request.tools', model: openai/large}
  - {name: broken, match: {model: auto}, when: 'request.headers["x-none"] == "1"', model: c/x}
  - {match: {model: auto}, when: 'request.stream && size(request.tools) == 0 && key.name == "ci"', model: cheap}
  - {match: {model: smart}, model: cheap}
"#;

fn planned(world: &World, question: &Question<'_>) -> (String, Vec<Box<str>>) {
    let plan = world.plan(question).unwrap();
    (name(&plan.targets[0]), plan.rules)
}

#[test]
fn the_first_rule_that_fits_is_applied_and_no_other_after_it() {
    let ci = World::of(RULES).with_key("ci");
    let batch = World::of(RULES).with_key("batch-7");
    let mut team = chat("auto");
    team.headers.insert("x-team", "search".parse().unwrap());
    // `smart` has a rule of its own, which is not applied again
    assert_eq!(planned(&ci, &team), ("a/smart".into(), vec!["search".into()]));
    assert_eq!(&*ci.plan(&team).unwrap().model, "smart");
    team.headers.insert("x-team", "ads".parse().unwrap());
    assert_eq!(ci.plan(&team).unwrap_err().kind, Kind::UnknownModel, "no rule fits, and there is no such model");
    team.headers.append("x-team", "sear".parse().unwrap());
    assert_eq!(planned(&ci, &team).0, "a/smart", "one of its lines fits");
    assert_eq!(ci.plan(&Question { path: "/v1/messages", ..team }).unwrap_err().kind, Kind::UnknownModel);

    assert_eq!(planned(&batch, &chat("gpt-4o")), ("b/cheap".into(), vec!["low".into()]));
    assert_eq!(planned(&ci, &chat("gpt-4o")), ("c/gpt-4o".into(), vec![]));
    assert_eq!(planned(&World::of(RULES), &chat("gpt-4o")), ("c/gpt-4o".into(), vec![]), "without a key no tag fits");
    // the key is asked for what its client wrote
    assert_eq!(ci.plan(&chat("smart")).unwrap_err().kind, Kind::Forbidden);
    assert_eq!(planned(&batch, &chat("smart")), ("b/cheap".into(), vec!["routes[5]".into()]));
}

#[test]
fn a_condition_sees_the_call_and_one_that_fails_is_told() {
    let ci = World::of(RULES).with_key("ci");
    let stream = Question { stream: true, ..chat("auto") };
    let plan = ci.plan(&stream).unwrap();
    assert_eq!((name(&plan.targets[0]).as_str(), &*plan.rules), ("b/cheap", &["routes[4]".into()][..]));
    let [Unclear { rule, why }] = plan.unclear.as_slice() else { panic!("{:?}", plan.unclear) };
    assert_eq!((&**rule, why.as_str()), ("broken", "No such key: x-none"));

    let large = |body: String| planned(&ci, &Question { body, ..chat("auto") });
    let expected = ("openai/large".to_owned(), vec![Box::from("routes[2]")]);
    assert_eq!(large(format!(r#"{{"messages":[{{"content":"{}"}}]}}"#, "a word ".repeat(1000))), expected);
    assert_eq!(large(r#"{"messages":[{"content":[{"type":"image_url"}]}]}"#.into()), expected);
    assert_eq!(large(r#"{"tools":[{"type":"shell"}]}"#.into()), expected);
    assert_eq!(
        large(r#"{"tools":[{"type":"function","function":{"parameters":{},"name":"shell"}}]}"#.into()),
        expected
    );
}

#[test]
fn the_names_of_tools_are_read_in_every_dialect() {
    for (operation, tools, wanted) in [
        (
            Operation::ChatCompletions,
            r#"[{"type":"function","function":{"name":"a","parameters":{"name":"x"}}},{"type":"custom","custom":{"name":"b"}}]"#,
            "a b",
        ),
        (
            Operation::Responses,
            r#"[{"type":"function","name":"a","parameters":{}},{"type":"web_search","filters":{}}]"#,
            "a web_search",
        ),
        (
            Operation::Messages,
            r#"[{"name":"a","input_schema":{"type":"object"}},{"type":"bash_20250124","name":"bash"}]"#,
            "a bash",
        ),
        (
            Operation::GenerateContent,
            r#"[{"functionDeclarations":[{"name":"a"},{"name":"b"}]},{"googleSearch":{}}]"#,
            "a b googleSearch",
        ),
        (Operation::Messages, r#"[1,{}]"#, ""),
    ] {
        let body = format!(r#"{{"tools":{tools}}}"#);
        let names = needs::Body::new(operation, body.as_bytes()).tools();
        assert_eq!(names.iter().map(|n| &**n).collect::<Vec<_>>().join(" "), wanted, "{operation}");
    }
}
