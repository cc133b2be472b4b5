//! `tollgate check`: says everything that is wrong with a configuration, and sends nothing anywhere.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::table::count;
use crate::config::{self, Environment};

/// Exit code 0 and one line on stdout, or 1 and one line per fault on stderr.
pub fn run(path: &Path) -> ExitCode {
    check(path, &Environment::process(), &mut std::io::stdout(), &mut std::io::stderr())
}

fn check(path: &Path, environment: &Environment, out: &mut impl Write, err: &mut impl Write) -> ExitCode {
    // A closed pipe (`tollgate check | head`) changes nothing about the verdict.
    match config::load(path, environment) {
        Ok(checked) => {
            let snapshot = checked.snapshot();
            let models = || snapshot.models.values().chain(&snapshot.wildcards);
            let groups = models().filter(|model| model.targets.len() > 1).count();
            let mut models = count(models().count(), "model");
            if groups > 0 {
                models = format!("{models} ({})", count(groups, "group"));
            }
            let (providers, keys) = (snapshot.providers.len(), snapshot.keys.by_hash.len());
            let counts = [count(providers, "provider"), models, count(keys, "key")];
            let _closed = writeln!(out, "{}: good: {}", path.display(), counts.join(", "));
            for provider in snapshot.providers.values().filter(|p| !p.missing_env.is_empty()) {
                let names = provider.missing_env.join(", ");
                let _closed = writeln!(err, "note: provider {:?} is not configured: {names} not set", provider.name);
            }
            ExitCode::SUCCESS
        }
        Err(errors) => {
            for error in &errors {
                let _closed = writeln!(err, "{error}");
            }
            ExitCode::from(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (bool, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(&path, &Environment::of([("A", "canary")]), &mut out, &mut err);
        let shown = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&path.display().to_string(), "c.yaml");
        (code == ExitCode::SUCCESS, shown(out), shown(err))
    }

    #[test]
    fn a_good_file_gives_one_line_with_what_is_in_it() {
        let (good, out, err) =
            checked("providers: {openai: {api_key: \"${A}\"}, xai: {required_env: [B]}}\nmodels: {m: xai/x}\n");
        assert_eq!(
            (good, out.as_str(), err.as_str()),
            (
                true,
                "c.yaml: good: 2 providers, 1 model, 0 keys\n",
                "note: provider \"xai\" is not configured: B not set\n"
            )
        );
    }

    #[test]
    fn groups_are_counted_apart() {
        let (_, out, _) = checked(
            "providers: {ollama: }\nmodels: {m: ollama/x, g: {targets: [m, ollama/y]}, \"a-*\": ollama/*, b: g}\n",
        );
        assert_eq!(out, "c.yaml: good: 1 provider, 4 models (2 groups), 0 keys\n");
    }

    #[test]
    fn a_bad_file_gives_every_fault_on_stderr() {
        let (good, out, err) = checked("providers: {opnai: {api_key: x}}\nstrickt: true\n");
        assert!(!good && out.is_empty());
        assert_eq!(err.lines().count(), 2, "{err}");
        assert!(err.lines().all(|line| line.starts_with("c.yaml:")), "{err}");
    }
}
