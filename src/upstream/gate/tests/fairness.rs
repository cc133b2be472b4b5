//! Keys that share a target: each gets its share, whatever the others do.

use std::time::Duration;

use super::world::{Figures, Kind, Learns, Load, Upstream, run};
use crate::config::policy::Admission;

const QUICK: (f64, f64) = (0.1, 0.5);

fn load(key: u64, weight: u32, rate: f64) -> Load {
    Load { key, weight, rate, from: 0.0, to: 300.0, tokens: (800, 1200), deadline: 60.0 }
}

/// Once the upstream's burst is used up.
fn steady(figures: &Figures) -> f64 {
    figures.let_through.iter().filter(|at| (100.0..290.0).contains(*at)).count() as f64
}

#[tokio::test(start_paused = true)]
async fn keys_are_served_in_proportion_to_their_weight() {
    let own = Admission { rpm: Some(600), ..Admission::default() };
    let at_once = Admission { concurrency: Some(4), ..Admission::default() };
    for (kind, admission) in [
        (Kind::Told { rpm: 600.0, tpm: 1e7 }, Admission::default()),
        (Kind::Told { rpm: 6000.0, tpm: 6e5 }, Admission::default()),
        (Kind::Silent { rate: 10.0, burst: 20.0 }, Admission::default()),
        (Kind::AtOnce { most: 4 }, Admission::default()),
        (Kind::Free, own),
        (Kind::Free, at_once),
    ] {
        let loads = [load(1, 3, 30.0), load(2, 1, 30.0)];
        let figures = run(Upstream::new(kind), admission, &loads, QUICK, Learns::FromTicket).await;
        let ratio = steady(&figures[&1]) / steady(&figures[&2]);
        println!("{kind:?}: {ratio:.3} to 1");
        assert!((2.7..3.3).contains(&ratio), "{kind:?}: {ratio}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_tokens_run_out_tokens_are_shared() {
    let large = Load { tokens: (3600, 4400), ..load(1, 1, 20.0) };
    let kind = Kind::Told { rpm: 6000.0, tpm: 6e5 };
    let figures =
        run(Upstream::new(kind), Admission::default(), &[large, load(2, 1, 30.0)], QUICK, Learns::FromTicket).await;
    let ratio = steady(&figures[&2]) / steady(&figures[&1]);
    println!("calls of a quarter of the size: {ratio:.3} to 1");
    assert!((3.4..4.6).contains(&ratio), "{ratio}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_key_gets_in_at_once_after_others_have_flooded() {
    for kind in
        [Kind::Told { rpm: 600.0, tpm: 1e7 }, Kind::Silent { rate: 10.0, burst: 20.0 }, Kind::AtOnce { most: 4 }]
    {
        let idle = Load { from: 100.0, rate: 0.2, ..load(2, 1, 0.0) };
        let loads = [load(1, 1, 100.0), idle];
        let figures = run(Upstream::new(kind), Admission::default(), &loads, QUICK, Learns::FromTicket).await;
        let idle = &figures[&2];
        println!("{kind:?}: {} of {} served, longest wait {:?}", idle.good, idle.asked, idle.longest);
        assert_eq!(idle.full + idle.full_late, 0, "{kind:?}");
        assert!(idle.longest < Duration::from_millis(1500), "{kind:?}: {:?}", idle.longest);
    }
}

#[tokio::test(start_paused = true)]
async fn no_key_starves_among_many() {
    let loads: Vec<Load> = (0..40).map(|key| load(key, 1 + (key % 2) as u32, 1.0)).collect();
    let kind = Kind::Told { rpm: 600.0, tpm: 1e7 };
    let figures = run(Upstream::new(kind), Admission::default(), &loads, QUICK, Learns::FromTicket).await;
    for weight in [1, 2] {
        let of = figures.iter().filter(|(key, _)| 1 + *key % 2 == weight).map(|(_, f)| steady(f));
        let (least, most) = of.fold((f64::MAX, 0.0), |(least, most): (f64, f64), n| (least.min(n), most.max(n)));
        println!("weight {weight}: {least} to {most}");
        assert!(least > 0.0 && least >= most * 0.8, "{least} {most}");
    }
}
