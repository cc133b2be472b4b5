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
        .map(|(n, (id, weight))| {
            // 53 bits, in (0, 1)
            let unit = ((mix(key ^ mix(*id)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            (-f64::from(*weight) / unit.ln(), n)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().map(|(_, n)| n).collect()
}

/// Whether one with `load` calls in flight may take another, when `all` are in flight at `count` places and none should have
/// more than a quarter above the mean (consistent hashing with bounded loads).
pub fn within_bound(load: u32, all: u32, count: usize) -> bool {
    let count = u64::try_from(count).unwrap_or(1).max(1);
    let most = (u64::from(all) + 1) * 5;
    u64::from(load) * 4 * count < most.max(4 * count)
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
