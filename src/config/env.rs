//! Values from the environment: `${NAME}` and its kin inside one scalar, after the file was parsed, so that a value can never
//! add keys or lines. Owns the syntax; which variables may be missing is the caller's question.
//!
//! The forms are those of the shell (POSIX.1-2024 XCU 2.6.2) that Docker Compose made known: `${NAME}`, `${NAME:-default}`,
//! `${NAME:?message}`, and `$$` for a dollar sign. Any other `$` stands for itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::error::quote;

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where variables are looked up: the process' own, or a table in a test.
#[derive(Clone)]
pub struct Environment(Arc<Lookup>);

impl Environment {
    /// The variables of this process. One that is not UTF-8 counts as not set.
    pub fn process() -> Self {
        Environment(Arc::new(|name| std::env::var(name).ok()))
    }

    pub fn from_fn(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Environment(Arc::new(lookup))
    }

    /// Exactly these variables.
    pub fn of<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        let table: HashMap<String, String> = variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Environment(Arc::new(move |name| table.get(name).cloned()))
    }

    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// A scalar after substitution.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expanded {
    /// Nothing to replace.
    Same,
    /// With values put in.
    New(String),
    /// Variables that are not set and have no default.
    Unset(Vec<String>),
    /// A form that does not exist, or a `${NAME:?message}` that fired; the text says what to write.
    Wrong(String),
}

pub(super) fn expand(text: &str, environment: &Environment) -> Expanded {
    if !text.contains('$') {
        return Expanded::Same;
    }
    let (mut out, mut rest, mut unset) = (String::with_capacity(text.len()), text, Vec::new());
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((inside, after)) = after.split_once('}') else {
                return Expanded::Wrong(
                    "\"${\" has no \"}\": close it, or write \"$${\" for the characters".to_owned(),
                );
            };
            match value_of(inside, environment) {
                Ok(value) => out.push_str(&value),
                Err(Expanded::Unset(names)) => unset.extend(names),
                Err(wrong) => return wrong,
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    if unset.is_empty() { Expanded::New(out) } else { Expanded::Unset(unset) }
}

/// The value for the text between the braces.
fn value_of(inside: &str, environment: &Environment) -> Result<String, Expanded> {
    let length = inside.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let (name, operator) = inside.split_at_checked(length).unwrap_or((inside, ""));
    let wrong = |what: &str| {
        Err(Expanded::Wrong(format!(
            "{} {what}: write \"${{NAME}}\", \"${{NAME:-default}}\" or \"${{NAME:?message}}\"",
            quote(&format!("${{{inside}}}"))
        )))
    };
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return wrong("has no variable name");
    }
    // As in the shell, the forms with a colon take an empty variable for an unset one.
    let value = environment.get(name);
    if operator.is_empty() {
        value.ok_or_else(|| Expanded::Unset(vec![name.to_owned()]))
    } else if operator.contains("${") {
        wrong("holds another \"${\"; that is not supported")
    } else if let Some(default) = operator.strip_prefix(":-") {
        Ok(value.filter(|v| !v.is_empty()).unwrap_or_else(|| default.to_owned()))
    } else if let Some(message) = operator.strip_prefix(":?") {
        value.filter(|v| !v.is_empty()).ok_or_else(|| {
            let message = if message.is_empty() { "it is needed here" } else { message };
            Expanded::Wrong(format!("variable {name} is not set: {message}"))
        })
    } else {
        wrong("has an unknown operator")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(text: &str) -> Expanded {
        expand(text, &Environment::of([("A", "alpha"), ("EMPTY", ""), ("TRICKY", "x: {y: ${A}} # $A\n- z")]))
    }

    fn new(text: &str) -> Expanded {
        Expanded::New(text.to_owned())
    }

    #[test]
    fn the_forms_are_those_of_the_shell() {
        assert_eq!(run("plain"), Expanded::Same);
        assert_eq!(run("${A}"), new("alpha"));
        assert_eq!(run("<${A}/${A}>"), new("<alpha/alpha>"));
        assert_eq!(run("${B:-beta}"), new("beta"));
        assert_eq!(run("${B:-}"), new(""));
        assert_eq!(run("${EMPTY:-beta}"), new("beta"));
        assert_eq!(run("${EMPTY}"), new(""));
        assert_eq!(run("${A:-beta}"), new("alpha"));
        assert_eq!(run("${A:?no}"), new("alpha"));
        assert_eq!(run("$$"), new("$"));
        assert_eq!(run("$${A}"), new("${A}"));
        assert_eq!(run("$A costs 5$"), new("$A costs 5$"));
    }

    #[test]
    fn unset_variables_are_named_all_at_once() {
        assert_eq!(run("${B}-${A}-${C}"), Expanded::Unset(vec!["B".to_owned(), "C".to_owned()]));
    }

    #[test]
    fn a_wrong_form_says_what_to_write() {
        let Expanded::Wrong(message) = run("${B:?set it in the unit file}") else { panic!() };
        assert_eq!(message, "variable B is not set: set it in the unit file");
        for text in ["${", "${}", "${A", "${1}", "${A-b}", "${A:=b}", "${A:-${B}}", "${ A }"] {
            assert!(matches!(run(text), Expanded::Wrong(_)), "{text}");
        }
    }

    #[test]
    fn a_value_is_not_read_again() {
        assert_eq!(run("${TRICKY}"), new("x: {y: ${A}} # $A\n- z"));
    }

    proptest! {
        #[test]
        fn any_text_is_expanded_or_refused_and_never_panics(text in "[$A{}:?\\-é ]{0,24}") {
            let _ = run(&text);
        }

        #[test]
        fn doubled_dollars_give_the_text_back(text in "\\PC{0,24}") {
            let expected = if text.contains('$') { new(&text) } else { Expanded::Same };
            prop_assert_eq!(run(&text.replace('$', "$$")), expected);
        }
    }
}
