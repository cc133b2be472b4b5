//! Rules (`routes:`): which calls they mean, and the model those go to instead. And their conditions, written in CEL.
//!
//! The names a condition may use, and what each holds, stand in [`NAMES`]; everything else is refused when the configuration is loaded, with its
//! place. The language: <https://github.com/google/cel-spec>, "Language definition". How it is evaluated here is no one else's business: no type
//! of the library leaves this file.
//!
//! Bounded: an expression has 4 KiB and 512 operators at most, is nested 24 deep at most and loops within loops twice at most, over lists of at
//! most 128.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use cel::common::types::{CelBool, CelInt, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::objects::{Key as MapKey, Map};
use cel::{Context, Env, IdedExpr, Program, Value};
use http::{HeaderMap, HeaderName};

use super::error::nearest;
use super::snapshot::{Key, Pattern};
use crate::id::ModelName;

/// Longest expression, in bytes.
pub const LONGEST: usize = 4096;
/// Most operators and brackets.
const SIGNS: usize = 512;
/// Deepest nesting.
const DEEPEST: usize = 24;
/// What the parser needs for [`SIGNS`] in a debug build, four times.
const STACK: usize = 64 << 20;
const LOOPS: usize = 2;
/// Most header fields a condition sees.
const HEADERS: usize = 128;

/// Never shown to a rule: they hold the caller's credentials.
pub const HIDDEN: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "cookie",
    "x-amz-security-token",
];

/// What a condition may name. The last three are read from the body, which costs its walk.
const NAMES: [(&str, &[&str]); 2] = [
    ("request", &["model", "operation", "path", "stream", "headers", "tokens", "needs", "tools"]),
    ("key", &["name", "tags"]),
];
const OF_BODY: [&str; 3] = ["tokens", "needs", "tools"];
const FUNCTIONS: [&str; 13] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "dyn",
    "type",
];
const TYPES: [&str; 10] = ["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"];

/// Some calls go to another model than they ask for. The first rule that matches is applied, and no other after it.
#[derive(Debug)]
pub struct Rule {
    pub name: Box<str>,
    pub matches: Match,
    /// And then this must hold, too.
    pub when: Option<Condition>,
    /// An entry, or `provider/model`.
    pub model: ModelName,
}

/// Which calls. All that is written must fit; of a list, one. An empty list fits every call.
#[derive(Debug, Default)]
pub struct Match {
    /// What the client asked for.
    pub model: Vec<Pattern>,
    /// The virtual key's name; never fits where there are no keys.
    pub key: Vec<Pattern>,
    pub header: Vec<(HeaderName, Vec<Pattern>)>,
    /// The key's tags.
    pub tag: Vec<(Arc<str>, Vec<Pattern>)>,
    pub path: Vec<Pattern>,
}

/// A CEL expression, checked and ready.
pub struct Condition {
    text: Box<str>,
    program: Program,
    reads_body: bool,
}

/// What a condition is asked about.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    pub model: &'a str,
    pub operation: &'static str,
    pub path: &'a str,
    pub stream: bool,
    pub headers: &'a HeaderMap,
    pub key: Option<&'a Key>,
    /// Of the input, estimated.
    pub tokens: u64,
    /// `vision`, `audio`, `documents`, `tools`, `json_schema`, `reasoning`.
    pub needs: Vec<&'static str>,
    /// Names of the tools that come with the call.
    pub tools: Vec<Box<str>>,
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCondition {
    /// Line and column within the expression, from 1. `None`: the whole of it.
    pub at: Option<(usize, usize)>,
    pub what: String,
}

static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

// === impl Condition ===

impl Condition {
    pub fn compile(text: &str) -> Result<Condition, NoCondition> {
        if text.len() > LONGEST {
            return Err(NoCondition::whole(format!("has {} bytes, more than the limit of {LONGEST}", text.len())));
        }
        simple_enough(text)?;
        // The library's parser is generated code that goes as deep as the text, and what is typed can be anything: it gets a stack of its own, and
        // if it panics, that is all that ends.
        let judged = std::thread::Builder::new()
            .name("condition".to_owned())
            .stack_size(STACK)
            .spawn({
                let text = text.to_owned();
                move || Self::judged(&text)
            })
            .map(std::thread::JoinHandle::join);
        match judged {
            Ok(Ok(judged)) => judged,
            Ok(Err(_)) => Err(NoCondition::whole("cannot be parsed".to_owned())),
            Err(error) => Err(NoCondition::whole(format!("cannot be parsed now: {error}"))),
        }
    }

    fn judged(text: &str) -> Result<Condition, NoCondition> {
        let program = LANGUAGE.compile(text).map_err(|errors| NoCondition::of(&errors))?;
        let mut judge = Judge { program: &program, bound: Vec::new(), reads_body: false };
        judge.expression(program.expression(), 0, 0)?;
        let reads_body = judge.reads_body;
        Ok(Condition { text: text.into(), program, reads_body })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it asks for what is only known once the body has been walked.
    pub fn reads_body(&self) -> bool {
        self.reads_body
    }

    /// `Err`: it could not be evaluated, or says neither true nor false, and why.
    pub fn holds(&self, subject: &Subject<'_>) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        context.set_variable_resolver(subject);
        let outcome = match catch_unwind(AssertUnwindSafe(|| self.program.execute(&context))) {
            Ok(Ok(Value::Bool(holds))) => return Ok(holds),
            Ok(Ok(other)) => format!("it is a {}, and neither true nor false", other.type_of()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it cannot be evaluated".to_owned(),
        };
        tracing::debug!(condition = %self.text, why = %outcome, "a rule's condition could not be evaluated");
        Err(outcome)
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.text, f)
    }
}

// === impl NoCondition ===

impl NoCondition {
    fn whole(what: String) -> Self {
        NoCondition { at: None, what }
    }

    /// The first of what the parser found.
    fn of(errors: &cel::ParseErrors) -> Self {
        let Some(error) = errors.errors.first() else { return Self::whole("cannot be parsed".to_owned()) };
        let (line, column) = error.pos;
        let at = usize::try_from(line).ok().zip(usize::try_from(column).ok()).filter(|(line, _)| *line > 0);
        let what = error.msg.lines().next().unwrap_or_default().trim_start_matches("Syntax error: ");
        // what could stand there instead is half of the language
        let what = what.split(" expecting ").next().unwrap_or(what);
        NoCondition { at, what: what.trim().to_owned() }
    }
}

// === judging ===

/// Few enough operators and brackets, so that there is an end to how deep the parser goes.
fn simple_enough(text: &str) -> Result<(), NoCondition> {
    let (mut signs, mut quote, mut escaped) = (0, None, false);
    for byte in text.bytes() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(end) => {
                escaped = byte == b'\\';
                quote = quote.filter(|_| byte != end);
            }
            None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
            None => signs += usize::from(byte.is_ascii_punctuation() && byte != b'_'),
        }
    }
    match signs > SIGNS {
        true => Err(NoCondition::whole(format!("has {signs} operators and brackets, more than the limit of {SIGNS}"))),
        false => Ok(()),
    }
}

/// Goes through a parsed expression once.
struct Judge<'a> {
    program: &'a Program,
    /// Names that a loop brings.
    bound: Vec<&'a str>,
    reads_body: bool,
}

impl<'a> Judge<'a> {
    fn expression(&mut self, node: &'a IdedExpr, depth: usize, loops: usize) -> Result<(), NoCondition> {
        // evaluation goes as deep, on a stack that is not its own
        if depth > DEEPEST {
            return Err(
                self.wrong(node, format!("is nested deeper than {DEEPEST} levels (a chain of operators counts, too)"))
            );
        }
        let below = depth + 1;
        match &node.expr {
            Expr::Ident(name) => self.name(node, name),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root) if NAMES.iter().any(|(known, _)| known == root) && !self.is_bound(root) => {
                    self.member(node, root, &select.field)
                }
                _ => self.expression(&select.operand, below, loops),
            },
            Expr::Call(call) => {
                if call.func_name.bytes().all(|b| b.is_ascii_alphanumeric())
                    && !FUNCTIONS.contains(&call.func_name.as_str())
                {
                    let advice = advice(&call.func_name, &FUNCTIONS);
                    return Err(self.wrong(node, format!("has no function \"{}\": {advice}", call.func_name)));
                }
                if call.func_name == "matches" {
                    self.pattern(node, call.args.last())?;
                }
                let mut each = call.target.as_deref().into_iter().chain(&call.args);
                each.try_for_each(|part| self.expression(part, below, loops))
            }
            Expr::Comprehension(over) => {
                if loops == LOOPS {
                    return Err(self.wrong(node, format!("loops within loops more than {LOOPS} deep")));
                }
                self.expression(&over.iter_range, below, loops)?;
                let before = self.bound.len();
                self.bound.extend([over.iter_var.as_str(), over.accu_var.as_str()]);
                self.bound.extend(over.iter_var2.as_deref());
                let mut each = [&over.accu_init, &over.loop_cond, &over.loop_step, &over.result].into_iter();
                let judged = each.try_for_each(|part| self.expression(part, below, loops + 1));
                self.bound.truncate(before);
                judged
            }
            Expr::List(list) => list.elements.iter().try_for_each(|part| self.expression(part, below, loops)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expression(&entry.key, below, loops)?;
                    self.expression(&entry.value, below, loops)
                }
                EntryExpr::StructField(field) => self.expression(&field.value, below, loops),
            }),
            Expr::Struct(made) => {
                Err(self.wrong(node, format!("there is no type \"{}\" to make one of", made.type_name)))
            }
            Expr::Literal(_) => Ok(()),
            Expr::Unspecified => Err(self.wrong(node, "is empty".to_owned())),
        }
    }

    fn name(&self, node: &IdedExpr, name: &str) -> Result<(), NoCondition> {
        if self.is_bound(name) || TYPES.contains(&name) {
            return Ok(());
        }
        let what = match NAMES.iter().find(|(root, _)| *root == name) {
            Some((root, members)) => format!("\"{root}\" is no value: write one of {}", listed(root, members)),
            None => {
                let [one, other] = NAMES.map(|(root, members)| listed(root, members));
                format!("there is no \"{name}\": write one of {one}, {other}")
            }
        };
        Err(self.wrong(node, what))
    }

    fn member(&mut self, node: &IdedExpr, root: &str, member: &str) -> Result<(), NoCondition> {
        let members = NAMES.iter().find(|(known, _)| *known == root).map_or(&[][..], |(_, members)| members);
        if !members.contains(&member) {
            return Err(self.wrong(node, format!("there is no \"{root}.{member}\": {}", advice(member, members))));
        }
        self.reads_body |= root == "request" && OF_BODY.contains(&member);
        Ok(())
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.contains(&name)
    }

    /// A regular expression that is written out is tried.
    fn pattern(&self, node: &IdedExpr, argument: Option<&IdedExpr>) -> Result<(), NoCondition> {
        let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }) = argument else { return Ok(()) };
        let pattern = Value::from(pattern.inner().to_owned());
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        context.add_variable_from_value("pattern", pattern);
        let tried = LANGUAGE.compile("''.matches(pattern)").map(|program| program.execute(&context));
        match tried {
            Ok(Err(error)) => {
                let error = error.to_string();
                let last = error.lines().last().unwrap_or_default();
                Err(self.wrong(node, format!("not a regular expression: {}", last.trim_start_matches("error: "))))
            }
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    fn wrong(&self, node: &IdedExpr, what: String) -> NoCondition {
        let info = self.program.source_info();
        let at = info.offset_for(node.id).map(|(start, _)| {
            let before = info.source.get(..start as usize).unwrap_or_default();
            let line = before.rsplit('\n').next().unwrap_or_default();
            (before.matches('\n').count() + 1, line.chars().count() + 1)
        });
        NoCondition { at, what }
    }
}

fn listed(root: &str, members: &[&str]) -> String {
    members.iter().map(|member| format!("{root}.{member}")).collect::<Vec<_>>().join(", ")
}

fn advice(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write one of {}", known.join(", ")),
    }
}

// === impl Subject ===

/// Found by their full names, so that what a condition does not name is not made.
impl VariableResolver for Subject<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let text = |text: &'b str| CowVal::owned(CelString::from(text));
        match name {
            "request.model" => Some(text(self.model)),
            "request.operation" => Some(text(self.operation)),
            "request.path" => Some(text(self.path)),
            "request.stream" => Some(CowVal::owned(CelBool::from(self.stream))),
            "request.headers" => made(self.headers()),
            "request.tokens" => Some(CowVal::owned(CelInt::from(i64::try_from(self.tokens).unwrap_or(i64::MAX)))),
            "request.needs" => made(Value::from(self.needs.iter().map(|n| Value::from(*n)).collect::<Vec<_>>())),
            "request.tools" => made(Value::from(self.tools.iter().map(|n| Value::from(&**n)).collect::<Vec<_>>())),
            "key.name" => Some(text(self.key.map_or("", |key| key.name.as_str()))),
            "key.tags" => made(self.tags()),
            _ => None,
        }
    }
}

impl Subject<'_> {
    /// Names in lower case; the lines of one are joined by commas (RFC 9110 5.3).
    fn headers(&self) -> Value {
        let mut fields: std::collections::HashMap<MapKey, Value> = std::collections::HashMap::new();
        for name in self.headers.keys().filter(|name| !HIDDEN.contains(&name.as_str())).take(HEADERS) {
            let lines: Vec<&str> =
                self.headers.get_all(name).iter().filter_map(|v| std::str::from_utf8(v.as_bytes()).ok()).collect();
            fields.insert(name.as_str().into(), lines.join(", ").into());
        }
        Value::Map(Map { map: Arc::new(fields) })
    }

    fn tags(&self) -> Value {
        let tags = self.key.into_iter().flat_map(|key| &key.tags);
        let tags = tags.map(|(tag, value)| (MapKey::from(&**tag), Value::from(&**value))).collect();
        Value::Map(Map { map: Arc::new(tags) })
    }
}

fn made<'b>(value: Value) -> Option<CowVal<'b, 'b>> {
    let value: Box<dyn Val> = value.try_into().ok()?;
    Some(CowVal::Owned(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let NoCondition { at, what } = Condition::compile(text).expect_err(text);
        at.map_or(what.clone(), |(line, column)| format!("{line}:{column}: {what}"))
    }

    fn subject(headers: &HeaderMap) -> Subject<'_> {
        Subject {
            model: "gpt-5",
            operation: "messages",
            path: "/v1/messages",
            stream: true,
            headers,
            key: None,
            tokens: 1234,
            needs: vec!["vision", "tools"],
            tools: vec!["shell".into(), "read".into()],
        }
    }

    fn outcome(text: &str) -> Result<bool, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-team", "a"), ("x-team", "b"), ("authorization", "Bearer s"), ("cookie", "s")] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        Condition::compile(text).unwrap_or_else(|e| panic!("{text}: {e:?}")).holds(&subject(&headers))
    }

    #[test]
    fn what_could_never_hold_is_refused_with_its_place() {
        for (text, wanted) in [
            ("request.strem", "1:8: there is no \"request.strem\": did you mean \"stream\"?"),
            ("true &&\n  request.modle == 'a'", "2:10: there is no \"request.modle\": did you mean \"model\"?"),
            (
                "'é' == 'é' && request.x",
                "1:22: there is no \"request.x\": write one of model, operation, path, stream, headers, tokens, needs, tools",
            ),
            ("key == 'a'", "1:1: \"key\" is no value: write one of key.name, key.tags"),
            (
                "size(key.tags, tagz) > 0",
                "1:16: there is no \"tagz\": write one of request.model, request.operation, request.path, request.stream, request.headers, request.tokens, request.needs, request.tools, key.name, key.tags",
            ),
            ("sise(request.tools) > 0", "1:5: has no function \"sise\": did you mean \"size\"?"),
            ("request.model.startswith('a')", "1:25: has no function \"startswith\": did you mean \"startsWith\"?"),
            ("request.model.matches('(a')", "1:22: not a regular expression: unclosed group"),
            ("request.model ==", "1:17: mismatched input '<EOF>'"),
            ("", "1:1: mismatched input '<EOF>'"),
            ("'a", "1:1: token recognition error at: ''a'"),
            ("Thing{a: 1}", "1:6: there is no type \"Thing\" to make one of"),
            (
                "request.tools.all(a, request.tools.all(b, request.tools.all(c, a == b + c)))",
                "1:60: loops within loops more than 2 deep",
            ),
        ] {
            assert_eq!(refused(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_condition_sees_what_is_documented() {
        for text in [
            "request.model == 'gpt-5' && request.operation == 'messages' && request.path.startsWith('/v1/')",
            "request.stream && request.tokens > 1000 && request.tokens == 1234",
            "request.headers['x-team'] == 'a, b' && 'x-team' in request.headers",
            "has(request.headers.cookie) == false && !('authorization' in request.headers)",
            "'vision' in request.needs && size(request.needs) == 2",
            "request.tools.exists(t, t.startsWith('sh')) && request.tools[1] == 'read'",
            "key.name == '' && size(key.tags) == 0",
            "request.model.matches('^gpt-[0-9]+$') ? true : false",
            "request.tools.filter(request, request == 'read').size() == 1",
            "// said aside\n true",
        ] {
            assert_eq!(outcome(text), Ok(true), "{text}");
        }
        assert_eq!(outcome("request.tokens < 1000"), Ok(false));
        let reads_body = |text| Condition::compile(text).unwrap().reads_body();
        assert!(reads_body("size(request.tools) > 0") && !reads_body("request.stream && key.tags['tools'] == 'needs'"));
    }

    #[test]
    fn what_cannot_be_evaluated_says_why() {
        for (text, why) in [
            ("request.headers['x'] == 'a'", "No such key: x"),
            ("request.model", "it is a string, and neither true nor false"),
            ("request.tokens / (request.tokens - 1234) > 0", "Division by zero of Int(1234)"),
            ("request.tools[7] == 'a'", "Index out of bounds: Int(7)"),
        ] {
            assert_eq!(outcome(text), Err(why.to_owned()), "{text}");
        }
    }

    /// In time, and without a panic; and what is accepted can be evaluated on a small stack.
    #[test]
    fn no_text_is_too_odd_to_be_judged() {
        let many = |part: &str, times: usize| part.repeat(times);
        let texts = [
            many("(", 4096),
            many("(", 500),
            many("[", 500),
            many("{", 500),
            many("{1:", 250),
            format!("{}1", many("1+", 500)),
            format!("{}1", many("1+", 23)),
            format!("{}1", many("-", 500)),
            format!("{}true", many("!", 500)),
            format!("{}1", many("1?", 500)),
            format!("{}true", many("true?true:", 250)),
            format!("{}true", many("true?true:", 23)),
            format!("request.headers{}", many(".a", 500)),
            format!("request.tools{}", many("[0]", 250)),
            format!("{}true", many("true||", 250)),
            format!("{}1{}", many("(", 250), many(")", 250)),
            format!("{}1{}", many("[", 250), many("]", 250)),
            format!("{}1{}", many("[", 24), many("]", 24)),
            format!("{}x", many("x.map(x,", 120)),
            format!("request.tools{}", many(".map(x,x)", 100)),
            many("\\", 500),
            many("'", 4000),
            many("\u{0}", 4000),
            many("\u{1f600}", 1000),
            many("a.", 500),
            many("x in ", 800),
            many("9", 4000),
            many("request.", 500),
            "request.headers[request.headers]".to_owned(),
            "'\\ud800'".to_owned(),
            "b'\\377' == r'\\'".to_owned(),
            "''.matches('(a{1000}){1000}')".to_owned(),
            "[1].map(a, 1, 2, 3)".to_owned(),
            "has(a)".to_owned(),
            "-9223372036854775808 / -1 == 1".to_owned(),
            "int('9' + '9') % 0 == 1".to_owned(),
            "1u - 2u == 1u".to_owned(),
            "size('a' * 9) == 1".to_owned(),
            "double(1e308) * 10.0 > 1.0".to_owned(),
            "int(1e300) == 1".to_owned(),
        ];
        let small = || {
            for text in texts {
                let begun = std::time::Instant::now();
                if let Ok(condition) = Condition::compile(&text) {
                    let _ = condition.holds(&subject(&HeaderMap::new()));
                }
                // 0.1 s in a debug build; the bound is for a busy machine
                assert!(begun.elapsed().as_secs() < 5, "{text:.20}: {:?}", begun.elapsed());
            }
        };
        std::thread::Builder::new().stack_size(1 << 20).spawn(small).unwrap().join().unwrap();
    }

    #[test]
    fn loops_over_the_longest_lists_end_soon() {
        let headers = HeaderMap::new();
        let tools = (0..128).map(|n| format!("tool-{n}").into()).collect();
        let subject = Subject { tools, ..subject(&headers) };
        let text = "request.tools.all(a, request.tools.all(b, a + b != a))";
        let condition = Condition::compile(text).unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(condition.holds(&subject), Ok(true));
        // 16384 rounds: 50 ms in a debug build
        assert!(begun.elapsed().as_secs() < 3, "{:?}", begun.elapsed());
        println!("16384 rounds: {:?}", begun.elapsed());
    }
}
