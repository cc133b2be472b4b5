//! What went wrong, fit to be shown: one line, short, without anything that looks like a credential.
//!
//! The caller gives our own words or a provider's message. Providers repeat keys in theirs ("Incorrect API key provided: sk-..."), so
//! what may be one is masked, and with it some ids that are none.

/// In characters.
const LONGEST: usize = 300;
const MASK: &str = "[...]";
/// How keys of well-known providers begin.
const KEYS: [&str; 12] = ["sk-", "sk_", "pk-", "rk_", "gsk_", "xai-", "AIza", "AKIA", "ASIA", "ya29", "eyJ", "hf_"];
/// A run with a part so long, of letters and digits mixed, is random.
const RANDOM_RUN: usize = 32;
const RANDOM_PART: usize = 16;

pub fn clean(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len().min(LONGEST * 4));
    // more than enough for what is shown, however long the text
    let text: String = text.chars().take(LONGEST * 8).collect();
    let mut bearer = false;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        if bearer {
            out.push_str(MASK)
        } else {
            push_masked(&mut out, word)
        }
        bearer = word.to_ascii_lowercase().trim_end_matches([':', '=']).ends_with("bearer");
    }
    if out.chars().count() > LONGEST {
        let end = out.char_indices().nth(LONGEST - 1).map_or(out.len(), |(at, _)| at);
        out.truncate(end);
        out.push('…');
    }
    out.into()
}

/// A word, its runs of letters, digits, `-` and `_` looked at one by one.
fn push_masked(out: &mut String, word: &str) {
    let in_run = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let run = in_run(first);
        let end = rest.find(|c| in_run(c) != run).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        out.push_str(if run && is_secret(piece) { MASK } else { piece });
        rest = after;
    }
}

fn is_secret(run: &str) -> bool {
    let known = KEYS.iter().any(|key| run.len() >= key.len() + 4 && run.starts_with(key));
    let longest = run.split(['-', '_']).map(str::len).max().unwrap_or(0);
    let mixed = run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic());
    let uuid = run.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    known || uuid || (mixed && run.len() >= RANDOM_RUN && longest >= RANDOM_PART)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_looks_like_a_credential_is_masked() {
        for (text, shown) in [
            ("Incorrect API key provided: sk-proj-abc***xyz. You", "Incorrect API key provided: [...]***xyz. You"),
            ("authorization: Bearer abc.def", "authorization: Bearer [...]"),
            ("GET /v1?key=AIzaSyD-1234567890abcdef failed", "GET /v1?key=[...] failed"),
            ("key 0123456789abcdef0123456789abcdef is bad", "key [...] is bad"),
            ("\"3f2b8c1e-1111-2222-3333-444455556666\"", "\"[...]\""),
            ("token eyJhbGciOi.eyJzdWIi.c2ln", "token [...].[...].c2ln"),
        ] {
            assert_eq!(&*clean(text), shown);
        }
    }

    #[test]
    fn names_of_models_and_plain_words_are_not() {
        for text in [
            "503 from us.anthropic.claude-sonnet-4-5-20250929-v1:0: overloaded",
            "model accounts/fireworks/models/llama-v3p1-405b-instruct not found",
            "nvidia/llama-3_1-nemotron-ultra-253b-v1: connection reset by peer (os error 104)",
            "timeout: no header section within 60 s",
            "the model's risk-free eyJ sk- answer",
        ] {
            assert_eq!(&*clean(text), text);
        }
    }

    #[test]
    fn it_is_one_line_of_at_most_300_characters() {
        assert_eq!(&*clean("  a\r\n\tb\0c \x1b[31m "), "a b c [31m");
        let long = clean(&"wörd ".repeat(10_000));
        assert_eq!(long.chars().count(), 300);
        assert!(long.ends_with('…'));
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_short_line(text in any::<String>()) {
            let shown = clean(&text);
            prop_assert!(shown.chars().count() <= LONGEST);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
