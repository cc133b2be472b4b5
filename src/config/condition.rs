//! Rules (`routes:`): which calls they mean, and the model those go to instead. And their conditions, written in CEL.
//!
//! The names a condition may use, and what each holds, stand in [`NAMES`]; everything else is refused when the configuration is loaded, with its
//! place. The language: <https://github.com/google/cel-spec>, "Language definition". How it is evaluated here is no one else's business: no type
//! of the library leaves this file.
//!
//! Bounded: an expression has 4 KiB at most, is nested 32 deep at most and loops within loops twice at most, over lists of at most 128.

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
const DEEPEST: usize = 32;
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
        too_deep(text)?;
        // the library's parser is generated code, and what is typed can be anything
        let parsed = catch_unwind(|| LANGUAGE.compile(text));
        let program = match parsed {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => return Err(NoCondition::of(&errors)),
            Err(_) => return Err(NoCondition::whole("cannot be parsed".to_owned())),
        };
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
        NoCondition { at, what: error.msg.lines().next().unwrap_or_default().trim().to_owned() }
    }
}

// === judging ===

/// Brackets, and operators of which each stands within the next. The parser and the evaluation go as deep as the text.
fn too_deep(text: &str) -> Result<(), NoCondition> {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        deepest = deepest.max(depth);
    }
    match deepest > DEEPEST {
        true => Err(NoCondition::whole(format!("is nested deeper than {DEEPEST} levels"))),
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
        // a chain of operators stands within itself: 64 of them are more than anybody reads
        if depth > 2 * DEEPEST {
            return Err(self.wrong(node, format!("is nested deeper than {} levels", 2 * DEEPEST)));
        }
        let below = depth + 1;
        match &node.expr {
            Expr::Ident(name) => self.name(node, name),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root) if !self.bound.contains(&root.as_str()) => self.member(node, root, &select.field),
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
        if self.bound.contains(&name) || TYPES.contains(&name) {
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
        let Some((root, members)) = NAMES.iter().find(|(known, _)| *known == root) else {
            return self.name(node, root);
        };
        if !members.contains(&member) {
            return Err(self.wrong(node, format!("there is no \"{root}.{member}\": {}", advice(member, members))));
        }
        self.reads_body |= *root == "request" && OF_BODY.contains(&member);
        Ok(())
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
        let at = info.offset_for(node.id).and_then(|(start, _)| {
            // counted in characters
            let before: String = info.source.chars().take(start as usize).collect();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            Some((line, column))
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
