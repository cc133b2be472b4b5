//! The fidelity matrix: what of a request and of an answer arrives at the other side, feature by feature, in every pair of dialects.
//!
//! The features are data: `requests/*.json` and `answers/*.json`, one file a topic, one object a feature (`README.md` beside this file
//! says how to add one). Each cell of the tables is found out by running the codecs, never written by hand, and three things fail the
//! test: something that does not arrive and is not booked, something that arrives and is booked as dropped, and a `docs/fidelity.md` that
//! is not what came out. `TOLLGATE_WRITE_DOCS=1 cargo test --test fidelity` writes the document anew.

mod answers;
mod cell;
mod marks;
mod page;
mod requests;
mod streams;

use std::path::{Path, PathBuf};

use cell::Cell;
use tollgate::dialect::{Dialect, Manners, Operation, ThinkingForm};

/// How clients speak, with the name in the data and the heading in the document.
const CLIENTS: [(Operation, &str, &str); 5] = [
    (Operation::ChatCompletions, "openai_chat", "OpenAI chat completions"),
    (Operation::Responses, "openai_responses", "OpenAI responses"),
    (Operation::Messages, "anthropic", "Anthropic messages"),
    (Operation::GenerateContent, "gemini", "Gemini generateContent"),
    (Operation::Completions, "openai_completions", "OpenAI completions (legacy)"),
];

/// One topic of the tables, in their order.
struct Section {
    title: String,
    rows: Vec<Row>,
}

/// A feature: for each of [`CLIENTS`] what becomes of it at each of [`Dialect::ALL`], whole and streamed.
struct Row {
    feature: String,
    cells: Vec<Vec<(Cell, Cell)>>,
    /// Why some of them are refused.
    refused: Option<String>,
}

/// The model asked for where a dialect is the provider's: what it can do decides what can be said.
fn model_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => "gpt-5.1",
        Dialect::Anthropic => "claude-sonnet-4-5",
        Dialect::Gemini => "gemini-2.5-pro",
        Dialect::Bedrock => "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        Dialect::Cohere => "command-a-03-2025",
    }
}

/// Those of the dialect's own provider (`conf/providers.yaml`).
fn manners_of(dialect: Dialect) -> Manners {
    match dialect {
        Dialect::OpenAiChat => Manners {
            max_completion_tokens: true,
            developer_role: true,
            thinking: ThinkingForm::Nowhere,
            ..Manners::default()
        },
        _ => Manners::default(),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder of features, in the order of their names.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/fidelity").join(folder);
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    found.sort();
    assert!(!found.is_empty(), "{}", folder.display());
    found
}

#[test]
fn nothing_is_lost_in_silence_and_the_document_says_what_happens() {
    let mut faults = Vec::new();
    let requests = requests::run(&mut faults);
    let answers = answers::run(&mut faults);
    let made = page::write(&requests, &answers);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    let path = root().join("docs/fidelity.md");
    if std::fs::read_to_string(&path).unwrap_or_default() == made {
        return;
    }
    if std::env::var_os("TOLLGATE_WRITE_DOCS").is_some() {
        return std::fs::write(&path, made).expect("the document");
    }
    panic!("docs/fidelity.md is out of date; write it anew with: TOLLGATE_WRITE_DOCS=1 cargo test --test fidelity");
}
