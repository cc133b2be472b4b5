//! The rules of the fuzz targets (`tests/fuzz`) on their seeds and the neighbours of these: what a fuzzer finds becomes a seed and stays
//! found.

#[allow(dead_code, reason = "a part of it is for libFuzzer alone")]
#[path = "fuzz/src/mutate.rs"]
mod mutate;
#[path = "fuzz/src/rules/mod.rs"]
mod rules;

use std::path::Path;

use tollgate::{chat, dialect, error, json, units};

type Rule = fn(&[u8]);

/// What a byte is changed to: what the grammars are made of.
const BYTES: &[u8] = b"\"\\{}[]:,0-e. \r\nud\0\xff";
/// So many changed trees of each seed that is read as a whole.
const CHANGED: u64 = 90;

#[test]
fn what_the_scan_accepts_serde_reads_the_same() {
    assert!(replay("json_scan", cut_and_changed, rules::json_scan) >= 5);
}

#[test]
fn what_the_tree_accepts_serde_reads_the_same() {
    assert!(replay("json_tree", cut_and_changed, rules::json_tree) >= 5);
}

#[test]
fn however_a_stream_is_cut_its_frames_are_the_same() {
    assert!(replay("sse_frames", cut_and_changed, rules::sse_frames) >= 3);
    assert!(replay("event_stream", cut, rules::event_stream) >= 3);
}

#[test]
fn a_request_that_can_be_read_can_be_said_to_every_provider() {
    assert!(replay("decode_request", grown, rules::decode_request) >= 10);
}

#[test]
fn whatever_a_provider_answers_every_client_can_read() {
    assert!(replay("decode_response", grown, rules::decode_response) >= 15);
}

#[test]
fn an_answer_in_words_is_the_same_in_every_client_s_dialect() {
    assert!(replay("round_trip", cut_and_changed, rules::round_trip) >= 3);
}

/// How many seeds there were.
fn replay(target: &str, neighbours: fn(&[u8], Rule), rule: Rule) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut seeds: Vec<_> =
        std::fs::read_dir(&folder).expect("the folder of the seeds").map(|seed| seed.expect("a seed").path()).collect();
    seeds.retain(|seed| seed.file_name().is_none_or(|name| name != "README.md"));
    for seed in &seeds {
        let data = std::fs::read(seed).expect("a file");
        rule(&data);
        neighbours(&data, rule);
    }
    seeds.len()
}

/// Every beginning.
fn cut(data: &[u8], rule: Rule) {
    (0..data.len()).for_each(|end| rule(&data[..end]));
}

/// Every beginning, and every byte changed.
fn cut_and_changed(data: &[u8], rule: Rule) {
    assert!(data.len() <= 512, "the seed is small: all of its neighbours are tried");
    cut(data, rule);
    let mut data = data.to_vec();
    for at in 0..data.len() {
        let before = data[at];
        for byte in BYTES {
            data[at] = *byte;
            rule(&data);
        }
        data[at] = before;
    }
}

/// Changed as a tree, each on the one before.
fn grown(data: &[u8], rule: Rule) {
    let mut pool = mutate::Pool::new();
    for walk in 0..CHANGED / 3 {
        let mut dice = mutate::Dice::new(walk);
        let mut changed = data.to_vec();
        for _ in 0..3 {
            changed = mutate::mutate(&changed, &mut dice, &mut pool);
            rule(&changed);
        }
    }
}
