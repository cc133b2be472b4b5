//! A target that is all there is: its client gets an answer, or an error that says so, and the next call is served.

use std::sync::Arc;
use std::time::Duration;

use super::family::{FIRST, Family, Mode};
use super::judge::Told;
use super::upstream::Plays;
use super::{Cell, Class, Finding, MODEL, TIMEOUTS, cells, crowd, fault};
use crate::support::{Gateway, KEY};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_upstream_does_its_client_gets_an_answer_or_an_error() {
    let _turn = super::ALONE.lock().await;
    let cells = cells(&fault::all(), Plays::Always);
    let (mut providers, mut models) = (String::new(), String::new());
    for cell in &cells {
        let name = &cell.model;
        providers.push_str(&format!("  p-{name}: {}\n", cell.family.provider(cell.upstream.address)));
        models.push_str(&format!("  {name}: p-{name}/{MODEL}\n"));
    }
    let yaml = format!(
        "timeouts: {{{TIMEOUTS}}}\nretry: {{attempts: 1}}\nbreaker: off\nkeys: [{{name: test, key: {KEY}}}]\nproviders:\n{providers}models:\n{models}"
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    let data = gateway.data;
    crowd::run("alone", data, cells, move |cell| play(data, cell)).await;
}

async fn play(gateway: std::net::SocketAddr, cell: Arc<Cell>) -> Finding {
    let mut wrong = Vec::new();
    let heard = cell.ask(gateway, cell.fault.padding).await;
    if let Some(told) = cell.told(&heard, &mut wrong)
        && let Err(why) = fits(&cell, &told)
    {
        wrong.push(why);
    }
    let before = cell.upstream.record();
    // what was sent may have cost money: it is not sent twice
    if before.connections > 1 || before.requests.len() > 1 {
        wrong.push(format!("{} connections, {} requests", before.connections, before.requests.len()));
    }
    cell.sent(&before, &mut wrong);

    // what is still on its way must not become the next call's answer
    tokio::time::sleep(Duration::from_millis(100)).await;
    cell.upstream.heal();
    let next = cell.ask(gateway, 0).await;
    let mut wrong_next = Vec::new();
    let told = cell.told(&next, &mut wrong_next);
    let rests = cell.fault.rests && matches!(told, Some(Told::Refused(_)));
    if told != Some(Told::Answer(FIRST.concat())) && !rests {
        wrong_next.push(format!("told {told:?}"));
    }
    let after = cell.upstream.record();
    if after.requests.len() > 2 {
        wrong_next.push(format!("{} requests in all", after.requests.len()));
    }
    cell.sent(&after, &mut wrong_next);
    let heard = if wrong.is_empty() && !wrong_next.is_empty() { next } else { heard };
    wrong.extend(wrong_next.into_iter().map(|why| format!("the next call: {why}")));
    Finding { wrong, heard }
}

/// Whether what was told is of the row's class.
fn fits(cell: &Cell, told: &Told) -> Result<(), String> {
    let all = FIRST.concat();
    let error = match told {
        Told::Refused(_) => true,
        Told::Broken(text) => text.is_empty(),
        Told::Answer(_) => false,
    };
    let served = *told == Told::Answer(all.clone());
    let good = match cell.class {
        Class::Served => served,
        Class::Error => error && !matches!(told, Told::Refused(..500)),
        Class::Next(_) => error,
        Class::Final(status) => *told == Told::Refused(status),
        Class::Cut => matches!(told, Told::Broken(text) if !text.is_empty() && all.starts_with(text.as_str())),
        Class::Ended if cell.mode == Mode::Whole => served || error,
        // where nothing marks the end, what comes behind it belongs to it
        Class::Ended if cell.family == Family::Gemini && matches!(told, Told::Answer(t) if t.starts_with(&all)) => true,
        Class::Ended => served || *told == Told::Broken(all),
        Class::Lenient => served || error,
    };
    if good { Ok(()) } else { Err(format!("told {told:?}")) }
}
