//! All targets that have been asked, found by identity, and no more of them than [`LIMIT`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::{Name, Track};
use crate::upstream::breaker::Phase;

/// So many targets are remembered: `provider/model` can be typed by clients, and so without end.
pub const LIMIT: usize = 10_000;
/// When it is full one of so many makes room, so that the next ones find it.
const SWEPT: usize = 16;

/// Every target that has been asked.
#[derive(Debug)]
pub struct Tracks {
    map: DashMap<u64, Arc<Track>, ahash::RandomState>,
    limit: usize,
    /// Held while one is added.
    door: Mutex<()>,
}

impl Default for Tracks {
    fn default() -> Self {
        Tracks::with_limit(LIMIT)
    }
}

impl Tracks {
    fn with_limit(limit: usize) -> Self {
        Tracks { map: DashMap::default(), limit, door: Mutex::new(()) }
    }

    /// When all that are remembered are in use, the new one is not: it serves its caller and is forgotten.
    pub fn of(&self, id: u64, name: impl FnOnce() -> Name) -> Arc<Track> {
        if let Some(track) = self.get(id) {
            return track;
        }
        let _alone = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(track) = self.get(id) {
            return track;
        }
        let now = Instant::now();
        let track = Arc::new(Track::new(id, name(), now));
        if self.map.len() >= self.limit {
            self.sweep(now);
        }
        if self.map.len() < self.limit {
            self.map.insert(id, Arc::clone(&track));
        }
        track
    }

    /// Of a target that has been asked before.
    pub fn get(&self, id: u64) -> Option<Arc<Track>> {
        self.map.get(&id).map(|track| Arc::clone(&track))
    }

    pub fn all(&self) -> Vec<Arc<Track>> {
        self.map.iter().map(|entry| Arc::clone(&entry)).collect()
    }

    /// Forget the others. Those that are in use end in peace.
    pub fn retain(&self, mut keep: impl FnMut(&Track) -> bool) {
        self.map.retain(|_, track| keep(track));
    }

    /// Forget those that were used longest ago. An open breaker is forgotten only when there is nothing else to forget.
    fn sweep(&self, now: Instant) {
        let mut idle: Vec<(bool, Instant, u64)> = self
            .map
            .iter()
            .filter(|entry| is_idle(entry))
            .map(|entry| (entry.breaker.phase(now) != (Phase::Closed, Duration::ZERO), entry.used(), entry.id))
            .collect();
        idle.sort_unstable();
        let calm = idle.iter().filter(|(refuses, _, _)| !refuses).count();
        let enough = (self.limit / SWEPT).max(1);
        let many = if calm == 0 { enough } else { enough.min(calm) };
        for (_, _, id) in idle.into_iter().take(many) {
            // somebody may have taken it meanwhile
            self.map.remove_if(&id, |_, track| is_idle(track));
        }
    }
}

/// Nobody but the map holds it, so no try is under way and nobody waits at its gate.
fn is_idle(track: &Arc<Track>) -> bool {
    Arc::strong_count(track) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::BreakerPolicy;

    const POLICY: BreakerPolicy =
        BreakerPolicy { failures: 1, rate: None, cooldown: Duration::from_secs(3600), probes: 1 };

    fn name() -> Name {
        Name { provider: "p".into(), account: 0, model: "m".into() }
    }

    #[test]
    fn endless_names_do_not_fill_the_memory() {
        let tracks = Tracks::default();
        for id in 0..LIMIT as u64 * 3 {
            tracks.of(id, name);
            assert!(tracks.map.len() <= LIMIT);
        }
        assert!(tracks.map.len() > LIMIT - LIMIT / SWEPT - 1);
        assert!(tracks.get(LIMIT as u64 * 3 - 1).is_some() && tracks.get(0).is_none());
    }

    #[test]
    fn what_was_used_longest_ago_and_is_closed_goes_first() {
        let tracks = Tracks::with_limit(32);
        let now = Instant::now();
        for id in 0..32 {
            let track = tracks.of(id, name);
            let mut flight =
                track.begin(POLICY, track.breaker.admit(&POLICY, now).unwrap(), now + Duration::from_secs(id));
            match id {
                0 => drop(flight.failed("down")),
                _ => drop(flight.succeeded()),
            }
            track.seen().used = now + Duration::from_secs(id);
        }
        let held = tracks.get(1);
        tracks.of(100, name);
        let gone: Vec<u64> = (0..32).filter(|id| tracks.get(*id).is_none()).collect();
        assert_eq!(gone, [2, 3], "0 is open, 1 is in use");
        drop(held);
    }

    #[test]
    fn open_ones_go_when_there_is_nothing_else_and_those_in_use_never() {
        let tracks = Tracks::with_limit(4);
        let mut in_use = Vec::new();
        for id in 0..4 {
            let track = tracks.of(id, name);
            let mut flight = track.admit(&POLICY, Instant::now()).unwrap();
            flight.failed("down");
            in_use.push(flight);
        }
        let beyond = tracks.of(4, name);
        assert!(tracks.get(4).is_none() && tracks.map.len() == 4);
        assert_eq!(beyond.admit(&POLICY, Instant::now()).unwrap().track.in_flight(), 1, "it works all the same");
        in_use.remove(2);
        tracks.of(5, name);
        assert!(tracks.get(2).is_none() && tracks.get(5).is_some() && tracks.map.len() == 4);
    }

    #[test]
    fn a_reload_keeps_what_it_knows_of_the_targets_that_stay() {
        let tracks = Tracks::default();
        for id in 0..4 {
            tracks.of(id, name).admit(&POLICY, Instant::now()).unwrap().failed("down");
        }
        tracks.retain(|track| track.id % 2 == 0);
        assert_eq!(tracks.all().len(), 2);
        assert_eq!(tracks.of(2, name).failures(), 1);
        assert_eq!(tracks.of(1, name).failures(), 0);
    }

    #[test]
    fn many_threads_that_ask_for_one_target_get_the_same_one() {
        let tracks = Tracks::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for id in 0..500 {
                        drop(tracks.of(id, name).begin(POLICY, crate::upstream::breaker::Leave::Pass, Instant::now()));
                    }
                });
            }
        });
        assert!(tracks.all().iter().all(|track| track.calls() == 8 && track.in_flight() == 0));
        assert_eq!(tracks.all().len(), 500);
    }
}
