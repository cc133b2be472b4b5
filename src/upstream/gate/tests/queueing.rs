//! One gate, step by step: who waits, who is refused, who leaves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::super::{Claim, Full, Gate, Ticket, clock};
use crate::balance::{below, mix};
use crate::config::policy::Admission;

const ONE: Admission =
    Admission { rpm: None, tpm: None, concurrency: Some(1), depth: 100, timeout: Duration::from_secs(10) };
/// One a second, five at once.
const RPM: Admission =
    Admission { rpm: Some(60), tpm: None, concurrency: None, depth: 100, timeout: Duration::from_secs(10) };

fn claim(key: u64) -> Claim {
    Claim { key, weight: 1, tokens: 0, deadline: clock() + Duration::from_secs(60) }
}

type Entering<'g> = Pin<Box<dyn Future<Output = Result<Ticket, Full>> + 'g>>;

fn enter<'g>(gate: &'g Gate, admission: &'g Admission, claim: Claim) -> Entering<'g> {
    Box::pin(gate.enter(admission, claim))
}

/// Look once.
fn poll(entering: &mut Entering<'_>) -> Poll<Result<Ticket, Full>> {
    entering.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn waits(entering: &mut Entering<'_>) -> bool {
    poll(entering).is_pending()
}

fn now(entering: &mut Entering<'_>) -> Result<Ticket, Full> {
    match poll(entering) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits"),
    }
}

fn waiting(gate: &Gate) -> u32 {
    gate.rates(clock()).waiting
}

#[tokio::test(start_paused = true)]
async fn with_nothing_known_and_nothing_configured_all_pass() {
    let gate = Gate::default();
    let free = Admission { depth: 0, ..Admission::default() };
    let tickets: Vec<Ticket> = (0..1000).map(|key| now(&mut enter(&gate, &free, claim(key))).unwrap()).collect();
    assert!(tickets.iter().all(|t| t.position == 0 && t.waited.is_zero()));
    assert_eq!(gate.rates(clock()).in_flight, 1000);
    assert_eq!(gate.wait(&free, 1_000_000, clock()), Duration::ZERO);
    drop(tickets);
    assert_eq!(gate.rates(clock()).in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_tells_the_place_and_the_wait() {
    let gate = Gate::default();
    for _ in 0..5 {
        assert_eq!(now(&mut enter(&gate, &RPM, claim(1))).unwrap().position, 0);
    }
    let mut first = enter(&gate, &RPM, claim(1));
    let mut second = enter(&gate, &RPM, claim(1));
    assert!(waits(&mut first) && waits(&mut second));
    // another key's comes before the second of this one
    let mut other = enter(&gate, &RPM, claim(2));
    assert!(waits(&mut other));
    assert_eq!(gate.wait(&RPM, 0, clock()).as_millis(), 4000);
    assert_eq!(waiting(&gate), 3, "asking how long it takes changes nothing");
    let (first, other, second) = (first.await.unwrap(), other.await.unwrap(), second.await.unwrap());
    assert_eq!([first.position, second.position, other.position], [1, 2, 2]);
    let waited = [first.waited, other.waited, second.waited].map(|waited| waited.as_secs_f64().round());
    assert_eq!(waited, [1.0, 2.0, 3.0]);
    tokio::task::yield_now().await;
    assert!(gate.shared.lock().keeper.is_none(), "nobody waits, nobody keeps time");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_served_in_time_is_refused_at_once_and_told_when_it_can() {
    let gate = Gate::default();
    let patient = Admission { timeout: Duration::from_secs(3), ..RPM };
    let _passed: Vec<Ticket> = (0..5).map(|_| now(&mut enter(&gate, &patient, claim(1))).unwrap()).collect();
    let mut queued: Vec<Entering<'_>> = (0..3).map(|_| enter(&gate, &patient, claim(1))).collect();
    assert!(queued.iter_mut().all(waits));
    let full = now(&mut enter(&gate, &patient, claim(1))).unwrap_err();
    assert_eq!((full.retry_after.as_millis(), full.depth), (4000, 3));
    // a call that has less time than the wait before it
    let hurried = Claim { deadline: clock() + Duration::from_millis(900), ..claim(2) };
    assert!(now(&mut enter(&gate, &patient, hurried)).is_err());
    let enough = Claim { deadline: clock() + Duration::from_millis(1100), ..claim(2) };
    drop(queued);
    assert!(waits(&mut enter(&gate, &patient, enough)));

    tokio::time::sleep(full.retry_after).await;
    assert_eq!(now(&mut enter(&gate, &patient, claim(1))).unwrap().position, 0, "what was said was true");
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_so_at_its_deadline() {
    let gate = Gate::default();
    let _held = now(&mut enter(&gate, &ONE, claim(1))).unwrap();
    let since = clock();
    let hurried = Claim { deadline: since + Duration::from_secs(2), ..claim(2) };
    let (hurried, patient) = tokio::join!(gate.enter(&ONE, hurried), gate.enter(&ONE, claim(3)));
    assert!(hurried.is_err() && patient.is_err());
    assert_eq!((clock() - since).as_secs(), 10);
    assert_eq!((waiting(&gate), gate.rates(clock()).in_flight), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_depth_is_a_bound_and_no_key_may_fill_it_for_the_others() {
    let gate = Gate::default();
    let shallow = Admission { depth: 4, ..ONE };
    let _held = now(&mut enter(&gate, &shallow, claim(1))).unwrap();
    let mut flood: Vec<Entering<'_>> = (0..4).map(|_| enter(&gate, &shallow, claim(1))).collect();
    assert!(flood.iter_mut().all(waits));
    assert_eq!(now(&mut enter(&gate, &shallow, claim(1))).unwrap_err().depth, 4);

    let mut others: Vec<Entering<'_>> = (0..2).map(|_| enter(&gate, &shallow, claim(2))).collect();
    assert!(others.iter_mut().all(waits), "a key below its share comes in");
    assert_eq!(waiting(&gate), 4);
    assert!(now(&mut enter(&gate, &shallow, claim(2))).is_err(), "and has its share then");
    let displaced: Vec<bool> = flood.iter_mut().map(|waiting| poll(waiting).is_ready()).collect();
    assert_eq!(displaced, [false, false, true, true], "the last ones went");

    // a third key has a share of one, and takes it from one that has two
    let mut third = enter(&gate, &shallow, claim(3));
    assert!(waits(&mut third));
    let gone: Vec<u64> = [&mut flood[1], &mut others[1]].into_iter().map(|last| u64::from(!waits(last))).collect();
    assert_eq!(gone.iter().sum::<u64>(), 1);
    assert!(now(&mut enter(&gate, &shallow, claim(1 + gone[1]))).is_err(), "there would be no end to it");
    assert_eq!(waiting(&gate), 4);
    let none = Admission { depth: 0, ..ONE };
    assert!(now(&mut enter(&gate, &none, claim(9))).is_err());
}

#[tokio::test(start_paused = true)]
async fn keys_that_go_on_asking_find_their_share_free_and_take_no_place_from_one_that_waits() {
    let gate = Gate::default();
    let limits = Admission { rpm: Some(600), concurrency: None, depth: 40, ..ONE };
    let of = |key: u64| Claim { weight: if key == 1 { 3 } else { 1 }, ..claim(key) };
    let (mut waiting, mut served, mut late) = (Vec::new(), [0u32; 2], [0u32; 2]);
    for step in 0..400u32 {
        for key in [2, 1] {
            waiting.push((key, step, enter(&gate, &limits, of(key))));
        }
        waiting.retain_mut(|(key, since, entering)| {
            let place = usize::try_from(*key).unwrap() - 1;
            match poll(entering) {
                Poll::Pending => return true,
                Poll::Ready(Ok(_)) if step >= 100 => served[place] += 1,
                Poll::Ready(Err(_)) if step >= 100 && *since < step => late[place] += 1,
                Poll::Ready(_) => {}
            }
            false
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(late, [0, 0], "waited in vain");
    assert!((110..=116).contains(&served[0]) && (35..=40).contains(&served[1]), "{served:?}");

    // one that was away for a while comes in all the same
    drop(waiting);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut flood: Vec<Entering<'_>> = (0..100).map(|_| enter(&gate, &limits, of(2))).collect();
    let there = flood.iter_mut().filter_map(|entering| waits(entering).then_some(())).count();
    assert!(there > 30, "a key that is alone has all the places: {there}");
    assert!(waits(&mut enter(&gate, &limits, of(1))));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_frees_the_place_and_passes_the_turn_on() {
    let gate = Gate::default();
    let held = now(&mut enter(&gate, &ONE, claim(1))).unwrap();
    let mut first = enter(&gate, &ONE, claim(2));
    let mut second = enter(&gate, &ONE, claim(3));
    let mut third = enter(&gate, &ONE, claim(4));
    assert!(waits(&mut first) && waits(&mut second) && waits(&mut third));
    drop(first);
    assert_eq!(waiting(&gate), 2);
    drop(held);
    // the second has its turn, and leaves before it looks
    assert_eq!((waiting(&gate), gate.rates(clock()).in_flight), (1, 1));
    drop(second);
    assert_eq!(now(&mut third).unwrap().position, 3);
    assert_eq!((waiting(&gate), gate.rates(clock()).in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_lets_smaller_calls_behind_it_go_at_once() {
    let gate = Gate::default();
    let limits = Admission { rpm: None, tpm: Some(6000), ..RPM };
    let of = |tokens| Claim { tokens, ..claim(1) };
    let _passed = now(&mut enter(&gate, &limits, of(400))).unwrap();
    let mut large = enter(&gate, &limits, of(500));
    let mut small = enter(&gate, &limits, of(50));
    let mut middle = enter(&gate, &limits, of(250));
    assert!(waits(&mut large) && waits(&mut small) && waits(&mut middle));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(waits(&mut small));
    drop(large);
    assert!(now(&mut small).is_ok());
    // 60 are left of 110; a hundred a second come
    let since = clock();
    assert!(middle.await.is_ok());
    assert_eq!((clock() - since).as_millis() / 100, 19);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_not_taken_costs_nothing() {
    let gate = Gate::default();
    let _passed: Vec<Ticket> = (0..5).map(|_| now(&mut enter(&gate, &RPM, claim(1))).unwrap()).collect();
    let mut leaves = enter(&gate, &RPM, claim(1));
    assert!(waits(&mut leaves));
    tokio::time::sleep(Duration::from_millis(1010)).await;
    assert_eq!((waiting(&gate), gate.rates(clock()).in_flight), (0, 6), "it may go");
    drop(leaves);
    assert_eq!(gate.rates(clock()).in_flight, 5);
    assert_eq!(now(&mut enter(&gate, &RPM, claim(1))).unwrap().position, 0);
}

#[tokio::test(start_paused = true)]
async fn configured_limits_hold_over_any_minute() {
    let gate = Gate::default();
    let limits = Admission { rpm: Some(120), tpm: Some(6000), depth: 1000, timeout: Duration::from_secs(600), ..RPM };
    let begun = clock();
    let calls = (0..400u64).map(|n| {
        let gate = &gate;
        async move {
            let long = Duration::from_secs(900);
            let claim = Claim { key: n % 3, weight: 1, tokens: 40 + n % 21, deadline: begun + long };
            gate.enter(&limits, claim).await.map(|ticket| (ticket.waited.as_secs_f64(), 40 + n % 21))
        }
    });
    let mut passed: Vec<(f64, u64)> =
        futures_util::future::join_all(calls).await.into_iter().map(|passed| passed.unwrap()).collect();
    passed.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (from, _) in &passed {
        let within = passed.iter().filter(|(at, _)| (*from..from + 60.0).contains(at));
        let (calls, tokens) = within.fold((0, 0), |(calls, tokens), (_, t)| (calls + 1, tokens + t));
        assert!(calls <= 131 && tokens <= 6600, "{calls} calls and {tokens} tokens in a minute");
    }
    let last = passed.last().unwrap().0;
    assert!((190.0..201.0).contains(&last), "tokens bind, and all of them are used: {last}");
}

#[tokio::test(start_paused = true)]
async fn a_call_larger_than_the_limit_waits_for_all_of_it_and_passes() {
    let gate = Gate::default();
    let limits = Admission { rpm: None, tpm: Some(6000), ..RPM };
    let large = Claim { tokens: 900, ..claim(1) };
    assert_eq!(gate.enter(&limits, large).await.unwrap().position, 0);
    // the debt is paid before the next one goes
    let next = gate.enter(&limits, Claim { tokens: 100, ..claim(1) }).await.unwrap();
    assert_eq!(next.waited.as_secs(), 5);
}

/// Thousands of calls that come, wait, go and leave in any order.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_whatever_order_calls_come_and_leave_in() {
    for seed in 0..20u64 {
        let gate = Gate::default();
        let limits = Admission {
            rpm: (seed % 2 == 0).then_some(6000),
            tpm: (seed % 3 == 0).then_some(600_000),
            concurrency: (seed % 4 != 1).then_some(1 + (seed % 7) as u32),
            depth: 20,
            timeout: Duration::from_millis(300),
        };
        let (at_once, ended) = (AtomicU32::new(0), AtomicU32::new(0));
        let calls = (0..500u64).map(|n| {
            let chance = move |what: u64, bound: u64| below(mix(seed << 40 | n << 8 | what), bound);
            let (gate, limits, at_once, ended) = (&gate, &limits, &at_once, &ended);
            async move {
                tokio::time::sleep(Duration::from_millis(chance(1, 3000))).await;
                let deadline = clock() + Duration::from_millis(chance(2, 400));
                let claim =
                    Claim { key: chance(3, 5), weight: 1 + chance(4, 3) as u32, tokens: chance(5, 2000), deadline };
                let patience = if chance(6, 3) == 0 { chance(7, 100) } else { 1_000 };
                let entered = tokio::time::timeout(Duration::from_millis(patience), gate.enter(limits, claim)).await;
                if let Ok(Ok(ticket)) = entered {
                    let now = at_once.fetch_add(1, Ordering::Relaxed) + 1;
                    assert!(limits.concurrency.is_none_or(|most| now <= most));
                    tokio::time::sleep(Duration::from_millis(chance(8, 40))).await;
                    at_once.fetch_sub(1, Ordering::Relaxed);
                    drop(ticket);
                }
                assert!(waiting(gate) <= 20);
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
        let all = futures_util::future::join_all(calls);
        tokio::time::timeout(Duration::from_secs(10), all).await.expect("all end");
        assert_eq!(ended.load(Ordering::Relaxed), 500);
        assert_eq!((waiting(&gate), gate.rates(clock()).in_flight), (0, 0), "seed {seed}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(gate.shared.lock().keeper.is_none());
        assert_eq!(now(&mut enter(&gate, &limits, claim(1))).unwrap().position, 0, "seed {seed}");
    }
}

/// On threads, with places handed from one to the next as fast as they can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_between_threads() {
    let gate = Arc::new(Gate::default());
    let limits = Admission { concurrency: Some(3), depth: 10_000, timeout: Duration::from_secs(60), ..ONE };
    let at_once = Arc::new(AtomicU32::new(0));
    let mut calls = Vec::new();
    for caller in 0..64u64 {
        let (gate, at_once) = (Arc::clone(&gate), Arc::clone(&at_once));
        calls.push(tokio::spawn(async move {
            let mut passed = 0;
            for n in 0..200u64 {
                let deadline = Instant::now() + Duration::from_secs(60);
                let claim = Claim { key: caller % 7, weight: 1, tokens: 1, deadline };
                let entering = gate.enter(&limits, claim);
                let chance = mix(caller << 32 | n);
                let entered = if chance.is_multiple_of(3) {
                    // leave after a few looks
                    tokio::select! {
                        biased;
                        entered = entering => Some(entered),
                        () = async { for _ in 0..chance % 16 { tokio::task::yield_now().await } } => None,
                    }
                } else {
                    Some(entering.await)
                };
                if let Some(entered) = entered {
                    let ticket = entered.expect("there is time and place for all");
                    assert!(at_once.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    at_once.fetch_sub(1, Ordering::SeqCst);
                    gate.learn(&HeaderMap::new(), 200, None, Instant::now());
                    drop(ticket);
                    passed += 1;
                }
            }
            passed
        }));
    }
    let mut passed = 0;
    for call in calls {
        passed += tokio::time::timeout(Duration::from_secs(60), call).await.expect("none hangs").unwrap();
    }
    assert!(passed > 64 * 200 / 2, "{passed}");
    assert_eq!((waiting(&gate), gate.rates(Instant::now()).in_flight), (0, 0));
}
