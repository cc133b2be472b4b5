//! What is asked and answered in each grammar, by hand and from recorded traffic.

use serde_json::{Value, json};

use crate::dialect::codec::Manners;
use crate::dialect::operation::Operation::{BedrockRerank, Rerank};
use crate::dialect::task::tests::{Body, ask, ask_with, asks, exchanges, losses, pairs, replied};

const ARN: &str = "arn:aws:bedrock:us-west-2::foundation-model/cohere.rerank-v3-5:0";

#[test]
fn version_one_s_documents_become_version_two_s() {
    let question = json!({"model": "m", "query": "q", "top_n": 1, "return_documents": true, "max_chunks_per_doc": 3,
        "rank_fields": ["title", "text"], "x": {"k": 1}, "documents": ["a", {"text": "b", "id": 7},
        {"text": "c", "title": "C:\nd", "id": 8}]});
    let (translated, bodies) = ask(Rerank, Rerank, &question, "rerank-v3.5").unwrap();
    assert_eq!(
        bodies,
        [json!({"model": "rerank-v3.5", "query": "q", "top_n": 1, "x": {"k": 1},
        "documents": ["a", "b", "title: \"C:\\nd\"\ntext: c\n"]})]
    );
    assert_eq!(losses(&translated, &question), ["dropped max_chunks_per_doc", "changed documents[2].title"]);
    let reply = json!({"id": "r", "results": [{"index": 2, "relevance_score": 0.90}], "meta": {"api_version": {"version": "2"},
        "billed_units": {"search_units": 3}}});
    let (answered, body) = replied(&translated, &[reply], None).unwrap();
    assert_eq!(
        body,
        json!({"id": "r", "results": [{"index": 2, "relevance_score": 0.90,
        "document": {"text": "c", "title": "C:\nd", "id": 8}}],
        "meta": {"api_version": {"version": "1"}, "billed_units": {"search_units": 3}}})
    );
    assert_eq!(answered.usage, None);
    assert!(String::from_utf8(answered.body).unwrap().contains("\"relevance_score\":0.9,"));
}

#[test]
fn bedrock_is_asked_and_answers() {
    let question = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}, {"t": {"x": 1.50}, "u": 1}],
        "rank_fields": ["text", "t"], "top_n": 9, "max_tokens_per_doc": 512, "truncation": "END"});
    let manners = Manners { region: Some("eu-west-1".into()), ..Manners::default() };
    let (translated, bodies) = ask_with(Rerank, BedrockRerank, &question, "amazon.rerank-v1:0", &manners).unwrap();
    let source = |document: Value| json!({"type": "INLINE", "inlineDocumentSource": document});
    assert_eq!(
        bodies,
        [json!({
        "queries": [{"type": "TEXT", "textQuery": {"text": "q"}}],
        "sources": [
            source(json!({"type": "TEXT", "textDocument": {"text": "a"}})),
            source(json!({"type": "TEXT", "textDocument": {"text": "b"}})),
            source(json!({"type": "JSON", "jsonDocument": {"t": {"x": 1.50}}})),
        ],
        "rerankingConfiguration": {"type": "BEDROCK_RERANKING_MODEL", "bedrockRerankingConfiguration": {
            "modelConfiguration": {"modelArn": "arn:aws:bedrock:eu-west-1::foundation-model/amazon.rerank-v1:0",
                "additionalModelRequestFields": {"max_tokens_per_doc": 512}},
            "numberOfResults": 3}}})]
    );
    assert_eq!(losses(&translated, &question), ["dropped truncation"]);
    let reply = json!({"results": [{"index": 1, "relevanceScore": 0.5}, {"index": 0, "relevanceScore": 0.25},
        {"index": 2, "relevanceScore": 1e-7}]});
    let (_, body) = replied(&translated, &[reply], None).unwrap();
    assert_eq!(
        body,
        json!({"id": "id-1", "results": [{"index": 1, "relevance_score": 0.5},
        {"index": 0, "relevance_score": 0.25}, {"index": 2, "relevance_score": 1e-7}],
        "meta": {"api_version": {"version": "1"}, "billed_units": {"search_units": 1}}})
    );
    let plain = json!({"query": "q", "documents": ["a"]});
    assert!(ask(Rerank, BedrockRerank, &plain, "amazon.rerank-v1:0").is_err());
    assert!(ask(Rerank, BedrockRerank, &json!({"query": "q", "documents": vec!["a"; 1001]}), ARN).is_err());
    let body = asks(Rerank, BedrockRerank, &plain, ARN);
    let model = body.pointer("/rerankingConfiguration/bedrockRerankingConfiguration/modelConfiguration/modelArn");
    assert_eq!(model, Some(&json!(ARN)));
}

#[test]
fn what_is_shaped_like_cohere_s_is_put_into_its_shape() {
    let question = json!({"query": "q", "documents": ["a", "b", "c"], "top_n": 2});
    let (translated, _) = ask(Rerank, Rerank, &question, "m").unwrap();
    for (reply, tokens) in [
        // vLLM
        (
            json!({"id": "id-1", "model": "m", "usage": {"total_tokens": 17}, "results": [
            {"index": 2, "document": {"text": "c"}, "relevance_score": 0.5},
            {"index": 0, "document": {"text": "a"}, "relevance_score": 0.25}]}),
            Some(17),
        ),
        // llama.cpp: in the order of the documents, and all of them
        (
            json!({"model": "m", "object": "list", "usage": {"prompt_tokens": 17, "total_tokens": 17}, "results": [
            {"index": 0, "relevance_score": 0.25}, {"index": 1, "relevance_score": -3},
            {"index": 2, "relevance_score": 0.5}]}),
            Some(17),
        ),
        // Voyage, and text-embeddings-inference
        (
            json!({"object": "list", "data": [{"relevance_score": 0.5, "index": 2}, {"relevance_score": 0.25, "index": 0}],
            "usage": {"total_tokens": 17}}),
            Some(17),
        ),
        (json!([{"index": 2, "score": 0.5}, {"index": 0, "score": 0.25}]), None),
    ] {
        let (answered, body) = replied(&translated, std::slice::from_ref(&reply), None).unwrap();
        assert_eq!(answered.usage.map(|usage| usage.input.0), tokens);
        assert_eq!(
            body["results"],
            json!([{"index": 2, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.25}])
        );
        assert_eq!(body["meta"]["tokens"]["input_tokens"].as_u64(), tokens);
        assert_eq!((&body["id"], &body["meta"]["api_version"]["version"]), (&json!("id-1"), &json!("2")));
    }
}

#[test]
fn an_answer_about_other_documents_is_garbled() {
    let (translated, _) = ask(Rerank, Rerank, &json!({"query": "q", "documents": ["a", "b"]}), "m").unwrap();
    let result = |index: Value| json!({"index": index, "relevance_score": 1});
    for results in [
        json!([result(json!(2))]),
        json!([result(json!(0)), result(json!(0))]),
        json!([result(json!(-1))]),
        json!([{"index": 0}]),
        json!([{"index": 0, "relevance_score": "high"}]),
        json!({}),
        json!(null),
    ] {
        assert!(replied(&translated, &[json!({"results": results})], None).is_err(), "{results}");
    }
}

#[test]
fn a_question_nobody_can_answer_is_refused_at_its_place() {
    for (question, path) in [
        (json!({"query": "q"}), ""),
        (json!({"documents": ["a"]}), ""),
        (json!({"query": "q", "documents": []}), "documents"),
        (json!({"query": "q", "documents": ["a", 1]}), "documents[1]"),
        (json!({"query": "q", "documents": ["a", {"title": "x"}]}), "documents[1]"),
        (json!({"query": "q", "documents": ["a"], "top_n": 0}), "top_n"),
        (json!({"query": "q", "documents": ["a"], "rank_fields": vec!["a"; 33]}), ""),
    ] {
        let wrong = ask(Rerank, Rerank, &question, "m").unwrap_err();
        assert_eq!(crate::json::Paths::new(question.to_string().as_bytes()).of(wrong.at), path, "{question}");
    }
}

// === recorded traffic ===

#[test]
fn recorded_questions_and_answers_are_carried() {
    let (mut questions, mut answers) = (0, 0);
    for exchange in exchanges(|api| api.ends_with(".rerank")) {
        let model = exchange.request["model"].as_str().unwrap();
        let (translated, bodies) = ask(Rerank, Rerank, &exchange.request, model).unwrap();
        let mut expected = exchange.request.clone();
        let again = expected.as_object_mut().unwrap().remove("return_documents");
        assert_eq!(bodies, [expected], "{}", exchange.id);
        assert!(ask(Rerank, BedrockRerank, &exchange.request, ARN).unwrap().0.losses.is_empty());
        questions += 1;
        if exchange.status != 200 {
            continue;
        }
        let Body::Json(body) = exchange.body else { panic!("{}: no JSON", exchange.id) };
        let (answered, ours) = replied(&translated, std::slice::from_ref(&body), None).unwrap();
        let scores = |body: &Value| -> Vec<(u64, f64)> {
            let results = body["results"].as_array().unwrap().iter();
            results.map(|r| (r["index"].as_u64().unwrap(), r["relevance_score"].as_f64().unwrap())).collect()
        };
        assert_eq!(scores(&ours), scores(&body), "{}", exchange.id);
        assert_eq!(answered.usage.map(|u| u.input.0), body["usage"]["total_tokens"].as_u64());
        if !body["meta"]["billed_units"].is_null() {
            assert_eq!(ours["meta"]["billed_units"], body["meta"]["billed_units"]);
        }
        assert_eq!(ours["results"][0]["document"].is_null(), again != Some(json!(true)));
        answers += 1;
    }
    println!("{questions} questions, {answers} answers");
}

/// Where we differ on purpose.
const DIFFERENT: [(&str, &str); 2] = [
    (
        "bedrock.rerank",
        "members of other vendors (`truncation`) are booked, not sent to a model that would refuse them",
    ),
    ("cohere.rerank", "`return_documents` is not a member of version 2"),
];

#[test]
fn other_gateways_translations_agree_but_for_members_of_other_vendors() {
    for (id, pair) in pairs(|inbound, upstream| inbound == "cohere.rerank" && upstream != "vertex.rerank") {
        let upstream = pair["upstream_api"].as_str().unwrap();
        let to = if upstream == "bedrock.rerank" { BedrockRerank } else { Rerank };
        let (_, bodies) = ask(Rerank, to, &pair["input"]["json"], ARN).unwrap();
        let mut expected = pair["expected"]["json"].clone();
        assert!(DIFFERENT.iter().any(|(api, _)| *api == upstream));
        if let Some(members) = expected.as_object_mut() {
            members.remove("return_documents");
            members.entry("model").and_modify(|model| *model = json!(ARN));
        }
        let fields =
            "/rerankingConfiguration/bedrockRerankingConfiguration/modelConfiguration/additionalModelRequestFields";
        if let Some(Value::Object(fields)) = expected.pointer_mut(fields) {
            fields.remove("truncation");
        }
        assert_eq!(bodies, [expected], "{id}");
    }
}
