//! The configuration: what was typed (`raw`), checked once (`check`) into what the program uses (`snapshot`).
//!
//! The way of a file: bytes -> `tree` (located texts) -> values of the environment put in and the shape checked (`shape`) ->
//! `raw` (typed) -> `check` -> `Snapshot`. All faults of all steps are told at once. `watch` swaps a snapshot while the
//! program runs; `diff` and `view` say what changed and what is, without secrets.

pub mod catalogue;
mod check;
pub mod condition;
mod decode;
pub mod diff;
pub mod env;
mod environment;
mod error;
pub mod events;
pub mod issuer;
pub mod keyring;
pub mod keys;
pub mod policy;
pub mod prices;
pub mod quota;
pub mod raw;
pub mod secret;
mod shape;
pub mod snapshot;
pub mod store;
pub mod tariff;
mod tree;
mod units;
mod vendors;
mod view;
pub mod watch;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

pub use check::Checked;
pub use env::Environment;
pub use environment::from_environment;
pub use error::{ConfigError, Place};
pub use secret::Secret;
pub use snapshot::Snapshot;
pub use view::view;
pub use watch::Live;

use error::Faults;

/// Reads and checks a file. Relative paths in it begin at its folder.
pub fn load(path: &Path, environment: &Environment) -> Result<Checked, Vec<ConfigError>> {
    let text = read(path).map_err(|error| vec![error])?;
    load_str(&path.display().to_string(), &text, environment)
}

/// Checks a text. `name` stands in the errors, and its folder is where relative paths begin.
pub fn load_str(name: &str, text: &str, environment: &Environment) -> Result<Checked, Vec<ConfigError>> {
    let mut faults = Faults::new(name);
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut root = tree::parse(&name.into(), text).map_err(|error| vec![error])?;
    shape::substitute(&mut root, environment, &mut faults);
    if !shape::fit(&mut root, &mut faults) {
        return Err(faults.into_errors());
    }
    match decode::decode::<raw::Config>(&root) {
        Ok(config) => check::check(config, faults, environment, folder),
        Err(failure) => {
            faults.wrong(root.place, "", format!("the configuration cannot be read: {failure}"));
            Err(faults.into_errors())
        }
    }
}

/// Where the admin port of a gateway with this file is, and what opens it. Nothing else of the file is judged: who asks a running gateway may
/// not have the variables of its environment, and its file may have been spoiled since.
pub fn admin(path: &Path, environment: &Environment) -> Result<snapshot::Admin, Vec<ConfigError>> {
    let (config, faults) = only("admin", path, environment)?;
    check::admin(config.admin, faults, environment)
}

/// The same of where its ledger is.
pub fn ledger(path: &Path, environment: &Environment) -> Result<store::StoreConfig, Vec<ConfigError>> {
    let (config, faults) = only("store", path, environment)?;
    check::ledger(config.store, faults, environment, path.parent().unwrap_or(Path::new("")))
}

/// One key at the top of a file, with what was found wrong with it so far.
fn only(key: &str, path: &Path, environment: &Environment) -> Result<(raw::Config, Faults), Vec<ConfigError>> {
    let text = read(path).map_err(|error| vec![error])?;
    let name = path.display().to_string();
    let mut faults = Faults::new(&*name);
    let mut root = tree::parse(&name.into(), &text).map_err(|error| vec![error])?;
    if let tree::Value::Map(entries) = &mut root.value {
        entries.retain(|(entry, _)| entry.text == key);
    }
    shape::substitute(&mut root, environment, &mut faults);
    if !shape::fit(&mut root, &mut faults) {
        return Err(faults.into_errors());
    }
    Ok((decode::decode::<raw::Config>(&root).unwrap_or_default(), faults))
}

/// What a key that does not stand in the file may use: a map with `limits`, `budget` and `caps` as they would be written on it, in YAML or JSON.
/// `None`: nothing is written.
pub fn key_terms(text: &str) -> Result<Option<Arc<quota::Own>>, Vec<ConfigError>> {
    let mut faults = Faults::new("key");
    let mut root = tree::parse(&"key".into(), text).map_err(|error| vec![error])?;
    if !shape::fit_key_terms(&mut root, &mut faults) {
        return Err(faults.into_errors());
    }
    match decode::decode::<raw::KeyTerms>(&root) {
        Ok(terms) => check::own(terms, faults),
        Err(failure) => {
            faults.wrong(root.place, "", format!("cannot be read: {failure}"));
            Err(faults.into_errors())
        }
    }
}

/// A key that is made while running: `words` is a map with what would be written on it in the file (`models`, `tags`, `limits`, ..), in YAML or
/// JSON. Nothing of the environment is put in.
pub fn stored_key(name: &str, words: &str) -> Result<snapshot::Key, Vec<ConfigError>> {
    let mut faults = Faults::new("key");
    let mut root = tree::parse(&"key".into(), words).map_err(|error| vec![error])?;
    if !shape::fit_key_words(&mut root, &mut faults) {
        return Err(faults.into_errors());
    }
    match decode::decode::<raw::KeyWords>(&root) {
        Ok(words) => check::stored_key(name, words, faults),
        Err(failure) => {
            faults.wrong(root.place, "", format!("cannot be read: {failure}"));
            Err(faults.into_errors())
        }
    }
}

/// A file's text, bounded, and with an error that names it.
fn read(path: &Path) -> Result<String, ConfigError> {
    let fault = |message| ConfigError { file: path.display().to_string().into(), place: Place::default(), message };
    let limit = u64::try_from(tree::LARGEST_FILE).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| fault(format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        fault(format!("is not UTF-8 text (byte {at}): save it as UTF-8"))
    })
}

#[cfg(test)]
mod tests;
