//! One target that fails once and is well from then on, and a call that may be tried twice: the client does not notice, and waits no
//! shorter than the provider asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::family::{FIRST, Mode};
use super::judge::Told;
use super::upstream::Plays;
use super::{Cell, Class, Finding, MODEL, TIMEOUTS, cells, crowd, fault};
use crate::support::{Gateway, KEY};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_fails_once_is_asked_again_where_that_may_help() {
    let _turn = super::ALONE.lock().await;
    let mut rows = fault::all();
    // it cannot be known when a connection was refused
    rows.retain(|row| !row.refuses);
    let cells = cells(&rows, Plays::Once);
    let (mut providers, mut models) = (String::new(), String::new());
    for cell in &cells {
        let name = &cell.model;
        providers.push_str(&format!("  p-{name}: {}\n", cell.family.provider(cell.upstream.address)));
        models.push_str(&format!("  {name}: {{targets: [p-{name}/{MODEL}]}}\n"));
    }
    let yaml = format!(
        "timeouts: {{{TIMEOUTS}}}\nretry: {{attempts: 2, backoff: 100ms, budget: 100%}}\nbreaker: off\n\
         keys: [{{name: test, key: {KEY}}}]\nproviders:\n{providers}models:\n{models}"
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    let data = gateway.data;
    crowd::run("again", data, cells, move |cell| play(data, cell)).await;
}

async fn play(gateway: SocketAddr, cell: Arc<Cell>) -> Finding {
    let mut wrong = Vec::new();
    let heard = cell.ask(gateway, cell.fault.padding).await;
    let record = cell.upstream.record();
    if record.requests.len() > 2 || record.connections > 2 {
        wrong.push(format!("{} connections, {} requests", record.connections, record.requests.len()));
    }
    cell.sent(&record, &mut wrong);
    if let Some(told) = cell.told(&heard, &mut wrong) {
        let attempts =
            heard.answer().ok().and_then(|answer| answer.header("x-tollgate-attempts")?.parse::<usize>().ok());
        if !fits(&cell, &told, attempts) {
            wrong.push(format!("told {told:?} at {attempts:?} attempts"));
        }
    }
    if cell.fault.name.ends_with("retry-after of a second")
        && let [first, second] = record.times[..]
        && second - first < Duration::from_millis(990)
    {
        wrong.push(format!("asked again after {:?}", second - first));
    }
    Finding { wrong, heard }
}

/// Whether what was told is of the row's class.
fn fits(cell: &Cell, told: &Told, attempts: Option<usize>) -> bool {
    let all = FIRST.concat();
    let served = *told == Told::Answer(all.clone());
    let (once, twice) = (attempts == Some(1), attempts == Some(2));
    match cell.class {
        Class::Served => served && once,
        Class::Error => served && twice,
        // it asks for more time than there is
        Class::Next(_) if cell.fault.rests => matches!(told, Told::Refused(_)) && once,
        Class::Next(408 | 409 | 429 | 500..600) => served && twice,
        // of the credential or the model: the same target says the same again
        Class::Next(_) => matches!(told, Told::Refused(_)) && once,
        Class::Final(status) => *told == Told::Refused(status) && once,
        Class::Cut => matches!(told, Told::Broken(text) if !text.is_empty() && all.starts_with(text.as_str())) && once,
        Class::Ended if cell.mode == Mode::Whole => served,
        Class::Ended => told_all(told, &all) && once,
        Class::Lenient => served,
    }
}

/// The whole text, and what may have come behind it where nothing marks the end.
fn told_all(told: &Told, all: &str) -> bool {
    matches!(told, Told::Answer(text) | Told::Broken(text) if text.starts_with(all))
}
