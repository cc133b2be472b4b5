//! The law of the house, checked on its source: who may use whom, what may stand where, what must be told.
//!
//! `ARCHITECTURE.md` says why. Owns no behaviour: that is tested in `tests/it` and beside the code. A breach is shown as `file:line`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Organs (those under that heading in `src/lib.rs`) stand side by side: one may not use another, although the order would let it.
/// These may, and why.
const ORGAN_EXCEPTIONS: [(&str, &str, &str); 1] =
    [("telemetry", "call", "the record of a call is written from the call itself")];

/// Nobody uses a door, but for these.
const DOORS: [&str; 4] = ["gateway", "admin", "app", "cli"];
const DOOR_EXCEPTIONS: [(&str, &str, &str); 5] = [
    ("admin", "gateway", "it reports on what the data port shares: `gateway::Shared`"),
    ("app", "gateway", "wiring"),
    ("app", "admin", "wiring"),
    ("cli", "app", "a sub-command starts the program"),
    ("cli", "gateway", "it explains as the data port plans, and reads the status that is told"),
];

/// Where Pingora is named, and where loosely typed JSON is.
const PINGORA: [&str; 5] = ["gateway/", "upstream/", "admin/", "app.rs", "main.rs"];
const LOOSE_JSON: [&str; 6] = ["dialect/", "admin/", "config/", "simulator/", "cli/", "gateway/local.rs"];

/// These know no clock and do no I/O.
const PURE: [&str; 9] = ["balance", "chat", "dialect", "error", "json", "meter", "provider", "route", "units"];

/// A file of `src`, its tests cut off and its comments blanked; line numbers are kept.
struct Source {
    /// Below `src/`.
    path: String,
    /// The top-level module.
    module: String,
    /// How many modules deep: 1 for `src/x.rs` and `src/x/mod.rs`.
    depth: usize,
    text: String,
    code: String,
}

// === the order of the modules ===

#[test]
fn a_module_uses_only_those_above_it_in_the_map() {
    let order = modules(&read("src/lib.rs"));
    assert!(order.len() > 10 && order.first().is_some_and(|m| m == "balance"), "the map was not read: {order:?}");
    let breaches: Vec<String> = sources()
        .iter()
        .filter(|source| source.module != "lib" && source.module != "main")
        .flat_map(|source| upward(&order, source))
        .collect();
    assert_eq!(breaches, Vec::<String>::new(), "see the map in src/lib.rs");
}

#[test]
fn organs_and_doors_do_not_use_each_other() {
    let organs = organs(&read("src/lib.rs"));
    assert!(organs.contains(&"call".to_owned()) && !organs.contains(&"gateway".to_owned()), "{organs:?}");
    let mut breaches = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        for (line, used_module) in uses(&source.code) {
            if used_module == source.module {
                continue;
            }
            let pair = |(from, to, _): &&(&str, &str, &str)| *from == source.module && *to == used_module;
            let organs = organs.contains(&source.module) && organs.contains(&used_module);
            let exception = ORGAN_EXCEPTIONS.iter().chain(&DOOR_EXCEPTIONS).find(pair);
            if let Some((from, to, _)) = exception {
                used.insert((*from, *to));
            } else if organs || DOORS.contains(&used_module.as_str()) {
                breaches.push(format!("src/{}:{line}: {} uses {used_module}", source.path, source.module));
            }
        }
    }
    assert_eq!(breaches, Vec::<String>::new());
    // an exception nobody needs any more is taken off the list
    let listed: BTreeSet<_> =
        ORGAN_EXCEPTIONS.iter().chain(&DOOR_EXCEPTIONS).map(|(from, to, _)| (*from, *to)).collect();
    assert_eq!(used, listed, "exceptions in use, and listed ones");
}

#[test]
fn the_simulator_plays_the_other_side_alone() {
    let simulator = sources().into_iter().filter(|s| s.module == "simulator");
    let uses: Vec<String> = simulator
        .flat_map(|s| uses(&s.code).into_iter().map(move |(line, m)| (s.path.clone(), line, m)))
        .filter(|(_, _, module)| module != "simulator")
        .map(|(path, line, module)| format!("src/{path}:{line}: uses {module}"))
        .collect();
    assert_eq!(uses, Vec::<String>::new(), "an oracle that shares code with what it judges judges nothing");
}

#[test]
fn what_is_pure_knows_no_clock_and_does_no_io() {
    let words = ["Instant::now", "SystemTime", "Timestamp::now", "std::fs", "std::net::Tcp", "tokio::", "tracing::"];
    let pure = sources().into_iter().filter(|s| PURE.contains(&s.module.as_str()));
    assert_eq!(found(pure, &words), Vec::<String>::new());
}

#[test]
fn pingora_is_named_only_where_requests_come_in_and_go_out() {
    let words = ["pingora::", "pingora_proxy::", "pingora_core::", "pingora_http::", "use pingora"];
    let others = sources().into_iter().filter(|s| !PINGORA.iter().any(|p| s.path.starts_with(p)));
    assert_eq!(found(others, &words), Vec::<String>::new());
}

#[test]
fn json_without_a_type_stays_at_the_edges() {
    let others = sources().into_iter().filter(|s| !LOOSE_JSON.iter().any(|p| s.path.starts_with(p)));
    assert_eq!(found(others, &["serde_json::Value", "json!"]), Vec::<String>::new());
}

// === how files are written ===

#[test]
fn every_file_says_what_it_owns() {
    let silent: Vec<String> =
        sources().iter().filter(|s| !s.text.starts_with("//! ")).map(|s| s.path.clone()).collect();
    assert_eq!(silent, Vec::<String>::new(), "a file opens with `//!`");
}

#[test]
fn nothing_panics_on_data_from_outside() {
    let words = [".unwrap()", "panic!(", "todo!(", "unimplemented!(", "dbg!("];
    let program = sources().into_iter().filter(|s| s.module != "simulator");
    assert_eq!(found(program, &words), Vec::<String>::new());
}

/// `make house` shows the sizes.
#[test]
fn no_file_of_the_program_is_longer_than_600_lines() {
    let mut sizes: Vec<(usize, String)> = sources().iter().map(|s| (s.text.lines().count(), s.path.clone())).collect();
    sizes.sort_by(|a, b| b.cmp(a));
    for (lines, path) in sizes.iter().filter(|(lines, _)| *lines > 400) {
        println!("src/{path}: {lines} lines");
    }
    let long: Vec<_> = sizes.iter().filter(|(lines, _)| *lines > 600).collect();
    assert!(long.is_empty(), "{long:?}: split by idea");
}

// === what stands beside the code ===

#[test]
fn every_example_configuration_loads() {
    let mut loaded = 0;
    for entry in fs::read_dir(root().join("conf")).expect("conf/") {
        let path = entry.expect("an entry of conf/").path();
        // the vendors and their models: data of the program, read by it
        let data = ["providers.yaml", "models.yaml"].iter().any(|name| path.ends_with(name));
        if path.extension().is_none_or(|e| e != "yaml") || data {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a text file");
        let variables: Vec<(String, String)> =
            variables(&text).into_iter().map(|name| (name, "0123456789abcdef0123456789abcdef".to_owned())).collect();
        let environment = tollgate::config::Environment::of(variables);
        if let Err(errors) = tollgate::config::load(&path, &environment) {
            panic!("{}: {errors:#?}", path.display());
        }
        loaded += 1;
    }
    assert!(loaded >= 2, "conf/tollgate.yaml and conf/minimal.yaml at least");
}

#[test]
fn every_fixture_names_its_source() {
    let folder = root().join("tests/fixtures");
    let nameless = if folder.is_dir() { without_source(&folder) } else { Vec::new() };
    assert_eq!(nameless, Vec::<PathBuf>::new(), "say where it is from: in the file, or in a README.md beside it");

    // the rule itself
    let made = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| fs::write(made.path().join(name), text).expect("a file");
    write("a.json", "{\"source\": \"here\"}");
    write("b.txt", "nothing");
    write("c.txt", "nothing");
    write("README.md", "`b.txt` is from there");
    assert_eq!(without_source(made.path()), [made.path().join("c.txt")]);
}

#[test]
fn the_lock_file_holds_the_floors_of_the_dependencies() {
    let floors = floors(&read("conf/deny.toml"));
    assert!(floors.len() >= 6, "the floors were not read: {floors:?}");
    let locked = locked(&read("Cargo.lock"));
    assert!(locked.len() > 100, "the lock file was not read");
    for (name, floor) in &floors {
        for (_, version) in locked.iter().filter(|(n, _)| n == name) {
            assert!(version >= floor, "{name} {version:?} is below {floor:?}");
        }
    }
    for name in ["pingora", "h2", "rustls", "rustls-webpki"] {
        assert!(floors.iter().any(|(n, _)| n == name), "{name} has no floor");
        assert!(locked.iter().any(|(n, _)| n == name), "{name} is not in the tree");
    }
    let banned = ["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];
    let there: Vec<_> = locked.iter().filter(|(n, _)| banned.contains(&n.as_str())).collect();
    assert!(there.is_empty(), "{there:?}: TLS is rustls with ring");
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    // in two pieces, so that this file does not hold them
    let words: Vec<String> = [
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/tmp", "/h/"),
        ("/tmp", "/t/"),
        ("/home", "/"),
        ("index.", "crates.io"),
        ("static.", "crates.io"),
        ("registry.", "npmjs.org"),
        ("pypi", ".org"),
        ("files.", "pythonhosted"),
    ]
    .map(|(a, b)| format!("{a}{b}"))
    .to_vec();
    let mut breaches = Vec::new();
    let files = tracked();
    assert!(files.len() > 50, "the files were not found");
    for path in files {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (n, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                breaches.push(format!("{path}:{}: {line}", n + 1));
            }
        }
    }
    assert_eq!(breaches, Vec::<String>::new());
}

// === reading the source ===

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The modules of `src/lib.rs`, top first.
fn modules(lib: &str) -> Vec<String> {
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod "))
        .filter_map(|line| line.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

/// The modules under the heading `// organs`.
fn organs(lib: &str) -> Vec<String> {
    let section = lib.split_once("// organs\n").map_or("", |(_, rest)| rest);
    modules(section.split_once("// ").map_or(section, |(section, _)| section))
}

/// Every file of `src` that is not tests.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join("src"), &mut paths);
    paths.sort();
    let found: Vec<Source> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter_map(|path| {
            let below = path.strip_prefix(root().join("src")).expect("below src/");
            let mut parts: Vec<String> = below
                .with_extension("")
                .components()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .collect();
            if parts.iter().any(|part| part == "tests") {
                return None;
            }
            if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
                parts.pop();
            }
            let text = fs::read_to_string(path).expect("a text file");
            let code = blank_comments(&cut_tests(&text));
            let module = parts.first().expect("a file has a name").clone();
            Some(Source { path: below.to_string_lossy().into_owned(), module, depth: parts.len(), text, code })
        })
        .collect();
    assert!(found.len() > 50, "src/ was not read");
    found
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, out) } else { out.push(path) }
    }
}

/// Without the test modules in it: from `#[cfg(test)]` to the brace that closes the module, lines kept.
fn cut_tests(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let module = lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if line == "#[cfg(test)]" && module {
            out.push('\n');
            for line in lines.by_ref() {
                out.push('\n');
                if line == "}" {
                    break;
                }
            }
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn blank_comments(text: &str) -> String {
    let blank = |line: &str| if line.trim_start().starts_with("//") { String::new() } else { line.to_owned() };
    text.lines().map(|line| blank(line) + "\n").collect()
}

/// The top-level modules a text names, with their lines: `crate::x` and `crate::{x, y}`.
fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let name = |text: &str| -> String {
            text.trim_start()
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit())
                .collect()
        };
        match rest.strip_prefix('{') {
            None => found.push((line, name(rest))),
            Some(group) => {
                let (mut depth, mut start) = (0, 0);
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => {
                            found.push((line, name(&group[start..i])));
                            break;
                        }
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            found.push((line, name(&group[start..i])));
                            start = i + 1;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

/// Uses of modules that are not above this one, and ways around the map (`super::` out of the own module).
fn upward(order: &[String], source: &Source) -> Vec<String> {
    let place = |name: &str| order.iter().position(|m| m == name);
    let own = place(&source.module).unwrap_or_else(|| panic!("src/{} is not in src/lib.rs", source.path));
    let mut breaches = Vec::new();
    for (line, used) in uses(&source.code) {
        match place(&used) {
            Some(at) if at <= own => {}
            _ => breaches.push(format!("src/{}:{line}: {} uses {used}", source.path, source.module)),
        }
    }
    let escape = "super::".repeat(source.depth);
    for (n, line) in source.code.lines().enumerate() {
        if line.contains(&escape) {
            breaches.push(format!("src/{}:{}: `{escape}` leaves the module: write `crate::`", source.path, n + 1));
        }
    }
    breaches
}

/// Every `file:line` that holds one of the words.
fn found(sources: impl Iterator<Item = Source>, words: &[&str]) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in sources {
        for (n, line) in source.code.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                breaches.push(format!("src/{}:{}: {word}", source.path, n + 1));
            }
        }
    }
    breaches
}

// === reading the rest ===

/// The names in `${NAME..}`.
fn variables(text: &str) -> BTreeSet<String> {
    text.split("${")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect())
        .collect()
}

fn without_source(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(folder, &mut files);
    files.retain(|path| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "README.md" {
            return false;
        }
        let own = fs::read_to_string(path).unwrap_or_default().to_ascii_lowercase().contains("source");
        let beside = path
            .ancestors()
            .skip(1)
            .take_while(|above| above.starts_with(folder))
            .any(|above| fs::read_to_string(above.join("README.md")).is_ok_and(|text| text.contains(&name)));
        !own && !beside
    });
    files.sort();
    files
}

/// `crate = "name:<1.2.3"` of deny.toml.
fn floors(deny: &str) -> Vec<(String, Vec<u64>)> {
    deny.lines()
        .filter_map(|line| line.split_once("crate = \"")?.1.split_once('"').map(|(spec, _)| spec))
        .filter_map(|spec| spec.split_once(":<"))
        .map(|(name, version)| (name.to_owned(), numbers(version)))
        .collect()
}

/// Name and version of each package of a lock file.
fn locked(lock: &str) -> Vec<(String, Vec<u64>)> {
    let value =
        |line: &str, key: &str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"').map(str::to_owned);
    let lines: Vec<&str> = lock.lines().collect();
    lines.windows(2).filter_map(|pair| Some((value(pair[0], "name")?, numbers(&value(pair[1], "version")?)))).collect()
}

/// `1.2.3+meta` as numbers; a pre-release counts as its release.
fn numbers(version: &str) -> Vec<u64> {
    let core = version.split(['+', '-']).next().unwrap_or_default();
    core.split('.').map(|n| n.parse().unwrap_or_else(|_| panic!("no version: {version}"))).collect()
}

/// The files under version control; without one (an unpacked release) all but what is built.
fn tracked() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    if let Ok(output) = listed
        && output.status.success()
        && !output.stdout.is_empty()
    {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(root()).expect("the project's folder") {
        let path = entry.expect("an entry").path();
        let built = path.file_name().is_some_and(|n| n == "target" || n == ".git");
        match (built, path.is_dir()) {
            (true, _) => {}
            (false, true) => walk(&path, &mut paths),
            (false, false) => paths.push(path),
        }
    }
    let below = |path: &PathBuf| Some(path.strip_prefix(root()).ok()?.to_string_lossy().into_owned());
    paths.iter().filter_map(below).filter(|path| !path.starts_with("tests/fuzz/target")).collect()
}

// === the readers themselves ===

#[test]
fn the_readers_of_this_file_see_what_they_should() {
    let order: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    let source = |module: &str, depth, code: &str| Source {
        path: format!("{module}.rs"),
        module: module.to_owned(),
        depth,
        text: String::new(),
        code: blank_comments(&cut_tests(code)),
    };
    assert_eq!(upward(&order, &source("b", 1, "use crate::a::X;\nuse crate::b::Y;\n")), Vec::<String>::new());
    assert_eq!(upward(&order, &source("b", 1, "// x\nuse crate::c::X;\n")), ["src/b.rs:2: b uses c"]);
    assert_eq!(upward(&order, &source("a", 1, "use crate::{a::X, b::{Y, Z}, c};\n")).len(), 2);
    assert_eq!(upward(&order, &source("a", 2, "use super::super::c::X;\n")).len(), 1);
    assert_eq!(upward(&order, &source("a", 2, "use super::X;\n/// [`crate::c`]\n")), Vec::<String>::new());
    let tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::c;\n}\nuse crate::b;\n";
    assert_eq!(upward(&order, &source("a", 1, tests)), ["src/a.rs:6: a uses b"]);
    assert!(numbers("0.23.9") < numbers("0.23.46") && numbers("0.9.34+deprecated") == [0, 9, 34]);
    assert_eq!(
        floors("{ crate = \"h2:<0.4.16\", reason = \"x\" }\n{ crate = \"openssl\" }"),
        [("h2".into(), vec![0, 4, 16])]
    );
}
