//! Which result answers which call. Older Gemini gives calls no ids: there the order says it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use crate::dialect::gemini::NAMELESS;

/// Gives each call an id where the model gave none, and finds the call that a result without an id answers: the oldest of its name that
/// is still open.
#[derive(Debug, Default)]
pub struct Calls {
    /// Makes an answer's ids differ from those of other answers: what its own id leaves of letters and digits.
    answer: String,
    made: usize,
    given: HashSet<String>,
    /// Ids in the order of the calls: of each name, and of all. Those that are answered are taken out when they come up.
    of_name: HashMap<String, VecDeque<String>>,
    all: VecDeque<String>,
    answered: HashSet<String>,
    /// The last call to a tool that the provider runs: its result stands behind it.
    server: Option<String>,
}

/// Of an answer's id, so many bytes: no dialect's limit for a call's id is below 40.
const ANSWER: usize = 26;

// === impl Calls ===

impl Calls {
    /// Of the answer with this id.
    pub fn of_answer(id: Option<&str>) -> Self {
        let plain = id.unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        Calls { answer: plain.take(ANSWER).collect(), ..Calls::default() }
    }

    pub fn called<'a>(&mut self, id: Option<Cow<'a, str>>, name: &str) -> Cow<'a, str> {
        let id = match id.filter(|id| !id.is_empty()) {
            Some(id) => {
                self.given.insert(id.to_string());
                id
            }
            None => Cow::Owned(self.make(NAMELESS)),
        };
        self.answered.remove(&*id);
        self.of_name.entry(name.to_owned()).or_default().push_back(id.to_string());
        self.all.push_back(id.to_string());
        id
    }

    pub fn answered<'a>(&mut self, id: Option<Cow<'a, str>>, name: Option<&str>) -> Cow<'a, str> {
        let id = match id.filter(|id| !id.is_empty()) {
            Some(id) => id,
            None => {
                let mut nobody = VecDeque::new();
                let open = match name {
                    Some(name) => self.of_name.get_mut(name).unwrap_or(&mut nobody),
                    None => &mut self.all,
                };
                let oldest = std::iter::from_fn(|| open.pop_front()).find(|id| !self.answered.contains(id));
                Cow::Owned(oldest.unwrap_or_else(|| self.make(NAMELESS)))
            }
        };
        self.answered.insert(id.to_string());
        id
    }

    /// A call to one of the provider's tools.
    pub fn server_called<'a>(&mut self, id: Option<Cow<'a, str>>) -> Cow<'a, str> {
        let id = id.unwrap_or_else(|| Cow::Owned(self.make("server_")));
        self.server = Some(id.to_string());
        id
    }

    pub fn server_answered<'a>(&mut self, id: Option<Cow<'a, str>>) -> Cow<'a, str> {
        match (id, self.server.take()) {
            (Some(id), _) => id,
            (None, Some(id)) => Cow::Owned(id),
            (None, None) => Cow::Owned(self.make("server_")),
        }
    }

    /// The id of a search that nobody showed as a call.
    pub fn search(&mut self) -> String {
        self.make("search_")
    }

    fn make(&mut self, prefix: &str) -> String {
        loop {
            let number = self.made;
            self.made += 1;
            let id = match self.answer.as_str() {
                "" => format!("{prefix}{number}"),
                answer => format!("{prefix}{answer}_{number}"),
            };
            if !self.given.contains(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_without_an_id_answers_the_oldest_open_call_of_its_name() {
        let mut calls = Calls::default();
        let first = calls.called(None, "f").into_owned();
        let other = calls.called(Some("id-1".into()), "g").into_owned();
        let second = calls.called(None, "f").into_owned();
        assert_ne!(first, second);
        assert_eq!(calls.answered(None, Some("f")), first);
        assert_eq!(calls.answered(Some("id-1".into()), Some("g")), other);
        assert_eq!(calls.answered(None, Some("f")), second);
        assert_ne!(calls.answered(None, Some("f")), second);
    }

    #[test]
    fn ids_differ_from_answer_to_answer_and_are_short() {
        let mut calls = Calls::of_answer(Some("ldcEaoCaO72smtkPzqzB8Aw/é and much more of it"));
        let id = calls.called(None, "f").into_owned();
        assert!(id.starts_with(NAMELESS) && id.contains("ldcEaoCaO72smtkPzqzB8Aw") && id.len() <= 40, "{id}");
        assert_ne!(calls.called(None, "f"), id);
    }
}
