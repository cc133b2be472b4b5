//! What the ledger costs: CPU per call by thread, and whether 20,000 calls a second are kept for ten seconds.
//!
//! Each figure is CPU time of the process as the kernel counts it (`/proc/self/task/*/stat`), divided by calls; a call is one `reserve` and one
//! `settle`, all it causes in the writer and in the database included. `cargo bench --bench ledger [-- calls per second]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tollgate::chat::Usage;
use tollgate::config::Secret;
use tollgate::config::store::{Durability, LedgerPlace, StoreConfig};
use tollgate::id::RequestId;
use tollgate::store::{Entry, Ledger, Reservation};
use tollgate::units::{NanoUsd, Tokens};

// as in the program
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const THREADS: u64 = 2;
const SECONDS: u64 = 10;
const FLUSH: Duration = Duration::from_secs(120);

fn main() {
    let rate = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(20_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("ledger")
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str| LedgerPlace::Sqlite(folder.path().join(name));

    // Nobody listens there: what is left is the journal.
    let away = LedgerPlace::Postgres(Secret::new("postgres://u@127.0.0.1:1/x"));
    let journal = StoreConfig {
        journal: folder.path().join("away"),
        ledger: away,
        journal_limit: 10_000_000_000,
        ..StoreConfig::default()
    };
    run("journal alone, as fast as it goes", &runtime, &journal, 200_000, None);
    let sqlite = |name: &str, durability| StoreConfig {
        ledger: place(&format!("{name}.db")),
        journal: folder.path().join(name),
        durability,
        ..StoreConfig::default()
    };
    run("SQLite, as fast as it goes", &runtime, &sqlite("a", Durability::Process), 400_000, None);
    run(
        &format!("SQLite, {rate} calls a second for {SECONDS} s"),
        &runtime,
        &sqlite("b", Durability::Process),
        rate * SECONDS,
        Some(rate),
    );
    run("SQLite, 1000 calls a second for 10 s", &runtime, &sqlite("c", Durability::Process), 10_000, Some(1000));
    run("SQLite, waiting for the disk", &runtime, &sqlite("d", Durability::Disk), 2_000, None);
    if let Ok(url) = std::env::var("TOLLGATE_BENCH_POSTGRES") {
        let postgres = StoreConfig {
            ledger: LedgerPlace::Postgres(Secret::new(url)),
            journal: folder.path().join("e"),
            ..StoreConfig::default()
        };
        run("PostgreSQL, as fast as it goes", &runtime, &postgres, 200_000, None);
    }
}

/// `rate`: calls a second over all threads.
fn run(what: &str, runtime: &tokio::runtime::Runtime, config: &StoreConfig, calls: u64, rate: Option<u64>) {
    println!("\n{what}");
    let ledger = runtime.block_on(Ledger::open(config)).expect("a ledger");
    let rates: Arc<str> = r#"{"input":"2.50","cache_read":"1.25","output":"10.00","reasoning":"10.00"}"#.into();
    let before = cpu();
    let begun = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (ledger, rates) = (ledger.clone(), Arc::clone(&rates));
            let body = move || work(&ledger, &rates, thread, calls / THREADS, rate.map(|rate| rate / THREADS));
            std::thread::Builder::new().name("caller".to_owned()).spawn(body).expect("a thread")
        })
        .collect();
    let mut waits: Vec<u32> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
    let callers = begun.elapsed();
    let flushed = runtime.block_on(ledger.flush(if ledger_is_away(config) { Duration::ZERO } else { FLUSH }));
    let all = begun.elapsed();
    let after = cpu();
    let callers_cpu: u64 = CALLERS.swap(0, std::sync::atomic::Ordering::Relaxed);
    waits.sort_unstable();
    let at = |share: f64| f64::from(waits[((waits.len() - 1) as f64 * share) as usize]) / 1000.0;
    println!("  {calls} calls in {callers:.2?}, in the database after {all:.2?}: {flushed}");
    println!(
        "  reserve: median {:.1} us, p99 {:.1} us, p99.9 {:.1} us, longest {:.1} us",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    let per_call = |nanos: u64| nanos as f64 / 1000.0 / calls as f64;
    println!("  CPU per call, callers (with making the entry)   {:6.2} us", per_call(callers_cpu));
    let mut total = callers_cpu;
    for (name, nanos) in &after {
        let spent = nanos - before.get(name).unwrap_or(&0);
        if name != "caller" && spent > 0 {
            total += spent;
            println!("  CPU per call, thread {name:<26} {:6.2} us", per_call(spent));
        }
    }
    println!("  CPU per call, in all                            {:6.2} us", per_call(total));
    println!("  resident {} MB, {:?}", resident() >> 20, ledger.health());
    if !ledger_is_away(config) {
        let count = runtime.block_on(async {
            let filter = Vec::new();
            let period = tollgate::store::query::Period { from: Timestamp::UNIX_EPOCH, to: Timestamp::MAX, filter };
            ledger.spent(&period).await.expect("an answer").count
        });
        println!("  rows {count}");
        assert_eq!(count, calls, "rows were lost");
    }
}

fn ledger_is_away(config: &StoreConfig) -> bool {
    matches!(&config.ledger, LedgerPlace::Postgres(url) if url.expose().contains(":1/"))
}

static CALLERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// How long each reserve took, in nanoseconds.
fn work(ledger: &Ledger, rates: &Arc<str>, thread: u64, calls: u64, rate: Option<u64>) -> Vec<u32> {
    let (key, provider): (Arc<str>, Arc<str>) = ("ci".into(), "openai".into());
    let (model, upstream): (Arc<str>, Arc<str>) = ("gpt-5".into(), "gpt-5-2025-08-07".into());
    let (version, team): (Arc<str>, Arc<str>) = ("2026-11-20".into(), "team".into());
    let begun = Instant::now();
    let mut waits = Vec::with_capacity(usize::try_from(calls).expect("it fits"));
    for n in 0..calls {
        if let Some(rate) = rate
            && n % 20 == 0
        {
            let due = begun + Duration::from_secs_f64(n as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let reservation = Reservation {
            call: RequestId::generate(),
            attempt: 1,
            at: Timestamp::now(),
            key: Some(Arc::clone(&key)),
            tags: vec![(Arc::clone(&team), Arc::clone(&key))],
            model: Some(Arc::clone(&model)),
            provider: Arc::clone(&provider),
            upstream_model: Some(Arc::clone(&upstream)),
            operation: "chat_completions".into(),
            stream: n % 2 == 0,
            hold: Some(NanoUsd(40_000_000)),
            price_version: Some(Arc::clone(&version)),
        };
        let asked = Instant::now();
        ledger.reserve(&reservation).expect("a reservation");
        waits.push(u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
        ledger.settle(Entry {
            ended: Timestamp::now(),
            status: 200,
            outcome: "ok".into(),
            answered: true,
            usage: Some(Usage {
                input: Tokens(1200 + n),
                cache_read: Tokens(1024),
                output: Tokens(300),
                ..Usage::default()
            }),
            service_tier: None,
            images: 0,
            searches: 0,
            cost: Some(NanoUsd(i64::try_from(thread + n).unwrap_or(0))),
            estimated: false,
            rates: Some(Arc::clone(rates)),
            first_token_ms: Some(312),
            duration_ms: 2_345,
            reservation,
        });
    }
    CALLERS.fetch_add(own_cpu(), std::sync::atomic::Ordering::Relaxed);
    waits
}

/// Of this thread, in nanoseconds (`/proc/thread-self/schedstat`: the first number).
fn own_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

/// By name of the thread, in nanoseconds.
fn cpu() -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let nanos: u64 = read("schedstat").split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        *found.entry(read("comm").trim().to_owned()).or_default() += nanos;
    }
    found
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
