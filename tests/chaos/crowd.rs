//! Every cell of a setup, many at once, and what their findings come to.
//!
//! Cells wait more than they work, and what they wait for has deadlines: how many run at once follows how soon the gateway answers a
//! question that costs nothing, so that a machine with other work is asked for less.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Cell, Finding, client, known};

/// So many cells at once: at the start, and at least and at most.
const START: usize = 32;
const LEAST: usize = 8;
const MOST: usize = 160;
/// Large requests are work: others would wait for them.
const HEAVY: usize = 6;
/// An answer that comes sooner lets more cells in, one that comes later fewer.
const QUICK: Duration = Duration::from_millis(60);
const SLOW: Duration = Duration::from_millis(200);
/// So many cells that came too late are played once more, alone.
const AGAIN: usize = 16;

/// How many cells run, and how many may.
struct Pace {
    running: AtomicUsize,
    limit: AtomicUsize,
}

/// Play every cell and hold what went wrong against what is known.
pub async fn run<F: Future<Output = Finding> + Send + 'static>(
    setup: &str,
    gateway: SocketAddr,
    cells: Vec<Cell>,
    play: impl Fn(Arc<Cell>) -> F + Send + Clone + 'static,
) {
    let begun = Instant::now();
    let mut played = crowd(gateway, cells, play.clone()).await;
    let late = |cell: &Cell, finding: &Finding| finding.is_late() && known::why(setup, cell).is_none();
    for (cell, finding) in played.iter_mut().filter(|(cell, finding)| late(cell, finding)).take(AGAIN) {
        // it had to wait for others, or so it seems
        eprintln!("chaos, {setup}: {}: {}: once more", cell.name(), finding.wrong.join("; "));
        if cell.upstream.relapse() {
            cell.turn.fetch_add(1, Ordering::SeqCst);
            *finding = play(Arc::clone(cell)).await;
        }
    }
    let (known, new) = sum(setup, &played);
    let (count, took) = (played.len(), begun.elapsed().as_secs_f32());
    eprintln!("chaos, {setup}: {count} cells in {took:.1} s, {known} known to be wrong, {} new", new.len());
    assert!(new.is_empty(), "{} of {count} cells\n{}", new.len(), new.join("\n"));
}

async fn crowd<F: Future<Output = Finding> + Send + 'static>(
    gateway: SocketAddr,
    cells: Vec<Cell>,
    play: impl Fn(Arc<Cell>) -> F + Send + Clone + 'static,
) -> Vec<(Arc<Cell>, Finding)> {
    let pace = Arc::new(Pace { running: AtomicUsize::new(0), limit: AtomicUsize::new(START) });
    let heavy = Arc::new(Semaphore::new(HEAVY));
    let keeping = tokio::spawn(keep(Arc::clone(&pace), gateway));
    let mut playing = JoinSet::new();
    for (n, cell) in cells.into_iter().enumerate() {
        let (cell, play) = (Arc::new(cell), play.clone());
        if cell.fault.padding > 0 {
            let heavy = Arc::clone(&heavy);
            playing.spawn(async move {
                let _turn = heavy.acquire().await.expect("it is never closed");
                (n, Arc::clone(&cell), play(cell).await)
            });
            continue;
        }
        while pace.running.load(Ordering::SeqCst) >= pace.limit.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(2)).await;
        }
        pace.running.fetch_add(1, Ordering::SeqCst);
        let pace = Arc::clone(&pace);
        playing.spawn(async move {
            let finding = play(Arc::clone(&cell)).await;
            pace.running.fetch_sub(1, Ordering::SeqCst);
            (n, cell, finding)
        });
    }
    let mut played = playing.join_all().await;
    keeping.abort();
    played.sort_by_key(|(n, ..)| *n);
    played.into_iter().map(|(_, cell, finding)| (cell, finding)).collect()
}

/// Ask again and again for what is not there, and mind how long the answer takes.
async fn keep(pace: Arc<Pace>, gateway: SocketAddr) {
    let question = b"GET /nothing HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n";
    loop {
        let took = client::ask(gateway, question, Duration::from_secs(5)).await.took;
        let limit = pace.limit.load(Ordering::SeqCst);
        let next = match took {
            _ if took > SLOW => (limit * 3 / 4).max(LEAST),
            _ if took < QUICK => (limit + 4).min(MOST),
            _ => limit,
        };
        pace.limit.store(next, Ordering::SeqCst);
        sleep(Duration::from_millis(30)).await;
    }
}

/// How many findings were known; what the others are.
fn sum(setup: &str, played: &[(Arc<Cell>, Finding)]) -> (usize, Vec<String>) {
    let (mut known, mut new) = (0, Vec::new());
    let mut of_row = BTreeMap::<&str, usize>::new();
    for (cell, finding) in played {
        match (finding.wrong.is_empty(), known::why(setup, cell)) {
            (true, None) => {}
            (false, Some(_)) => known += 1,
            (true, Some(why)) => {
                new.push(format!("--- {setup}: {}: is right now; take it out of `known` ({why})", cell.name()));
            }
            (false, None) => {
                let mut said = format!("--- {setup}: {} ({:?}): {}", cell.name(), cell.class, finding.wrong.join("; "));
                let shown = of_row.entry(&cell.fault.name).or_default();
                *shown += 1;
                // the others of a row look alike
                if *shown <= 3 {
                    let _ = write!(said, "\n{}\n", finding.heard.shown());
                }
                new.push(said);
            }
        }
    }
    (known, new)
}
