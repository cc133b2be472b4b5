//! What is asked and answered in each grammar, by hand and from recorded traffic.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::chat::Losses;
use crate::dialect::codec::Manners;
use crate::dialect::operation::Operation::{self, *};
use crate::dialect::task::tests::{Body, ask, ask_with, asks, exchanges, losses, pairs, replied};
use crate::json::Node;

const TITAN2: &str = "amazon.titan-embed-text-v2:0";

// === questions ===

#[test]
fn a_text_is_asked_about_in_every_provider_s_grammar() {
    let question = json!({"model": "alias", "input": "hi", "dimensions": 256, "encoding_format": "base64"});
    for (to, model, expected) in [
        (
            EmbedContent,
            "gemini-embedding-001",
            json!({"requests": [{"model": "models/gemini-embedding-001",
            "content": {"parts": [{"text": "hi"}]}, "outputDimensionality": 256}]}),
        ),
        (
            CohereEmbed,
            "embed-v4.0",
            json!({"model": "embed-v4.0", "texts": ["hi"], "input_type": "search_document",
            "embedding_types": ["float"], "output_dimension": 256}),
        ),
        (Invoke, TITAN2, json!({"inputText": "hi", "dimensions": 256})),
        (
            Invoke,
            "amazon.titan-embed-image-v1",
            json!({"inputText": "hi",
            "embeddingConfig": {"outputEmbeddingLength": 256}}),
        ),
        (
            Invoke,
            "us.cohere.embed-v4:0",
            json!({"texts": ["hi"], "input_type": "search_document",
            "output_dimension": 256}),
        ),
        (
            Invoke,
            "amazon.nova-2-multimodal-embeddings-v1:0",
            json!({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {"embeddingPurpose": "GENERIC_INDEX",
                "embeddingDimension": 256, "text": {"truncationMode": "NONE", "value": "hi"}}}),
        ),
        (OllamaEmbed, "all-minilm", json!({"model": "all-minilm", "input": ["hi"], "dimensions": 256})),
        (
            Predict,
            "text-embedding-005",
            json!({"instances": [{"content": "hi"}],
            "parameters": {"outputDimensionality": 256}}),
        ),
    ] {
        assert_eq!(asks(Embeddings, to, &question, model), expected, "{to} {model}");
    }
}

#[test]
fn gemini_s_clients_are_understood_in_both_forms_and_spellings() {
    let one = json!({"model": "models/x", "content": {"role": "user", "parts": [{"text": "hi"}]},
        "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8});
    let many = json!({"requests": [{"content": {"parts": [{"text": "hi"}]}, "task_type": "RETRIEVAL_QUERY",
        "output_dimensionality": 8}]});
    let config = json!({"content": {"parts": [{"text": "hi"}]},
        "embedContentConfig": {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8}});
    for question in [&one, &many, &config] {
        let expected = json!({"model": "embed-v4.0", "texts": ["hi"], "input_type": "search_query",
            "embedding_types": ["float"], "output_dimension": 8});
        assert_eq!(asks(EmbedContent, CohereEmbed, question, "embed-v4.0"), expected);
        let (translated, bodies) = ask(EmbedContent, Embeddings, question, "e3").unwrap();
        let expected = json!({"model": "e3", "input": ["hi"], "encoding_format": "float", "dimensions": 8});
        assert_eq!(bodies, [expected]);
        assert!(losses(&translated, question)[0].to_lowercase().contains("task"));
    }
}

#[test]
fn hints_of_other_vendors_are_carried_where_they_have_a_place() {
    let question = json!({"input": ["a", "b"], "task_type": "RETRIEVAL_DOCUMENT", "title": "T", "auto_truncate": true});
    assert_eq!(
        asks(Embeddings, Predict, &question, "text-embedding-004"),
        json!({"instances": [{"content": "a", "task_type": "RETRIEVAL_DOCUMENT", "title": "T"},
            {"content": "b", "task_type": "RETRIEVAL_DOCUMENT", "title": "T"}], "parameters": {"autoTruncate": true}})
    );
    let manners = Manners { vertex: true, ..Manners::default() };
    let (vertex, bodies) = ask_with(Embeddings, EmbedContent, &question, "gemini-embedding-2", &manners).unwrap();
    assert!(vertex.losses.is_empty());
    assert_eq!(
        bodies[0]["requests"][0],
        json!({"content": {"parts": [{"text": "a"}]},
        "taskType": "RETRIEVAL_DOCUMENT", "title": "T", "autoTruncate": true})
    );
    let question = json!({"input": ["a"], "input_type": "query", "truncate": "START", "normalize": false});
    assert_eq!(
        ask(Embeddings, Invoke, &question, "cohere.embed-english-v3").unwrap().1,
        [json!({"texts": ["a"], "input_type": "search_query", "truncate": "START"})]
    );
    assert_eq!(ask(Embeddings, Invoke, &question, "cohere.embed-v4:0").unwrap().1[0]["truncate"], "LEFT");
    assert_eq!(ask(Embeddings, Invoke, &question, TITAN2).unwrap().1, [json!({"inputText": "a", "normalize": false})]);
    assert_eq!(ask(Embeddings, OllamaEmbed, &question, "x").unwrap().1[0]["truncate"], true);
}

#[test]
fn what_has_no_place_is_booked_where_it_stood() {
    let question = json!({"model": "a", "input": "hi", "user": "u", "input_type": "query", "title": "T",
        "truncate": "START", "normalize": true, "dimensions": 8, "odd": 1});
    let lost = |to, model| losses(&ask(Embeddings, to, &question, model).unwrap().0, &question).join(", ");
    insta::assert_snapshot!(
        [
            lost(EmbedContent, "g"),
            lost(CohereEmbed, "embed-english-light-v3.0"),
            lost(Invoke, "amazon.titan-embed-text-v1"),
            lost(Invoke, TITAN2),
            lost(OllamaEmbed, "o"),
            lost(Predict, "p"),
        ]
        .join("\n"),
        @"
    dropped odd, dropped user, dropped normalize, dropped truncate, dropped title
    dropped odd, dropped user, dropped title, dropped normalize, essential dimensions
    dropped odd, dropped user, dropped input_type, dropped title, dropped truncate, dropped normalize, essential dimensions
    dropped odd, dropped user, dropped input_type, dropped title, dropped truncate
    dropped odd, dropped user, dropped input_type, dropped title, dropped normalize, changed truncate
    dropped odd, dropped user, dropped normalize, changed truncate, dropped title
    "
    );
}

#[test]
fn texts_are_split_into_as_many_calls_as_the_provider_needs() {
    let texts: Vec<String> = (0..205).map(|n| format!("t{n}")).collect();
    let question = json!({"input": texts});
    for (to, model, calls) in [
        (EmbedContent, "g", 3),
        (CohereEmbed, "embed-v4.0", 3),
        (Invoke, TITAN2, 205),
        (Invoke, "cohere.embed-multilingual-v3", 3),
        (OllamaEmbed, "o", 1),
        (Predict, "text-embedding-005", 1),
        (Predict, "gemini-embedding-001", 205),
    ] {
        assert_eq!(ask(Embeddings, to, &question, model).unwrap().1.len(), calls, "{to} {model}");
    }
    // and put together again
    let (asked, bodies) = ask(Embeddings, CohereEmbed, &question, "embed-v4.0").unwrap();
    let reply = |body: &Value| {
        let vectors: Vec<Value> = body["texts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| json!([text.as_str().unwrap()[1..].parse::<u32>().unwrap()]))
            .collect();
        json!({"id": "x", "embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 7}}})
    };
    let replies: Vec<Value> = bodies.iter().map(reply).collect();
    let (answered, body) = replied(&asked, &replies, None).unwrap();
    assert_eq!(answered.usage.unwrap().input.0, 21);
    for n in 0..205 {
        assert_eq!((&body["data"][n]["index"], &body["data"][n]["embedding"]), (&json!(n), &json!([n])));
    }
    assert!(replied(&asked, &replies[..2], None).is_err());
}

#[test]
fn a_question_nobody_can_answer_is_refused_at_its_place() {
    let refused = |from, to, question: &Value, model| {
        let wrong = ask(from, to, question, model).unwrap_err();
        crate::json::Paths::new(question.to_string().as_bytes()).of(wrong.at)
    };
    for (question, path) in [
        (json!({"input": [1, 2]}), "input[0]"),
        (json!({"input": [[1, 2]]}), "input[0]"),
        (json!({"input": ["a", {}]}), "input[1]"),
        (json!({"input": []}), "input"),
        (json!({"input": 1}), "input"),
        (json!({}), ""),
        (json!({"input": "a", "dimensions": 0}), "dimensions"),
        (json!({"input": "a", "encoding_format": "int8"}), "encoding_format"),
        (json!({"input": "a", "title": "x".repeat(2000)}), "title"),
        (json!({"input": vec!["a"; 2049]}), ""),
    ] {
        assert_eq!(refused(Embeddings, OllamaEmbed, &question, "m"), path, "{question}");
    }
    let image = json!({"content": {"parts": [{"text": "a"}, {"inline_data": {"mime_type": "image/png", "data": ""}}]}});
    assert_eq!(refused(EmbedContent, Embeddings, &image, "m"), "content.parts[1]");
    let part = json!({"content": {"parts": [{"text": "a"}]}});
    let other = json!({"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 3});
    let mixed = json!({"requests": [part, other]});
    assert_eq!(refused(EmbedContent, Embeddings, &mixed, "m"), "requests[1]");
    assert!(ask(Embeddings, Invoke, &json!({"input": "a"}), "meta.llama3").is_err());
}

// === answers ===

#[test]
fn every_provider_s_answer_becomes_openai_s() {
    let question = json!({"input": ["a", "b"]});
    let two = json!([[0.10, -1.0], [2e-3, 3]]);
    for (to, model, reply, tokens) in [
        (
            EmbedContent,
            "g",
            json!({"embeddings": [{"values": two[0]}, {"values": two[1]}],
            "usageMetadata": {"promptTokenCount": 4}}),
            Some(4),
        ),
        (EmbedContent, "g", json!({"embeddings": [{"values": two[0]}, {"values": two[1]}]}), None),
        (
            CohereEmbed,
            "embed-v4.0",
            json!({"id": "x", "embeddings": {"float": two}, "texts": ["a", "b"],
            "meta": {"billed_units": {"input_tokens": 4}}}),
            Some(4),
        ),
        (Invoke, "cohere.embed-english-v3", json!({"embeddings": two, "response_type": "embeddings_floats"}), None),
        (Invoke, "cohere.embed-v4:0", json!({"embeddings": {"float": two}}), None),
        (OllamaEmbed, "o", json!({"model": "o", "embeddings": two, "prompt_eval_count": 4}), Some(4)),
        (
            Predict,
            "p",
            json!({"predictions": [
            {"embeddings": {"values": two[0], "statistics": {"token_count": 1, "truncated": false}}},
            {"embeddings": {"values": two[1], "statistics": {"token_count": 3.0}}}]}),
            Some(4),
        ),
    ] {
        let (asked, _) = ask(Embeddings, to, &question, model).unwrap();
        let (answered, body) = replied(&asked, std::slice::from_ref(&reply), None).unwrap();
        assert_eq!(answered.usage.map(|u| u.input.0), tokens, "{to}");
        assert!(answered.losses.is_empty());
        let model = reply["model"].as_str().unwrap_or("m");
        let tokens = tokens.unwrap_or(0);
        assert_eq!(
            body,
            json!({"object": "list", "data": [
            {"object": "embedding", "index": 0, "embedding": [0.10, -1.0]},
            {"object": "embedding", "index": 1, "embedding": [2e-3, 3]},
        ], "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
        );
        if tokens == 0 {
            assert_eq!(replied(&asked, &[reply], Some(9)).unwrap().0.usage.unwrap().input.0, 9);
        }
    }
}

#[test]
fn nova_s_answer_has_its_vector_in_an_object() {
    let (asked, _) =
        ask(Embeddings, Invoke, &json!({"input": "a"}), "amazon.nova-2-multimodal-embeddings-v1:0").unwrap();
    let reply = json!({"embeddings": [{"embeddingType": "TEXT", "embedding": [0.5, 1], "truncatedCharLength": 3}]});
    let (answered, body) = replied(&asked, &[reply], Some(4)).unwrap();
    assert_eq!(body["data"][0]["embedding"], json!([0.5, 1]));
    assert_eq!(answered.usage.unwrap().input.0, 4);
}

#[test]
fn openai_s_answer_becomes_gemini_s_in_the_order_of_its_indices() {
    let many = json!({"requests": [{"content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "b"}]}}]});
    let (asked, _) = ask(EmbedContent, Embeddings, &many, "e").unwrap();
    let base64 = STANDARD.encode([1f32.to_le_bytes(), 0.1f32.to_le_bytes()].concat());
    let reply = json!({"object": "list", "data": [{"index": 1, "embedding": base64}, {"index": 0, "embedding": [2]}],
        "usage": {"prompt_tokens": 5, "total_tokens": 5}});
    let (answered, body) = replied(&asked, &[reply], None).unwrap();
    assert_eq!(answered.usage.unwrap().input.0, 5);
    assert_eq!(
        body,
        json!({"embeddings": [{"values": [2]}, {"values": [1, 0.1]}],
        "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}})
    );

    let one = json!({"content": {"parts": [{"text": "a"}]}});
    let (asked, _) = ask(EmbedContent, OllamaEmbed, &one, "e").unwrap();
    let (_, body) = replied(&asked, &[json!({"embeddings": [[7.5]]})], None).unwrap();
    assert_eq!(body, json!({"embedding": {"values": [7.5]}}));
}

#[test]
fn an_answer_with_too_few_too_many_or_misplaced_vectors_is_garbled() {
    let (asked, _) = ask(EmbedContent, Embeddings, &json!({"content": {"parts": [{"text": "a"}]}}), "e").unwrap();
    let (two, _) = ask(Embeddings, OllamaEmbed, &json!({"input": ["a", "b"]}), "e").unwrap();
    let item = |index: Value| json!({"index": index, "embedding": [1]});
    for data in [
        json!([]),
        json!([item(json!(0)), item(json!(1))]),
        json!([item(json!(1))]),
        json!([{"index": 0}]),
        json!([{"index": 0, "embedding": null}]),
        json!([{"index": 0, "embedding": [null]}]),
        json!(null),
    ] {
        assert!(replied(&asked, &[json!({"data": data})], None).is_err(), "{data}");
    }
    for reply in [json!({"embeddings": [[1]]}), json!({"embeddings": [[1], [2], [3]]}), json!({"error": "x"})] {
        assert!(replied(&two, &[reply], None).is_err());
    }
}

#[test]
fn an_answer_may_hold_more_numbers_than_a_tree_could() {
    let vector = Value::from(vec![0.125; 2000]);
    let (asked, _) = ask(Embeddings, OllamaEmbed, &json!({"input": vec!["a"; 150]}), "e").unwrap();
    let (answered, body) = replied(&asked, &[json!({"embeddings": vec![&vector; 150]})], None).unwrap();
    assert!(Node::parse_reply(&answered.body).is_err());
    assert_eq!(body["data"][149]["embedding"], vector);
}

#[test]
fn vectors_of_another_length_than_asked_for_are_told() {
    let question = json!({"input": "a", "dimensions": 3});
    let (asked, _) = ask(Embeddings, OllamaEmbed, &question, "e").unwrap();
    let told = |reply| replied(&asked, &[reply], None).unwrap().0.losses;
    assert_eq!(told(json!({"embeddings": [[1, 2, 3]]})), Losses::default());
    let lost = told(json!({"embeddings": [[1, 2]]}));
    assert_eq!(
        crate::json::Paths::new(question.to_string().as_bytes()).of(lost.iter().next().unwrap().at),
        "dimensions"
    );
}

// === recorded traffic ===

/// Vendors whose base64 is not of 32-bit floats, and why that does not matter: they are asked for numbers.
const OTHER_BASE64: [&str; 2] = ["perplexity", "vllm-local"];

fn floats(value: &Value) -> Vec<f32> {
    match value {
        Value::String(text) => {
            STANDARD.decode(text).unwrap().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        }
        other => serde_json::from_value(other.clone()).unwrap(),
    }
}

#[test]
fn recorded_questions_of_openai_s_grammar_are_asked_everywhere() {
    let mut seen = 0;
    for exchange in exchanges(|api| api.ends_with(".embeddings")) {
        for (to, model) in [(EmbedContent, "g"), (CohereEmbed, "embed-v4.0"), (Invoke, TITAN2), (OllamaEmbed, "o")] {
            let (asked, bodies) = ask(Embeddings, to, &exchange.request, model).unwrap();
            let texts = exchange.request["input"].as_array().map_or(1, Vec::len);
            assert!(bodies.len() <= texts, "{}", exchange.id);
            let lost = losses(&asked, &exchange.request);
            assert!(lost.iter().all(|loss| loss == "dropped user"), "{}: {lost:?}", exchange.id);
        }
        seen += 1;
    }
    println!("{seen} questions");
}

#[test]
fn recorded_answers_of_openai_s_grammar_become_gemini_s() {
    let mut seen = 0;
    let wanted = |api: &str| api.ends_with(".embeddings");
    for exchange in exchanges(wanted).into_iter().filter(|e| e.status == 200) {
        let Body::Json(body) = exchange.body else { panic!("{}: no JSON", exchange.id) };
        if OTHER_BASE64.contains(&&*exchange.provider) {
            continue;
        }
        let data = body["data"].as_array().unwrap();
        let part = json!({"content": {"parts": [{"text": "a"}]}});
        let (asked, _) = ask(EmbedContent, Embeddings, &json!({"requests": vec![part; data.len()]}), "e").unwrap();
        let (answered, reply) = replied(&asked, std::slice::from_ref(&body), None).unwrap();
        assert_eq!(answered.usage.unwrap().input.0, body["usage"]["prompt_tokens"].as_u64().unwrap());
        for (ours, theirs) in reply["embeddings"].as_array().unwrap().iter().zip(data) {
            assert_eq!(floats(&ours["values"]), floats(&theirs["embedding"]), "{}", exchange.id);
        }
        seen += 1;
    }
    println!("{seen} answers");
}

/// `api`, the operation, and where a whole answer's vectors are.
fn native(api: &str) -> Option<(Operation, &'static [&'static str])> {
    Some(match api {
        "gemini.embedContent" => (EmbedContent, &["/embeddings"]),
        "cohere.embed" => (CohereEmbed, &["/embeddings/float"]),
        "ollama.native-embed" => (OllamaEmbed, &["/embeddings", "/embedding"]),
        "bedrock.invoke" => (Invoke, &["/embedding"]),
        _ => return None,
    })
}

#[test]
fn recorded_answers_of_other_grammars_become_openai_s() {
    let mut seen = 0;
    for exchange in exchanges(|api| native(api).is_some()).into_iter().filter(|e| e.status == 200) {
        let Body::Json(body) = exchange.body else { panic!("{}: no JSON", exchange.id) };
        let (to, places) = native(&exchange.api).unwrap();
        let Some(vectors) = places.iter().find_map(|place| body.pointer(place)) else { continue };
        let vectors = match &vectors[0] {
            Value::Number(_) => vec![vectors.clone()],
            _ => vectors.as_array().unwrap().clone(),
        };
        for format in ["float", "base64"] {
            let question = json!({"input": vec!["a"; vectors.len()], "encoding_format": format});
            let (asked, _) = ask(Embeddings, to, &question, TITAN2).unwrap();
            let (_, reply) = replied(&asked, std::slice::from_ref(&body), None).unwrap();
            for (ours, theirs) in reply["data"].as_array().unwrap().iter().zip(&vectors) {
                let theirs = theirs.get("values").unwrap_or(theirs);
                assert_eq!(floats(&ours["embedding"]), floats(theirs), "{}", exchange.id);
                assert_eq!(ours["embedding"].is_string(), format == "base64");
            }
        }
        seen += 1;
    }
    println!("{seen} answers");
}

#[test]
fn recorded_questions_of_gemini_s_grammar_are_asked_everywhere() {
    for exchange in exchanges(|api| api == "gemini.embedContent") {
        for (to, model) in [(Embeddings, "e"), (CohereEmbed, "embed-v4.0"), (Invoke, TITAN2), (OllamaEmbed, "o")] {
            let images = exchange.request.to_string().contains("inline_data");
            assert_eq!(ask(EmbedContent, to, &exchange.request, model).is_err(), images, "{}", exchange.id);
        }
    }
}

// === other gateways' translations ===

/// Where we differ on purpose.
const DIFFERENT: [(&str, &str); 9] = [
    ("gcpvertexai_embeddings-003", "inputs that are objects are that gateway's own grammar"),
    ("gcpvertexai_embeddings-004", "the same"),
    ("gcpvertexai_embeddings-005", "the same"),
    ("gcpvertexai_embeddings-006", "the same"),
    ("gcpvertexai_embeddings-016", "`messages` instead of `input` is that gateway's own grammar"),
    ("gcpvertexai_embeddings-018", "an answer without vectors is garbled, not an empty list"),
    ("gcpvertexai_embeddings-020", "`truncated` is booked; there is no such member in OpenAI's grammar"),
    ("gcpvertexai_embeddings-021", "the same"),
    ("cohere-v4.bedrock-cohere", "without a word from the client texts are documents, not queries"),
];

#[test]
fn other_gateways_translations_agree_or_differ_on_purpose() {
    let (mut agreed, mut differed) = (0, 0);
    for (id, pair) in pairs(|inbound, _| inbound == "openai.embeddings") {
        let name = pair["name"].as_str().unwrap();
        let known = DIFFERENT.iter().any(|(word, _)| id.contains(word) || name.contains(word));
        match agrees(&pair) {
            Ok(()) => {
                agreed += 1;
                assert!(!known, "{id} is on the list and agrees");
            }
            Err(how) => {
                differed += 1;
                assert!(known, "{id} {name}: {how}");
            }
        }
    }
    println!("{agreed} agree, {differed} differ on purpose");
}

fn agrees(pair: &Value) -> Result<(), String> {
    let input = &pair["input"]["json"];
    let expected = &pair["expected"]["json"];
    // one project keeps the request in a Go struct, the model in the path
    let go = &input["input"]["OfCompletion"];
    let mut question =
        if go.is_null() && input["input"].is_object() { &input["input"]["OfChat"] } else { input }.clone();
    if !go.is_null() {
        question = go.clone();
        question["input"] = go["input"]["Value"].clone();
    }
    let upstream = pair["upstream_api"].as_str().unwrap();
    let model = input["modelNameOverride"].as_str().or(question["model"].as_str()).unwrap_or("").to_owned();
    let to = match upstream {
        _ if upstream.starts_with("bedrock") => Invoke,
        // Vertex' embedContent and what answers it
        _ if model.contains("embedding-2") || !input["embedding"].is_null() => EmbedContent,
        _ => Predict,
    };
    if pair["kind"] == "response" {
        let reply = if input["titanResponse"].is_null() { input } else { &input["titanResponse"] };
        let texts = reply["predictions"].as_array().map_or(1, Vec::len);
        let (asked, _) = ask(Embeddings, to, &json!({"input": vec!["a"; texts]}), TITAN2).map_err(|e| e.what)?;
        let (answered, mut ours) = replied(&asked, std::slice::from_ref(reply), None).map_err(|e| e.what)?;
        ours["model"] = expected["model"].clone();
        let same = ours == *expected && answered.losses.is_empty();
        return if same { Ok(()) } else { Err(format!("{ours}")) };
    }
    let (_, bodies) = ask(Embeddings, to, &question, &model).map_err(|e| e.what)?;
    let Some(contains) = expected["wantBodyContains"].as_array() else {
        return if bodies[0] == *expected { Ok(()) } else { Err(format!("{}", bodies[0])) };
    };
    let text = bodies[0].to_string();
    let without = expected["wantBodyNotContain"].as_array().cloned().unwrap_or_default();
    let held = |piece: &Value| text.contains(piece.as_str().unwrap());
    let same = contains.iter().all(held) && !without.iter().any(held);
    if same { Ok(()) } else { Err(text) }
}
