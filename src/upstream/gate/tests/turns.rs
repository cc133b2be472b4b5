//! The order of turns, without a clock.

use std::time::Instant;

use super::super::queue::{Queue, USUAL};
use crate::balance::{below, mix};

fn push(queue: &mut Queue<u64>, key: u64, weight: u32) -> u64 {
    queue.push(key, weight, 10, USUAL, key, Instant::now())
}

fn order(queue: &mut Queue<u64>, most: usize) -> Vec<u64> {
    (0..most).map_while(|_| queue.pop()).map(|next| next.waiter).collect()
}

#[test]
fn turns_go_by_weight() {
    let mut queue = Queue::default();
    for _ in 0..20 {
        push(&mut queue, 1, 3);
        push(&mut queue, 2, 1);
    }
    let first = order(&mut queue, 16);
    assert_eq!(first.iter().filter(|key| **key == 1).count(), 12, "{first:?}");
    let pairs = first.windows(5).filter(|five| five.iter().all(|key| *key == 1)).count();
    assert_eq!(pairs, 0, "spread evenly: {first:?}");
}

#[test]
fn nobody_saves_up_turns_and_nobody_loses_what_it_owes() {
    let mut queue = Queue::default();
    for _ in 0..50 {
        push(&mut queue, 1, 1);
    }
    order(&mut queue, 40);
    // one that was away the whole time takes turns with the others, and no more
    for _ in 0..10 {
        push(&mut queue, 2, 1);
    }
    let next = order(&mut queue, 10);
    assert_eq!(next.iter().filter(|key| **key == 2).count(), 5, "{next:?}");

    // one that stands in line again each time it was served gets no more for it
    let mut queue = Queue::default();
    for _ in 0..100 {
        push(&mut queue, 1, 4);
    }
    push(&mut queue, 2, 1);
    let mut served = 0;
    for _ in 0..50 {
        if queue.pop().unwrap().waiter == 2 {
            served += 1;
            push(&mut queue, 2, 1);
        }
    }
    assert!((9..=11).contains(&served), "{served}");
}

#[test]
fn the_place_that_is_told_is_the_place_one_gets() {
    for seed in 0..300u64 {
        let chance = |n: u64, bound: u64| below(mix(seed << 32 | n), bound);
        let mut queue = Queue::default();
        let weight = |key: u64| 1 + (key % 3) as u32;
        for n in 0..chance(1, 60) {
            let key = chance(n << 4 | 2, 6);
            push(&mut queue, key, weight(key));
            if chance(n << 4 | 3, 3) == 0 {
                queue.pop();
            }
        }
        let key = chance(5, 7);
        let ahead = queue.ahead(key, weight(key));
        assert_eq!(ahead.tokens, ahead.calls * 10);
        queue.push(key, weight(key), 10, USUAL, 99, Instant::now());
        let place = order(&mut queue, 100).iter().position(|key| *key == 99).unwrap() as u64;
        assert_eq!(ahead.calls, place, "seed {seed}");
    }
}

#[test]
fn one_may_leave_from_anywhere_and_the_counts_stay_true() {
    for seed in 0..100u64 {
        let chance = |n: u64, bound: u64| below(mix(seed << 32 | n), bound);
        let mut queue = Queue::default();
        let mut there: Vec<(u64, u64)> = Vec::new();
        for n in 0..400 {
            let key = chance(n << 4, 5);
            match chance(n << 4 | 1, 4) {
                0 | 1 => there.push((key, push(&mut queue, key, 1 + chance(n, 4) as u32))),
                2 if !there.is_empty() => {
                    let (key, id) = there.swap_remove(chance(n << 4 | 2, there.len() as u64) as usize);
                    assert!(queue.remove(key, id).is_some());
                    assert!(queue.remove(key, id).is_none(), "only once");
                }
                _ => {
                    if let Some(next) = queue.pop() {
                        // the first of its line
                        let first = there.iter().filter(|(key, _)| *key == next.waiter).map(|(_, id)| *id).min();
                        there.retain(|(_, id)| Some(*id) != first);
                    }
                }
            }
            assert_eq!(queue.len(), there.len());
            assert_eq!((queue.load().calls, queue.load().tokens), (there.len() as u64, there.len() as u64 * 10));
        }
        assert_eq!(order(&mut queue, 1000).len(), there.len());
    }
}

#[test]
fn keys_that_are_gone_are_not_kept() {
    let mut queue = Queue::default();
    for key in 0..100_000 {
        push(&mut queue, key, 1);
        queue.pop();
    }
    assert!(queue.lines() < 1000, "{}", queue.lines());
}
