//! The documents hold: generated tables are up to date, every snippet works as printed, every link leads somewhere.
//!
//! `TOLLGATE_WRITE_DOCS=1 cargo test --test docs` writes the generated parts anew. The language of a fenced block says how it is
//! checked:
//!
//! ```text
//! yaml             loads as a configuration
//! json             is JSON
//! bash python js   run as they stand against `tollgate demo` (python and js with the SDKs that tests/clients/run installs, and
//!                  bash that calls an agent with those it installs)
//! sh               commands for a machine: the syntax, each `tollgate ..` with its arguments, each `make` target, each file named
//! text             nothing to check
//! ```
//!
//! Where the SDKs or the agents are missing, what needs them is left out and it is said; with CI or TOLLGATE_REQUIRE_CLIENTS set they must be there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Commands that a bash block may begin a line with, and that are programs of others.
const AGENTS: [&str; 2] = ["claude", "codex"];

const DOCUMENTS: [&str; 10] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/clients.md",
    "docs/configuration.md",
    "docs/fidelity.md",
    "docs/ledger.md",
    "docs/identity.md",
    "docs/operations.md",
    "docs/security.md",
];

/// A fenced block.
struct Block {
    document: &'static str,
    line: usize,
    language: String,
    text: String,
}

// === generated parts ===

#[test]
fn the_reference_of_the_configuration_is_that_of_the_schema() {
    up_to_date("docs/configuration.md", "configuration", &configuration());
}

#[test]
fn the_table_of_metrics_is_that_of_the_program() {
    up_to_date("docs/operations.md", "metrics", &metrics());
}

#[test]
fn every_field_of_the_access_log_is_told_and_no_other() {
    let source = read("src/telemetry/record.rs");
    let line =
        source.split_once("struct Line<'a> {").and_then(|(_, rest)| rest.split_once("\n}")).expect("struct Line").0;
    let fields: Vec<&str> = line
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("#[") && !line.starts_with("//"))
        .filter_map(|line| line.split_once(": ").map(|(name, _)| name))
        .collect();
    assert!(fields.len() > 20, "{fields:?}");
    let document = read("docs/operations.md");
    let logs =
        document.split_once("## Logs").and_then(|(_, rest)| rest.split_once("## Metrics")).expect("the section").0;
    let told: Vec<&str> =
        logs.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name)).collect();
    assert_eq!(told, fields, "docs/operations.md, \"Logs\", and the struct Line in src/telemetry/record.rs");
}

fn up_to_date(path: &str, name: &str, made: &str) {
    let text = read(path);
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{path}: {begin}"));
    let (old, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{path}: <!-- end -->"));
    if old == made {
        return;
    }
    if std::env::var_os("TOLLGATE_WRITE_DOCS").is_some() {
        fs::write(root().join(path), format!("{before}{begin}{made}<!-- end -->{after}")).expect("the document");
        return;
    }
    panic!("{path} is out of date; write it anew with: TOLLGATE_WRITE_DOCS=1 cargo test --test docs\n{made}");
}

/// A table for each key at the top of the file.
fn configuration() -> String {
    let schema = tollgate::config::raw::schema().to_value();
    let example = read("conf/tollgate.yaml");
    let mut sections: Vec<(&String, &Value)> = schema["properties"].as_object().expect("properties").iter().collect();
    // in the order of the example, which is that of a file read from the top
    let place = |name: &str| example.lines().position(|line| line.starts_with(&format!("{name}:")));
    sections.sort_by_key(|(name, _)| place(name));
    let mut out = String::from("\n");
    for (name, section) in sections {
        let _ = writeln!(out, "### `{name}`\n\n{}\n", prose(section));
        let mut rows = Vec::new();
        members(section, &schema, "", name, &mut rows);
        // one of something and a list of it have the same keys
        let mut seen = BTreeSet::new();
        rows.retain(|(key, _, _)| seen.insert(key.clone()));
        if !rows.is_empty() {
            out.push_str("| key | value | |\n|---|---|---|\n");
            for (key, kind, text) in rows {
                let _ = writeln!(out, "| `{key}` | {} | {} |", kind.replace('|', "\\|"), text.replace('|', "\\|"));
            }
            out.push('\n');
        }
    }
    out
}

/// Told in a section of their own, once.
const SHARED: [&str; 3] = ["timeouts", "retry", "breaker"];

/// The keys below a schema, with what each takes and means.
fn members(schema: &Value, root: &Value, path: &str, section: &str, rows: &mut Vec<(String, String, String)>) {
    let schema = resolve(schema, root);
    if let Some(items) = schema.get("items") {
        return members(items, root, path, section, rows);
    }
    if let Some(entry) = schema.get("additionalProperties").filter(|entry| entry.is_object()) {
        let path = if path.is_empty() { "NAME".to_owned() } else { format!("{path}.NAME") };
        return members(entry, root, &path, section, rows);
    }
    // a short form beside the long one
    if let Some(forms) = schema.get("anyOf").and_then(Value::as_array) {
        for form in forms {
            members(form, root, path, section, rows);
        }
        return;
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let (mut kind, mut text) = (kind(property, root), prose(property));
        // of a target: as of its model
        let model = path.strip_suffix(".targets").filter(|_| ["info", "price"].contains(&name.as_str()));
        let nested = (SHARED.contains(&name.as_str()) && section != name) || model.is_some();
        if let Some(model) = model {
            kind = format!("as `{model}.{name}`");
        } else if nested {
            kind = format!("as `{name}`");
        } else if let Some(words) = words(property, root) {
            text = format!("{text} {words}");
        }
        rows.push((key.clone(), kind, text));
        if !nested {
            members(property, root, &key, section, rows);
        }
    }
}

/// Behind `$ref`, and without the `null` that stands for "not written".
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = name.strip_prefix("#/$defs/").expect("a definition of this schema");
        return resolve(&root["$defs"][name], root);
    }
    if let Some(forms) = schema.get("anyOf").and_then(Value::as_array) {
        let forms: Vec<&Value> = forms.iter().filter(|form| form["type"] != "null").collect();
        if let [one] = forms.as_slice() {
            return resolve(one, root);
        }
    }
    schema
}

/// What a key takes, in a word or two.
fn kind(schema: &Value, root: &Value) -> String {
    let schema = resolve(schema, root);
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && ["duration", "size", "secret", "percentage", "price", "dollars", "allowance", "span"].contains(&format)
    {
        return format.to_owned();
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = words.iter().map(|w| format!("`{}`", w.as_str().unwrap_or_default())).collect();
        return words.join(", ");
    }
    if schema.get("oneOf").is_some() {
        return "a word".to_owned();
    }
    if let Some(forms) = schema.get("anyOf").and_then(Value::as_array) {
        let mut kinds: Vec<String> = forms.iter().filter(|f| f["type"] != "null").map(|f| kind(f, root)).collect();
        kinds.dedup();
        return kinds.join(", or ");
    }
    let types: BTreeSet<&str> = match &schema["type"] {
        Value::String(one) => [one.as_str()].into(),
        Value::Array(many) => many.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => BTreeSet::new(),
    };
    let entry = |name: &str| schema.get(name).filter(|entry| entry.is_object()).map(|entry| kind(entry, root));
    let types: Vec<String> = types
        .into_iter()
        .map(|name| match name {
            "string" => "text".to_owned(),
            "integer" => "number".to_owned(),
            "boolean" => "`true`, `false`".to_owned(),
            "array" => entry("items").map_or_else(|| "list".to_owned(), |entry| format!("list of {entry}")),
            "object" => match entry("additionalProperties") {
                Some(entry) => format!("names with {entry}"),
                None => "keys".to_owned(),
            },
            other => other.to_owned(),
        })
        .collect();
    types.join(", or ")
}

/// The words a key takes, each with its meaning.
fn words(schema: &Value, root: &Value) -> Option<String> {
    let forms = resolve(schema, root).get("oneOf")?.as_array()?;
    let words: Vec<String> = forms
        .iter()
        .filter_map(|form| {
            let meaning = form["description"].as_str()?.trim_end_matches('.');
            Some(format!("`{}`: {}", form["const"].as_str()?, lower(meaning)))
        })
        .collect();
    Some(format!("{}.", words.join("; ")))
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

fn prose(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

/// Every family the program shows, with its labels from the place where it is declared.
fn metrics() -> String {
    let text = tollgate::telemetry::Metrics::new().render();
    let source = read("src/telemetry/metrics.rs");
    let mut rows = BTreeSet::new();
    for line in text.lines() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else { continue };
        if name.starts_with("process_") {
            continue;
        }
        let kind = text.lines().find_map(|l| l.strip_prefix(&format!("# TYPE {name} "))).expect("a TYPE line");
        let labels = labels(&source, name);
        let declared =
            source.split_once("const DECLARED").and_then(|(_, rest)| rest.split_once("];")).expect("DECLARED").0;
        let silent = if declared.contains(&format!("\"{name}\"")) { " No samples yet." } else { "" };
        rows.insert(format!("| `{name}` | {kind} | {labels} | {help}{silent} |\n"));
    }
    assert!(rows.len() > 15, "{rows:?}");
    let rows: String = rows.into_iter().collect();
    format!("\n| name | kind | labels | |\n|---|---|---|---|\n{rows}\n")
}

/// The list of texts behind the name in its declaration, before the next name.
fn labels(source: &str, name: &str) -> String {
    let Some((_, rest)) = source.split_once(&format!("\"{name}\"")) else { panic!("{name} is not in metrics.rs") };
    let next = ["\"tollgate_", "\"gen_ai_client", "\"gen_ai_server"].iter().filter_map(|p| rest.find(p)).min();
    let own = &rest[..next.unwrap_or(rest.len())];
    let Some((_, list)) = own.split_once("&[\"") else { return String::new() };
    let list = list.split_once(']').expect("the end of the list").0;
    let names: Vec<String> = list.split(',').map(|n| format!("`{}`", n.trim().trim_matches('"'))).collect();
    names.join(", ")
}

// === snippets ===

#[test]
fn every_configuration_in_the_documents_loads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    certificate(&folder.path().join("tls"));
    let mut count = 0;
    for block in blocks().iter().filter(|b| b.language == "yaml") {
        let name = folder.path().join("tollgate.yaml").display().to_string();
        let names = block
            .text
            .split("${")
            .skip(1)
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>());
        // each its own: two keys may not be the same
        let environment =
            tollgate::config::Environment::of(names.map(|name| (name.clone(), format!("{name}-0123456789abcdef"))));
        if let Err(errors) = tollgate::config::load_str(&name, &block.text, &environment) {
            panic!("{}: {errors:#?}", block.place());
        }
        count += 1;
    }
    assert!(count >= 5, "{count} blocks");
}

#[test]
fn every_json_in_the_documents_is_json() {
    let blocks = blocks();
    let json: Vec<&Block> = blocks.iter().filter(|b| b.language == "json").collect();
    assert!(!json.is_empty());
    for block in json {
        if let Err(error) = serde_json::from_str::<Value>(&block.text) {
            panic!("{}: {error}", block.place());
        }
    }
}

#[test]
fn every_block_says_how_it_is_checked() {
    let known = ["yaml", "json", "bash", "python", "js", "sh", "text"];
    for block in blocks() {
        assert!(known.contains(&block.language.as_str()), "{}: ```{}", block.place(), block.language);
    }
}

#[test]
fn the_commands_of_the_documents_are_ones_the_program_and_the_project_know() {
    let makefile = read("Makefile");
    let mut commands = 0;
    for block in blocks().iter().filter(|b| b.language == "sh") {
        let syntax = Command::new("bash").args(["-n", "-c", &block.text]).output().expect("bash");
        assert!(syntax.status.success(), "{}: {}", block.place(), String::from_utf8_lossy(&syntax.stderr));
        for line in block.text.lines() {
            let line = line.split(" #").next().unwrap_or_default().trim_end_matches(" &");
            let words: Vec<&str> = line.split_whitespace().filter(|w| *w != "sudo").collect();
            let words: Vec<&str> =
                words.into_iter().skip_while(|w| w.contains('=')).take_while(|w| *w != ">").collect();
            match words.as_slice() {
                ["tollgate", arguments @ ..] => {
                    // `--help` behind them: they are parsed, nothing is started
                    let output = tollgate().args(arguments).arg("--help").output().expect("the program");
                    assert!(output.status.success(), "{}: {line}\n{}", block.place(), shown(&output));
                    commands += 1;
                }
                ["make", target, ..] => {
                    assert!(makefile.contains(&format!("\n{target}:")), "{}: no such target: {target}", block.place());
                    commands += 1;
                }
                ["install", .., from, _to] if from.starts_with("conf/") || from.starts_with("systemd/") => {
                    assert!(root().join(from).is_file(), "{}: {from} does not exist", block.place());
                }
                _ => {}
            }
        }
    }
    assert!(commands >= 8, "{commands} commands");
}

#[test]
fn every_snippet_runs_as_it_stands_against_the_demo() {
    let demo = Demo::start();
    let required = ["CI", "TOLLGATE_REQUIRE_CLIENTS"].iter().any(|name| std::env::var_os(name).is_some());
    let python = cache().join("clients-py/bin/python");
    let node = cache().join("clients-node");
    let agents = cache().join("clients-agents/node_modules/.bin");
    let packages = ["openai", "@anthropic-ai/sdk"];
    let installed = python.exists() && packages.iter().all(|name| node.join("node_modules").join(name).is_dir());
    let has_agents = AGENTS.iter().all(|name| agents.join(name).exists());
    assert!(
        (installed && has_agents) || !required,
        "the SDKs are missing; install them with: tests/clients/run --install"
    );
    if !installed {
        println!("the SDKs are missing, python and js are left out; install them with: tests/clients/run --install");
    }
    if !has_agents {
        println!("the agents are missing, what calls them is left out; install them with: tests/clients/run --install");
    }
    let mut ran = BTreeSet::new();
    for block in blocks() {
        let text = demo.here(&block.text);
        let output = match block.language.as_str() {
            "bash" if block.calls_an_agent() && !has_agents => continue,
            "bash" if block.calls_an_agent() => run(agent(&agents, &text, &demo), &demo),
            "bash" => run(snippet("bash", &["-euo", "pipefail", "-c", &text]), &demo),
            "python" if installed => run(snippet(&python, &["-c", &text]), &demo),
            "js" if installed => {
                // Node looks for packages beside the file that imports them
                let folder =
                    tempfile::Builder::new().prefix("docs.").tempdir_in(&node).expect("a folder beside the SDK");
                let file = folder.path().join("snippet.mjs");
                fs::write(&file, &text).expect("the snippet");
                run(snippet("node", &[&file.display().to_string()]), &demo)
            }
            _ => continue,
        };
        assert!(output.status.success(), "{}:\n{text}\n{}\n{}", block.place(), shown(&output), demo.log());
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(!out.trim().is_empty(), "{}: nothing was printed", block.place());
        assert!(!out.contains("\"error\""), "{}: {out}", block.place());
        ran.insert(block.language.clone());
    }
    let expected: &[&str] = if installed { &["bash", "js", "python"] } else { &["bash"] };
    assert!(ran.iter().map(String::as_str).eq(expected.iter().copied()), "{ran:?}");
}

/// What the demo says when it starts is what the README says, or the page on clients.
#[test]
fn the_demo_prints_the_lines_of_the_documents() {
    let demo = Demo::start();
    let told = demo.here(&(read("README.md") + &read("docs/clients.md")));
    let log = demo.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| {
            ["curl ", "  -H ", "  -d ", "client = ", "const client", "print(", "console.log("]
                .iter()
                .any(|p| line.starts_with(p))
        })
        .collect();
    assert!(lines.len() >= 7, "{log}");
    for line in lines {
        assert!(told.contains(line), "neither in README.md nor in docs/clients.md: {line}");
    }
}

// === links and names ===

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut count = 0;
    for document in DOCUMENTS {
        let text = read(document);
        let folder = Path::new(document).parent().expect("a folder");
        for rest in text.split("](").skip(1) {
            let target = rest.split_once(')').map_or("", |(target, _)| target);
            if target.starts_with("http") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { root().join(document) } else { root().join(folder).join(path) };
            assert!(file.exists(), "{document}: {target}");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&file).expect("a document");
                assert!(text.lines().any(|line| line.starts_with('#') && slug(line) == anchor), "{document}: {target}");
            }
            count += 1;
        }
    }
    assert!(count > 15, "{count} links");
}

#[test]
fn every_test_and_file_the_architecture_names_exists() {
    let text = read("ARCHITECTURE.md");
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        gather(&root().join(folder), &mut sources);
    }
    let (mut tests, mut files) = (0, 0);
    for name in text.split('`').skip(1).step_by(2) {
        let word = !name.contains([' ', '/', '.', ':', '-', '(']);
        if word && name.matches('_').count() >= 3 {
            assert!(sources.contains(&format!("fn {name}(")), "no test or function {name}");
            tests += 1;
        } else if name.ends_with(".rs") || (name.ends_with('/') && !name.starts_with('/')) {
            let found = ["", "src/"].iter().any(|folder| root().join(folder).join(name).exists());
            assert!(found, "no file {name}");
            files += 1;
        }
    }
    assert!(tests >= 15 && files >= 20, "{tests} tests, {files} files");
}

// === the demo ===

/// A demo on ports of its own, ended when dropped.
struct Demo {
    child: Child,
    data: SocketAddr,
    admin: SocketAddr,
    folder: tempfile::TempDir,
}

impl Demo {
    fn start() -> Demo {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let (data, admin) = (free(), free());
        let child = tollgate()
            .args(["demo", "--pace-ms", "1", "--listen", &data.to_string(), "--admin", &admin.to_string()])
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same file"))
            .stderr(log)
            .spawn()
            .expect("the program");
        let mut demo = Demo { child, data, admin, folder };
        let begun = Instant::now();
        loop {
            let ready = Command::new("curl")
                .args(["--noproxy", "*", "-fs", "-m", "2", &format!("http://{admin}/readyz")])
                .output()
                .expect("curl");
            if ready.status.success() {
                return demo;
            }
            if let Ok(Some(status)) = demo.child.try_wait() {
                panic!("the demo ended with {status}: {}", demo.log());
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "not ready: {}", demo.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// With the ports of this demo instead of the usual ones.
    fn here(&self, text: &str) -> String {
        text.replace("127.0.0.1:4000", &self.data.to_string()).replace("127.0.0.1:4001", &self.admin.to_string())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A snippet that calls an agent: with a home of its own, and no way out but to the demo.
fn agent(folder: &Path, text: &str, demo: &Demo) -> Command {
    let mut command = plain(Command::new("bash"));
    let paths = std::env::join_paths(
        std::iter::once(folder.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    command
        .args(["-euo", "pipefail", "-c", text])
        .env("PATH", paths.expect("a path without a colon"))
        .env("HOME", demo.folder.path())
        .envs(["HTTPS_PROXY", "HTTP_PROXY"].map(|name| (name, "http://127.0.0.1:9")))
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    command
}

fn snippet(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = plain(Command::new(program));
    command.args(arguments);
    command
}

/// With none of the developer's own settings.
fn plain(mut command: Command) -> Command {
    command
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| ["PATH", "HOME", "LANG"].contains(&name.as_str())))
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1");
    command
}

/// Run a snippet, for a minute at most.
fn run(mut command: Command, demo: &Demo) -> Output {
    let out = |name: &str| fs::File::create(demo.folder.path().join(name)).expect("a file");
    let mut child = command
        .current_dir(demo.folder.path())
        .stdin(Stdio::null())
        .stdout(out("out"))
        .stderr(out("err"))
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} runs for more than a minute: {}", demo.log());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let read = |name: &str| fs::read(demo.folder.path().join(name)).unwrap_or_default();
    Output { status, stdout: read("out"), stderr: read("err") }
}

// === reading ===

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn tollgate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
}

fn cache() -> PathBuf {
    match std::env::var_os("TOLLGATE_CACHE").filter(|v| !v.is_empty()) {
        Some(folder) => folder.into(),
        None => Path::new(&std::env::var_os("HOME").expect("a home folder")).join(".cache/tollgate"),
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a loopback port")
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// GitHub's name of a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>().replace(' ', "-")
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for document in DOCUMENTS {
        let mut open: Option<Block> = None;
        for (n, line) in read(document).lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(language)) => {
                    open = Some(Block {
                        document,
                        line: n + 1,
                        language: language.trim().to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{document}: a block without an end");
    }
    assert!(blocks.len() > 15, "the documents were not read");
    blocks
}

impl Block {
    fn calls_an_agent(&self) -> bool {
        self.text.lines().any(|line| AGENTS.iter().any(|name| line.starts_with(&format!("{name} "))))
    }

    fn place(&self) -> String {
        format!("{}:{}", self.document, self.line)
    }
}

fn gather(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            gather(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push_str(&fs::read_to_string(&path).expect("a text file"));
        }
    }
}

/// The files that the examples with TLS name.
fn certificate(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    for (name, text) in [("fullchain.pem", made.cert.pem()), ("privkey.pem", made.signing_key.serialize_pem())] {
        fs::write(folder.join(name), text).expect("a file");
    }
}
