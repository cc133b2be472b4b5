//! A group of two targets, of which the first misbehaves and the second, which speaks another dialect, is well: whoever had not been told
//! anything gets the whole answer of the second; whoever had is told within the stream, and no second answer is paid for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::family::{FAMILIES, FIRST, Mode, SECOND};
use super::fault::Scene;
use super::judge::Told;
use super::upstream::{Plays, Upstream};
use super::{Cell, Class, Finding, MODEL, TIMEOUTS, cells, crowd, fault, request_of};
use crate::support::{Gateway, KEY};

/// Upstreams that are well, one for each dialect and mode.
type Well = HashMap<(&'static str, bool), Upstream>;

/// Who answered, by the words of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    First,
    Second,
    Nobody,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_was_said_another_target_answers_and_later_none_does() {
    let _turn = super::ALONE.lock().await;
    let cells = cells(&fault::all(), Plays::Always);
    let mut well = Well::new();
    for family in FAMILIES {
        for mode in [Mode::Whole, Mode::Streamed] {
            let scene = Scene { words: SECOND, ..Scene::new(family, mode) };
            well.insert((family.name(), mode == Mode::Streamed), Upstream::start(scene, None, Plays::Always));
        }
    }
    let (mut providers, mut models) = (String::new(), String::new());
    for ((family, streamed), upstream) in &well {
        let family = FAMILIES.into_iter().find(|f| f.name() == *family).expect("one of them");
        providers.push_str(&format!("  w-{}-{streamed}: {}\n", family.name(), family.provider(upstream.address)));
    }
    for cell in &cells {
        let name = &cell.model;
        let second = format!("w-{}-{}", cell.family.other().name(), cell.mode == Mode::Streamed);
        providers.push_str(&format!("  p-{name}: {}\n", cell.family.provider(cell.upstream.address)));
        models.push_str(&format!(
            "  {name}: {{targets: [{{model: p-{name}/{MODEL}, priority: 1}}, {{model: {second}/{MODEL}, priority: 2}}]}}\n"
        ));
    }
    let yaml = format!(
        "timeouts: {{{TIMEOUTS}}}\nretry: {{attempts: 2}}\nbreaker: off\nkeys: [{{name: test, key: {KEY}}}]\n\
         providers:\n{providers}models:\n{models}"
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    let (data, well) = (gateway.data, Arc::new(well));
    crowd::run("group", data, cells, move |cell| play(data, Arc::clone(&well), cell)).await;
}

async fn play(gateway: SocketAddr, well: Arc<Well>, cell: Arc<Cell>) -> Finding {
    let mut wrong = Vec::new();
    let heard = cell.ask(gateway, cell.fault.padding).await;
    let second = &well[&(cell.family.other().name(), cell.mode == Mode::Streamed)];
    if memchr::memmem::find(&heard.raw, second.address.to_string().as_bytes()).is_some() {
        wrong.push("the second's address reached the client".to_owned());
    }
    let first = cell.upstream.record();
    if first.connections > 1 || first.requests.len() > 1 {
        wrong.push(format!("{} connections, {} requests to the first", first.connections, first.requests.len()));
    }
    cell.sent(&first, &mut wrong);
    let mut asked = second.record().requests;
    asked.retain(|request| request.headers.iter().any(|(n, v)| n == "x-client-request-id" && *v == cell.id()));
    for request in &asked {
        if let Err(why) = request_of(cell.family.other(), cell.mode, second.address, request) {
            wrong.push(format!("the second got {} with {why}", request.line));
        }
    }
    if let Some(told) = cell.told(&heard, &mut wrong) {
        let by = by(&told);
        if !fits(&cell, &told, by) {
            wrong.push(format!("told {told:?}"));
        }
        let attempts =
            heard.answer().ok().and_then(|answer| answer.header("x-tollgate-attempts")?.parse::<usize>().ok());
        if attempts != Some(1 + asked.len()) || asked.len() > 1 || (by == By::Second) != (asked.len() == 1) {
            wrong.push(format!("{attempts:?} attempts, {} of them at the second", asked.len()));
        }
    }
    Finding { wrong, heard }
}

fn by(told: &Told) -> By {
    match told {
        Told::Answer(text) if *text == SECOND.concat() => By::Second,
        Told::Answer(text) if text.starts_with(&FIRST.concat()) => By::First,
        Told::Answer(_) | Told::Refused(_) | Told::Broken(_) => By::Nobody,
    }
}

/// Whether what was told is of the row's class.
fn fits(cell: &Cell, told: &Told, by: By) -> bool {
    let all = FIRST.concat();
    match cell.class {
        Class::Served => by == By::First,
        Class::Error | Class::Next(_) => by == By::Second,
        Class::Final(status) => *told == Told::Refused(status),
        Class::Cut => matches!(told, Told::Broken(text) if !text.is_empty() && all.starts_with(text.as_str())),
        Class::Ended if cell.mode == Mode::Whole => by != By::Nobody,
        Class::Ended => by == By::First || *told == Told::Broken(all),
        Class::Lenient => by != By::Nobody,
    }
}
