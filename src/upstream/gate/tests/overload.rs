//! Three times more is asked for than an upstream gives, for five minutes or 20,000 calls: what is served of what it could, and what it had to refuse.

use std::time::Duration;

use super::world::{Figures, Kind, Learns, Load, Upstream, run};
use crate::config::policy::Admission;

const SECONDS: f64 = 300.0;
const QUICK: (f64, f64) = (0.1, 0.5);
const SLOW: (f64, f64) = (1.0, 20.0);

/// The least share of its capacity that is served, and the largest share of the calls sent to it that it refuses.
#[derive(Clone, Copy)]
struct Bounds {
    served: f64,
    refused: f64,
}

/// `rate`: calls a second that the upstream serves; `burst`: those it serves beyond that.
async fn at_three_times(kind: Kind, counts: f64, (rate, burst): (f64, f64), bounds: Bounds) {
    for (learns, lasting) in [(Learns::FromTicket, QUICK), (Learns::FromGate, SLOW)] {
        let rate = match kind {
            Kind::AtOnce { most } => f64::from(most) / ((lasting.0 + lasting.1) / 2.0 + 0.06),
            _ => rate,
        };
        let to = (20_000.0 / (rate * 3.0)).min(SECONDS);
        let load = Load { key: 1, weight: 1, rate: rate * 3.0, from: 0.0, to, tokens: (500, 1500), deadline: 60.0 };
        let mut upstream = Upstream::new(kind);
        upstream.counts = counts;
        let figures = run(upstream, Admission::default(), &[load], lasting, learns).await;
        judge(kind, learns, (burst + rate * to, to), bounds, &figures[&1]);
    }
}

fn judge(kind: Kind, learns: Learns, (capacity, to): (f64, f64), bounds: Bounds, figures: &Figures) {
    let in_time = figures.let_through.iter().filter(|at| **at < to).count();
    let served = in_time as f64 / capacity;
    let refused = f64::from(figures.refused) / f64::from(figures.good + figures.refused);
    let at_once = f64::from(figures.full) / f64::from(figures.full + figures.full_late);
    println!(
        "{kind:?} {learns:?}: served {:.1}% of capacity, upstream refused {:.1}%, {:.1}% of the refused at once, longest wait {:?}",
        served * 100.0,
        refused * 100.0,
        at_once * 100.0,
        figures.longest
    );
    assert!(served >= bounds.served, "{kind:?} served {served}");
    assert!(refused <= bounds.refused, "{kind:?} refused {refused}");
    assert!(figures.longest <= Duration::from_millis(10_002), "{:?}", figures.longest);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_tells_its_limits_is_used_up_and_never_refuses() {
    let bounds = Bounds { served: 0.98, refused: 0.0 };
    at_three_times(Kind::Told { rpm: 600.0, tpm: 1e7 }, 1.0, (10.0, 600.0), bounds).await;
    at_three_times(Kind::Told { rpm: 6000.0, tpm: 6e5 }, 1.0, (10.0, 600.0), bounds).await;
    at_three_times(Kind::ToldInSeconds { rpm: 600.0, tpm: 6e5 }, 1.0, (10.0, 600.0), bounds).await;
}

#[tokio::test(start_paused = true)]
async fn windows_are_waited_for() {
    let bounds = Bounds { served: 0.95, refused: 0.02 };
    at_three_times(Kind::Window { limit: 600 }, 1.0, (10.0, 0.0), bounds).await;
}

#[tokio::test(start_paused = true)]
async fn estimates_of_tokens_may_be_far_off() {
    // it counts a third of what we think, and twice as much
    let told = Kind::Told { rpm: 6000.0, tpm: 6e5 };
    at_three_times(told, 0.3, (33.3, 2000.0), Bounds { served: 0.7, refused: 0.0 }).await;
    at_three_times(told, 2.0, (5.0, 300.0), Bounds { served: 0.9, refused: 0.15 }).await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_says_nothing_but_429_is_used_well() {
    let bounds = Bounds { served: 0.8, refused: 0.12 };
    for (rate, burst) in [(10.0, 3.0), (10.0, 10.0), (10.0, 600.0), (1.0, 10.0), (100.0, 100.0)] {
        at_three_times(Kind::Silent { rate, burst }, 1.0, (rate, burst), bounds).await;
        at_three_times(Kind::RetryAfter { rate, burst }, 1.0, (rate, burst), bounds).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_takes_so_many_calls_at_once_is_used_well() {
    let bounds = |refused| Bounds { served: 0.8, refused };
    at_three_times(Kind::AtOnce { most: 1 }, 1.0, (0.0, 0.0), bounds(0.2)).await;
    for most in [4, 10, 100] {
        at_three_times(Kind::AtOnce { most }, 1.0, (0.0, 0.0), bounds(0.15)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_forgotten_soon_after_its_end() {
    for (status, recovery) in [(503, 5.0), (429, 12.0)] {
        let load = Load { key: 1, weight: 1, rate: 50.0, from: 0.0, to: SECONDS, tokens: (1, 2), deadline: 60.0 };
        let upstream = Upstream::new(Kind::Outage { status });
        let figures = run(upstream, Admission::default(), &[load], QUICK, Learns::FromTicket).await;
        let whole =
            figures[&1].let_through.iter().filter(|at| **at > 60.0 && (recovery..50.0).contains(&(**at % 60.0)));
        let served = whole.count() as f64 / (4.0 * (50.0 - recovery) * load.rate);
        println!("{status}: {:.1}% of what was asked for, from {recovery} s after the end", served * 100.0);
        assert!(served > 0.95, "{status}: {served}");
    }
}
