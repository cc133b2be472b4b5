//! The rules of the fuzz targets (`tests/fuzz`) on their seeds, each seed cut at every byte and with every byte changed: what a fuzzer
//! finds becomes a seed and stays found.

#[path = "fuzz/src/rules.rs"]
mod rules;

use std::path::Path;

use tollgate::dialect::sse;
use tollgate::json::scan;

/// What a byte is changed to: what the grammars are made of.
const BYTES: &[u8] = b"\"\\{}[]:,0-e. \r\nud\0\xff";

#[test]
fn what_the_scan_accepts_serde_reads_the_same() {
    assert!(replay("json_scan", rules::json_scan) >= 5);
}

#[test]
fn however_a_stream_is_cut_its_frames_are_the_same() {
    assert!(replay("sse_frames", rules::sse_frames) >= 3);
}

/// How many seeds there were.
fn replay(target: &str, rule: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let seeds = std::fs::read_dir(&folder).expect("the folder of the seeds");
    let mut count = 0;
    for seed in seeds {
        let mut data = std::fs::read(seed.expect("a seed").path()).expect("a file");
        assert!(data.len() <= 512, "seeds are small: all of their neighbours are tried");
        for end in 0..=data.len() {
            rule(&data[..end]);
        }
        for at in 0..data.len() {
            let before = data[at];
            for byte in BYTES {
                data[at] = *byte;
                rule(&data);
            }
            data[at] = before;
        }
        count += 1;
    }
    count
}
