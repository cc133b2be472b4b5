//! Flights and what they leave behind.

use super::*;
use crate::balance::{below, mix};
use crate::config::policy::FailureRate;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: BreakerPolicy = BreakerPolicy { failures: 3, rate: None, cooldown: Duration::from_secs(30), probes: 1 };

fn track(now: Instant) -> Arc<Track> {
    Arc::new(Track::new(7, Name { provider: "acme".into(), account: 1, model: "m-1".into() }, now))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Open the breaker.
fn fail(track: &Arc<Track>, now: Instant) {
    for n in 1..=3 {
        let change = track.admit(&POLICY, now).unwrap().tell(Verdict::Failure, "down", now);
        assert_eq!(change.is_some(), n == 3);
    }
}

#[test]
fn a_flight_that_is_dropped_says_nothing_and_frees_its_place() {
    let now = Instant::now();
    let track = track(now);
    fail(&track, now);
    let later = now + POLICY.cooldown;
    for _ in 0..3 {
        let probe = track.admit(&POLICY, later).expect("a probe");
        assert_eq!(track.in_flight(), 1);
        assert!(track.admit(&POLICY, later).is_err());
        drop(probe);
        assert_eq!(track.in_flight(), 0);
    }
    assert_eq!((track.calls(), track.failures()), (6, 3));
    assert_eq!(track.breaker.phase(later).0, Phase::HalfOpen);
}

#[test]
fn a_flight_from_before_the_breaker_opened_does_not_open_it_again() {
    let now = Instant::now();
    let track = track(now);
    let mut slow: Vec<Flight> = (0..5).map(|_| track.admit(&POLICY, now).unwrap()).collect();
    fail(&track, now);
    let later = now + POLICY.cooldown;
    assert!(track.admit(&POLICY, later).unwrap().tell(Verdict::Success, "", later).is_some());
    for flight in &mut slow {
        assert_eq!(flight.tell(Verdict::Failure, "reset", later), None);
    }
    assert_eq!(track.breaker.phase(later).0, Phase::Closed);
    assert_eq!(track.failures(), 8, "but they count as failures");
}

#[test]
fn a_verdict_is_told_once_but_an_answer_may_still_break() {
    let now = Instant::now();
    let track = track(now);
    let mut flight = track.admit(&POLICY, now).unwrap();
    flight.tell(Verdict::Success, "", now);
    flight.tell(Verdict::Success, "", now);
    flight.tell(Verdict::Neutral, "", now);
    assert_eq!((track.error_rate(now), track.failures()), (Some(0.0), 0));
    flight.tell(Verdict::Failure, "the stream broke", now);
    flight.tell(Verdict::Failure, "again", now);
    assert_eq!((track.error_rate(now), track.failures()), (Some(1.0), 1));
    assert_eq!(track.last_error().map(|e| e.what), Some("the stream broke".into()));
    drop(flight);
    let mut flight = track.admit(&POLICY, now).unwrap();
    flight.tell(Verdict::Neutral, "", now);
    assert_eq!(flight.tell(Verdict::Failure, "too late", now), None);
    assert_eq!(track.failures(), 1);
}

#[test]
fn streams_that_all_break_open_a_breaker_by_their_share() {
    let rate = FailureRate { percent: 50, window: 10 * SECOND, minimum: 6 };
    let policy = BreakerPolicy { rate: Some(rate), ..POLICY };
    let now = Instant::now();
    let track = track(now);
    let opened = (0..10).any(|_| {
        let mut flight = track.admit(&policy, now).unwrap();
        flight.tell(Verdict::Success, "", now);
        flight.tell(Verdict::Failure, "broke", now).is_some()
    });
    assert!(opened);
}

#[test]
fn the_error_rate_is_that_of_the_last_minute() {
    let now = Instant::now();
    let track = track(now);
    assert_eq!(track.error_rate(now), None);
    let policy = BreakerPolicy { failures: 0, ..POLICY };
    for n in 0..10 {
        let verdict = if n < 3 { Verdict::Failure } else { Verdict::Success };
        track.admit(&policy, now).unwrap().tell(verdict, "", now);
        track.admit(&policy, now).unwrap().tell(Verdict::Neutral, "", now);
    }
    assert_eq!(track.error_rate(now), Some(0.3));
    track.admit(&policy, now).unwrap().tell(Verdict::Success, "", now + 70 * SECOND);
    assert_eq!(track.error_rate(now + 70 * SECOND), Some(0.0));
    assert_eq!(track.error_rate(now + 200 * SECOND), None);
}

#[test]
fn a_slow_target_is_asked_again_after_a_while_and_by_one_call_only() {
    let now = Instant::now();
    let track = track(now);
    let flight = track.admit(&POLICY, now).unwrap();
    flight.heard(20 * SECOND, now);
    flight.heard(SECOND, now);
    drop(flight);
    // dropping it was told with the real clock
    track.seen().used = now;
    assert_eq!(track.first_token_at(now), Some(20 * SECOND), "the second word is not heard");
    assert!(track.first_token_at(now + 25 * SECOND) < Some(6 * SECOND));
    let later = now + 31 * SECOND;
    assert_eq!(track.first_token_at(later), None, "not known any more: asked again");
    let flight = track.admit(&POLICY, later).unwrap();
    assert_eq!(track.first_token_at(later), Some(20 * SECOND), "until it answers the others keep away");
    assert_eq!(track.first_token_at(later + 60 * SECOND), Some(20 * SECOND));
    flight.heard(ms(300), later + SECOND);
    assert!(track.first_token_at(later + SECOND) < Some(2 * SECOND));
}

#[test]
fn a_target_that_hangs_is_slow_even_without_a_first_token() {
    let now = Instant::now();
    let track = track(now);
    for n in 0..30 {
        let mut flight = track.admit(&POLICY, now).unwrap();
        if n % 3 > 0 {
            flight.heard(ms(100), now);
            flight.tell(Verdict::Success, "", now);
        } else {
            flight.tell(Verdict::Neutral, "", now + 10 * SECOND);
        }
    }
    assert!(track.first_token_at(now + 10 * SECOND) > Some(SECOND));
    assert!(track.first_token_p95_at(now) > Some(8 * SECOND), "cancelled losers of a hedge stay in the tail");
}

#[test]
fn after_random_cancellations_from_many_threads_nothing_is_in_flight() {
    let now = Instant::now();
    let track = track(now);
    let policy = BreakerPolicy { failures: 4, cooldown: Duration::from_millis(5), ..POLICY };
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let track = &track;
            scope.spawn(move || {
                let mut held: Vec<Flight> = Vec::new();
                for n in 0..5_000u64 {
                    let draw = mix(thread << 32 | n);
                    let at = now + ms(n / 4);
                    let admitted = track.admit(&policy, at);
                    let refused = admitted.is_err();
                    held.extend(admitted);
                    if held.is_empty() || (held.len() < 8 && !refused) {
                        continue;
                    }
                    let mut flight = held.swap_remove(below(draw, held.len() as u64) as usize);
                    match draw % 7 {
                        0 => drop(flight.tell(Verdict::Success, "", at)),
                        1 => drop(flight.tell(Verdict::Failure, "x", at)),
                        2 => drop(flight.tell(Verdict::Neutral, "", at)),
                        3 => flight.heard(ms(draw % 900), at),
                        4 => {
                            flight.heard(ms(5), at);
                            flight.tell(Verdict::Success, "", at);
                            flight.tell(Verdict::Failure, "broke", at);
                        }
                        _ => {}
                    }
                }
            });
        }
    });
    assert!(track.calls() > 1_000 && track.failures() > 100, "{} calls", track.calls());
    assert_eq!(track.in_flight(), 0);
    assert_eq!(track.waiting.load(Ordering::Relaxed), 0);
    // and no probe's place was lost
    let later = now + 3600 * SECOND;
    assert!(track.admit(&policy, later).is_ok());
}

#[tokio::test]
async fn a_future_that_is_cancelled_is_not_in_flight_any_more() {
    let track = track(Instant::now());
    for _ in 0..50 {
        let flight = track.admit(&POLICY, Instant::now()).unwrap();
        let task = tokio::spawn(async move {
            let _flight = flight;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        assert_eq!(track.in_flight(), 1);
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(track.in_flight(), 0);
    }
}

#[test]
fn status_shows_a_target_with_its_numbers() {
    let now = Instant::now();
    let track = track(now);
    for _ in 0..25 {
        let mut flight = track.admit(&POLICY, now).unwrap();
        flight.heard(ms(200), now);
        flight.tell(Verdict::Success, "", now);
    }
    fail(&track, now);
    track.seen().used = now;
    let _flight = track.begin(POLICY, Leave::Pass, now);
    let mut shown = serde_json::to_value(track.shown(now + SECOND)).unwrap();
    let error = shown["last_error"].take();
    assert_eq!(error["what"], "down");
    assert!(error["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let p95 = shown["first_token_ms"]["p95"].take().as_u64().unwrap();
    assert!((180..220).contains(&p95), "{p95}");
    shown["rates"].take();
    let wanted = serde_json::json!({
        "provider": "acme", "account": 1, "model": "m-1", "state": "open", "reopens_in_ms": 29_000, "in_flight": 1, "calls": 29,
        "failures": 3, "error_rate": 0.107, "first_token_ms": { "mean": 200, "p95": null }, "last_error": null, "rates": null,
    });
    assert_eq!(shown, wanted);
}

/// Opened, opened anew twice, closed.
fn fail_and_recover() {
    let mut at = Instant::now();
    let track = track(at);
    fail(&track, at);
    for verdict in [Verdict::Failure, Verdict::Failure, Verdict::Success] {
        at += POLICY.cooldown;
        track.admit(&POLICY, at).unwrap().tell(verdict, "still down", at);
    }
}

#[test]
fn the_log_tells_once_that_a_breaker_opened_and_that_it_closed() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&written);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .without_time()
        .with_writer(move || Written(Arc::clone(&writer)))
        .finish();
    // Other tests come by these log lines too. While there is only one subscriber, tracing asks the thread that comes by first whether
    // anybody listens, and remembers its no for all: so they are known before, and there are two.
    fail_and_recover();
    let ours = tracing::Dispatch::new(subscriber);
    let _other = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    tracing::dispatcher::with_default(&ours, fail_and_recover);
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [opened, closed] = lines[..] else { panic!("{text}") };
    let named = "provider=acme account=1 model=m-1";
    assert!(opened.contains("WARN") && opened.contains("breaker opened") && opened.contains(named), "{opened}");
    assert!(opened.contains("error=\"down\""), "{opened}");
    assert!(closed.contains("INFO") && closed.contains("breaker closed") && closed.contains(named), "{closed}");
}

struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
