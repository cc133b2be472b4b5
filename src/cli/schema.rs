//! `tollgate schema`: the JSON Schema of the configuration, for editors.

use std::io::Write;
use std::process::ExitCode;

use crate::config::raw;

/// Prints it on stdout; exit code 1 when that fails.
pub fn run() -> ExitCode {
    match writeln!(std::io::stdout(), "{}", text()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}

/// Indented, one line per member.
pub fn text() -> String {
    serde_json::to_string_pretty(&raw::schema()).expect("a JSON value has a JSON text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_describes_the_file_and_refuses_other_keys() {
        let schema: serde_json::Value = serde_json::from_str(&text()).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["additionalProperties"], false);
        assert!(schema["properties"]["providers"]["description"].is_string());
        assert_eq!(schema["$defs"]["Provider"]["additionalProperties"], false);
    }
}
