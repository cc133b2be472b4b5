//! What names the operator's account in an error's words: organisations, projects, keys. It goes no further.

/// How such words begin, in lower case.
const PREFIXES: [&str; 15] = [
    "sk-", "sk_", "pk-", "gsk_", "xai-", "hf_", "pplx-", "aiza", "org-", "org_", "proj_", "proj-", "user_", "user-",
    "acct_",
];

/// The words of an error without account ids and keys, whole or masked by the provider (`sk-ab***yz`).
pub fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // the word behind "key provided:" is one, whatever it looks like
    let mut key_follows = false;
    while !rest.is_empty() {
        let word_starts = rest.find(in_word).unwrap_or(rest.len());
        let (between, at) = rest.split_at(word_starts);
        out.push_str(between);
        let word_ends = at.find(|c| !in_word(c)).unwrap_or(at.len());
        let (word, after) = at.split_at(word_ends);
        // a full stop behind the last word of a sentence is not the word's
        let bare = word.trim_end_matches('.');
        if !bare.is_empty() && (key_follows || names_an_account(bare)) {
            out.push_str("[redacted]");
            out.push_str(word.get(bare.len()..).unwrap_or_default());
        } else {
            out.push_str(word);
        }
        key_follows =
            bare == "provided" && after.starts_with(": ") && out.to_ascii_lowercase().ends_with("key provided");
        rest = after;
    }
    out
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '.')
}

fn names_an_account(word: &str) -> bool {
    if word.contains("***") {
        return true;
    }
    let lower = word.to_ascii_lowercase();
    let Some(id) = PREFIXES.iter().find_map(|prefix| lower.strip_prefix(prefix)) else { return false };
    // `user_id` and `org-wide` are words; an id has digits, or is long
    lower.starts_with("sk-") && id.len() >= 6
        || id.len() >= 6 && id.contains(|c: char| c.is_ascii_digit())
        || id.len() >= 16
}

#[cfg(test)]
mod tests {
    use super::scrub;

    #[test]
    fn accounts_and_keys_are_taken_out_and_words_stay() {
        for (text, expected) in [
            (
                "Limit reached in organization org-AbCdEf12345 on tokens",
                "Limit reached in organization [redacted] on tokens",
            ),
            ("in organization `org_01hxyz99` service tier", "in organization `[redacted]` service tier"),
            ("Incorrect API key provided: sk-fake-key. You", "Incorrect API key provided: [redacted]. You"),
            ("Incorrect API key provided: whatever", "Incorrect API key provided: [redacted]"),
            ("Your api key: ****-key is invalid", "Your api key: [redacted] is invalid"),
            ("project proj_a1b2c3d4e5.", "project [redacted]."),
            ("sk-proj-abc***xyz", "[redacted]"),
            ("an org-wide user_id for task-force", "an org-wide user_id for task-force"),
            ("Unknown variant `image_url` at line 1.", "Unknown variant `image_url` at line 1."),
            ("", ""),
        ] {
            assert_eq!(scrub(text), expected);
        }
    }
}
