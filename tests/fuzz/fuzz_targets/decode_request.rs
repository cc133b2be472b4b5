//! `rules::decode_request` on what the fuzzer makes up, most of it changed as JSON.
#![no_main]

use tollgate_fuzz::{mutate, rules};

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mixed(data, size, max_size, seed, libfuzzer_sys::fuzzer_mutate)
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| rules::decode_request(data));
