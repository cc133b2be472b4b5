//! `routes:`, from the file to the snapshot.

use super::*;

const MODELS: &str = "providers: {openai: {api_key: k}}\nmodels: {smart: openai/gpt-5}\n";

#[test]
fn rules_arrive_whole_and_in_order() {
    let snapshot = good(&format!(
        "{MODELS}routes:\n  - {{name: first, match: {{model: [auto, \"gpt-*\"], key: ci, header: {{X-Team: [a, b]}}, tag: {{team: search}}, path: \"/v1/*\"}}, when: 'request.stream', model: smart}}\n  - {{match: , model: openai/o3}}\n"
    ));
    let shown: Vec<String> = snapshot.rules.iter().map(|rule| format!("{rule:?}")).collect();
    assert_eq!(
        shown,
        [
            "Rule { name: \"first\", matches: Match { model: [Pattern(\"auto\"), Pattern(\"gpt-*\")], key: [Pattern(\"ci\")], header: [(\"x-team\", [Pattern(\"a\"), Pattern(\"b\")])], tag: [(\"team\", [Pattern(\"search\")])], path: [Pattern(\"/v1/*\")] }, when: Some(\"request.stream\"), model: \"smart\" }",
            "Rule { name: \"routes[1]\", matches: Match { model: [], key: [], header: [], tag: [], path: [] }, when: None, model: \"openai/o3\" }",
        ]
    );
    let view = view(&snapshot);
    assert_eq!(view["routes"][0]["match"]["header"]["x-team"][1], "b");
    assert_eq!(view["routes"][0]["when"], "request.stream");
    assert!(good(MODELS).rules.is_empty());
}

#[test]
fn what_is_wrong_with_a_rule_is_told_with_its_place() {
    let text = format!(
        "{MODELS}routes:\n  - {{model: smrt}}\n  - {{model: azure/x}}\n  - {{name: \"\", model: \"openai/*\"}}\n  - match: {{header: {{Authorization: x, \"a b\": y}}}}\n    when: request.strem\n    model: smart\n  - {{when: \"true\"}}\n  - {{mtch: {{}}, model: smart}}\n"
    );
    assert_eq!(
        bad(&text),
        "c.yaml:4:13: routes[0].model: no model \"smrt\" under \"models\": did you mean \"smart\"?\n\
         c.yaml:5:13: routes[1].model: no model \"azure/x\" under \"models\": there is no provider \"azure\" either\n\
         c.yaml:6:12: routes[2].name: \"\": use 1 to 128 characters, no control characters\n\
         c.yaml:6:23: routes[2].model: no model \"openai/*\" under \"models\": write a name without \"*\"\n\
         c.yaml:7:22: routes[3].match.header: \"Authorization\" holds a credential, which no rule may see: match the key's name or tags\n\
         c.yaml:7:40: routes[3].match.header: \"a b\" is not a header's name\n\
         c.yaml:8:11: routes[3].when, column 8: there is no \"request.strem\": did you mean \"stream\"?\n\
         c.yaml:10:5: routes[4] has no \"model\": write it\n\
         c.yaml:11:6: unknown key \"mtch\" under \"routes[5]\": did you mean \"match\"?"
    );
}
