//! `docs/fidelity.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tollgate::dialect::Dialect;

use crate::cell::Cell;
use crate::{CLIENTS, Row, Section, model_of};

const INTRO: &str = "\
# What arrives

When a client and the provider of its model speak the same dialect, a request is forwarded as it is, byte for byte, but for the few
members the gateway has to change; so is the answer. Everywhere else it is translated, and this page says what becomes of each feature. It
is written by a test that runs every cell of the tables through the gateway's own codecs (`tests/fidelity`): nothing here is a promise,
all of it was found out. The same test fails when something is neither carried nor reported.

| word | what happens |
|---|---|
";

const WORDS: [(Cell, &str); 8] = [
    (Cell::Native, "client and provider speak the same dialect: it is forwarded as it is"),
    (Cell::Mapped, "it arrives, in the other dialect's words"),
    (
        Cell::Emulated,
        "the other dialect has no such thing: it is said by other means and undone in the answer, so that nobody notices",
    ),
    (Cell::Given, "nothing has to be sent: it is so there anyway"),
    (Cell::Changed, "something near it arrives, and that is reported"),
    (Cell::Reported, "it does not arrive (or not all of it), and that is reported"),
    (
        Cell::Refused,
        "without it the request would mean something else: it is not sent; the client gets status 400 with the member's path",
    ),
    (Cell::Unsaid, "there is no such thing in the dialect it would be written in"),
];

const REPORTS: &str = "
What is changed or left out is named by its JSON path in the reply's header `x-tollgate-dropped`, in the access log and in the
metrics. A route with `on_loss: refuse` refuses such a request instead.

Which provider's dialect a call is translated to depends on the provider (`conf/providers.yaml`); how vendors spell chat completions
differs in places, and the column `chat` is OpenAI's own. What a model cannot do is part of it too; the columns stand for these models:

| column | dialect | model |
|---|---|---|
";

const REPRODUCE: &str = "
To write this page anew, after a change of a codec or of the features:

```text
TOLLGATE_WRITE_DOCS=1 cargo test --test fidelity
```
";

const REQUESTS: &str = "
## Requests

One table for each dialect that clients speak; the columns are what providers speak.
";

const ANSWERS: &str = "
## Answers

One table for each dialect that clients read; the columns are what providers answer in. Where an answer that is streamed fares otherwise
than a whole one, both are told: whole / streamed.
";

const REFUSED: &str = "
## What is refused, and why

";

pub fn write(requests: &[Section], answers: &[Section]) -> String {
    let mut out = String::from(INTRO);
    for (cell, meaning) in WORDS {
        let _ = writeln!(out, "| {} | {meaning} |", cell.word());
    }
    out.push_str(REPORTS);
    for dialect in Dialect::ALL {
        let _ = writeln!(out, "| {} | `{dialect}` | `{}` |", column(dialect), model_of(dialect));
    }
    out.push_str(REPRODUCE);
    out.push_str(REQUESTS);
    tables("from", requests, &mut out);
    out.push_str(ANSWERS);
    tables("to", answers, &mut out);
    out.push_str(REFUSED);
    for row in requests.iter().flat_map(|section| &section.rows) {
        if let Some(reason) = &row.refused {
            let _ = writeln!(out, "- {}: {reason}", row.feature);
        }
    }
    out
}

fn column(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat => "chat",
        Dialect::OpenAiResponses => "responses",
        Dialect::Anthropic => "anthropic",
        Dialect::Gemini => "gemini",
        Dialect::Bedrock => "bedrock",
        Dialect::Cohere => "cohere",
    }
}

fn tables(preposition: &str, sections: &[Section], out: &mut String) {
    for (n, (_, _, client)) in CLIENTS.into_iter().enumerate() {
        let _ = writeln!(out, "\n### {preposition} {client}\n");
        let mut lines =
            vec![std::iter::once(String::new()).chain(Dialect::ALL.map(|d| column(d).to_owned())).collect()];
        for section in sections {
            let rows: Vec<Vec<String>> = section.rows.iter().filter_map(|row| line(row, n)).collect();
            if !rows.is_empty() {
                lines.push(std::iter::once(format!("**{}**", section.title)).chain(vec![String::new(); 6]).collect());
                lines.extend(rows);
            }
        }
        table(&lines, out);
        let _ = writeln!(out, "\n{}", counted(sections, n));
    }
}

/// `None`: the client knows nothing of it.
fn line(row: &Row, client: usize) -> Option<Vec<String>> {
    let cells = &row.cells[client];
    let text = |(whole, streamed): &(Cell, Cell)| {
        if whole == streamed { whole.word().to_owned() } else { format!("{} / {}", whole.word(), streamed.word()) }
    };
    let said = cells.iter().any(|cell| *cell != (Cell::Unsaid, Cell::Unsaid));
    said.then(|| std::iter::once(row.feature.clone()).chain(cells.iter().map(text)).collect())
}

/// Columns as wide as their widest cell: to be read where nothing renders it.
fn table(lines: &[Vec<String>], out: &mut String) {
    let width = |n: usize| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for (n, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
        if n == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            let _ = writeln!(out, "|{}|", rule.join("|"));
        }
    }
}

fn counted(sections: &[Section], client: usize) -> String {
    let mut counts: BTreeMap<Cell, usize> = BTreeMap::new();
    for (whole, streamed) in sections.iter().flat_map(|section| &section.rows).flat_map(|row| &row.cells[client]) {
        // the worse of the two
        *counts.entry(*whole.max(streamed)).or_default() += 1;
    }
    let told = Cell::ALL.into_iter().filter(|cell| *cell != Cell::Unsaid);
    let told = told.filter_map(|cell| Some(format!("{} {}", counts.get(&cell)?, cell.word())));
    told.collect::<Vec<_>>().join(", ")
}
