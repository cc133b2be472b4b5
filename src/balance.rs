//! Choosing one of several: by turn, by weight, by load, by a key that stays. Pure: chance comes in as a number.

/// Another number that looks random, from one that does (SplitMix64).
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Evenly from 0 up to `bound`, which is not 0.
pub fn below(seed: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(mix(seed)) * u128::from(bound)) >> 64).unwrap_or(0)
}

/// One of `weights`, in proportion. `None` when all are 0.
pub fn weighted(weights: &[u32], seed: u64) -> Option<usize> {
    let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    if total == 0 {
        return None;
    }
    let mut at = below(seed, total);
    weights.iter().position(|w| match at.checked_sub(u64::from(*w)) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    })
}

/// The place of one with `weight` in an order drawn at random, the least number first: sorted by it, `n` things with their own `seed`s stand
/// as if drawn by weight, one after the other, without putting any back (Efraimidis and Spirakis, "Weighted random sampling with a
/// reservoir", 2006). Weight 0 comes behind all others.
pub fn draw(weight: u32, seed: u64) -> f64 {
    match weight {
        0 => f64::INFINITY,
        weight => -unit(seed).ln() / f64::from(weight),
    }
}

/// Two different ones of `len`, which is 2 or more.
pub fn two(len: usize, seed: u64) -> (usize, usize) {
    let len = len as u64;
    let first = below(seed, len);
    let second = (first + 1 + below(mix(seed), len - 1)) % len;
    (first as usize, second as usize)
}

/// Rendezvous hashing: of `candidates` (identity, weight), the order for a key. One that leaves moves only its own keys.
pub fn rendezvous(key: u64, candidates: &[(u64, u32)]) -> Vec<usize> {
    let mut scored: Vec<(f64, usize)> = candidates
        .iter()
        .enumerate()
        .map(|(n, (id, weight))| (-f64::from(*weight) / unit(key ^ mix(*id)).ln(), n))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().map(|(_, n)| n).collect()
}

/// Whether one with `load` calls in flight may take another, when `all` are in flight at `count` places and none should have
/// more than a quarter above the mean (consistent hashing with bounded loads).
pub fn within_bound(load: u32, all: u32, count: usize) -> bool {
    within_share(load, all, 1, u64::try_from(count).unwrap_or(1))
}

/// The same for places of different weight, of which this one has `weight` of `total`.
pub fn within_share(load: u32, all: u32, weight: u32, total: u64) -> bool {
    let (weight, total) = (u128::from(weight), u128::from(total.max(1)));
    let most = (u128::from(all) + 1) * 5 * weight;
    u128::from(load) * 4 * total < most.max(4 * total)
}

/// A number from 0 to 1, neither of them, with 53 random bits.
fn unit(seed: u64) -> f64 {
    ((mix(seed) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// A hash that is the same in every process and on every machine, so that several gateways send a conversation to the same place. Fast, and
/// no secret: who knows it can make things meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(u64);

impl Hash {
    pub fn new(seed: u64) -> Self {
        Hash(mix(seed))
    }

    pub fn number(&mut self, number: u64) {
        // both halves of the product, so that each bit of the input reaches each bit of the state
        let product = u128::from(self.0 ^ number) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = ((product as u64) ^ ((product >> 64) as u64)).wrapping_add(0xd6e8_feb8_6659_fd93);
    }

    /// Its length counts, so that "ab" and "c" are not "a" and "bc".
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let words = bytes.chunks_exact(8);
        let rest = words.remainder();
        for word in words {
            self.number(word.try_into().map_or(0, u64::from_le_bytes));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.number(u64::from_le_bytes(last));
        }
    }

    pub fn finish(self) -> u64 {
        mix(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_in_proportion() {
        let mut counts = [0u32; 3];
        for seed in 0..40_000 {
            counts[weighted(&[1, 0, 3], seed).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        let share = f64::from(counts[2]) / 40_000.0;
        assert!((0.74..0.76).contains(&share), "{share}");
        assert_eq!(weighted(&[0, 0], 1), None);
    }

    #[test]
    fn two_are_two() {
        for seed in 0..1000 {
            let (a, b) = two(2 + (seed as usize % 5), seed);
            assert!(a != b && a < 2 + (seed as usize % 5) && b < 2 + (seed as usize % 5));
        }
    }

    #[test]
    fn drawn_one_after_the_other_the_first_follow_the_weights_and_weight_0_is_last() {
        let weights = [1, 0, 3, 4];
        let mut firsts = [0u32; 4];
        for seed in 0..40_000u64 {
            let mut order: Vec<usize> = (0..weights.len()).collect();
            let place = |n: usize| draw(weights[n], mix(seed) ^ n as u64);
            order.sort_by(|a, b| place(*a).total_cmp(&place(*b)));
            firsts[order[0]] += 1;
            assert_eq!(order[3], 1);
        }
        for (n, share) in [(0, 0.125), (2, 0.375), (3, 0.5)] {
            let found = f64::from(firsts[n]) / 40_000.0;
            assert!((found - share).abs() < 0.01, "{n}: {found}");
        }
    }

    #[test]
    fn rendezvous_gives_each_its_share() {
        let places: Vec<(u64, u32)> = vec![(11, 1), (12, 1), (13, 2), (14, 4)];
        let mut firsts = [0u32; 4];
        for key in 0..40_000 {
            firsts[rendezvous(mix(key), &places)[0]] += 1;
        }
        for (n, share) in [(0, 0.125), (1, 0.125), (2, 0.25), (3, 0.5)] {
            let found = f64::from(firsts[n]) / 40_000.0;
            assert!((found - share).abs() < 0.01, "{n}: {found}");
        }
    }

    #[test]
    fn a_share_of_the_load_is_bounded_by_weight() {
        // 10 in flight at 2 equal places: 6 is a quarter above the mean of 5.5, rounded down
        assert!(within_bound(6, 10, 2) && !within_bound(7, 10, 2));
        // of 1 and 3: a quarter above 11 / 4 and 33 / 4
        assert!(within_share(3, 10, 1, 4) && !within_share(4, 10, 1, 4));
        assert!(within_share(10, 10, 3, 4) && !within_share(11, 10, 3, 4));
        assert!(within_bound(0, 0, 100) && within_share(0, 0, 0, 0));
    }

    #[test]
    fn a_hash_tells_texts_apart_and_is_the_same_everywhere() {
        let of = |parts: &[&str]| {
            let mut hash = Hash::new(7);
            parts.iter().for_each(|part| hash.bytes(part.as_bytes()));
            hash.finish()
        };
        let texts = ["", "a", "b", "ab", "a\0", "abcdefgh", "abcdefghi", "abcdefgh\0", "system prompt"];
        let hashes: std::collections::HashSet<u64> = texts.iter().map(|text| of(&[text])).collect();
        assert_eq!(hashes.len(), texts.len());
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        let many: std::collections::HashSet<u64> = (0..100_000).map(|n| of(&[&n.to_string()])).collect();
        assert_eq!(many.len(), 100_000);
        // another release of this program must send a conversation to the same place
        assert_eq!(of(&["system prompt"]), 6_770_637_216_619_685_179);
    }

    #[test]
    fn one_that_leaves_moves_only_its_own_keys() {
        let all: Vec<(u64, u32)> = (0..10).map(|id| (id, 1)).collect();
        let less: Vec<(u64, u32)> = all[..9].to_vec();
        for key in 0..1000 {
            let before = rendezvous(key, &all)[0];
            let after = rendezvous(key, &less)[0];
            assert!(before == 9 || before == after);
        }
    }
}
