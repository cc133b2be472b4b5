//! What of a model's name decides how it is asked. Truth: ai.google.dev "Gemini thinking", "Gemini 3 developer guide".

/// How a model's thinking is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinks {
    /// 2.0 and older, Gemma up to 3: `thinkingConfig` is refused.
    Never,
    /// 2.5: `thinkingBudget`. `stops`: 0 is taken too.
    Budget { least: u64, most: u64, stops: bool },
    /// 3 and later, and what we do not know: `thinkingLevel`. `minimal`: the least level is MINIMAL, else LOW (the Pro models).
    Level { minimal: bool },
}

/// The little we know of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    pub thinks: Thinks,
    /// Gemini 3 and later: refuses a function call of its turn without a signature, takes media within function responses, and built-in
    /// tools beside functions.
    pub third: bool,
}

// === impl Model ===

impl Model {
    /// By its name, which may be a resource's (`models/..`, `publishers/google/models/..`).
    pub fn of(name: &str) -> Model {
        let name = name.rsplit('/').next().unwrap_or(name);
        let (family, rest) = match name.split_once('-') {
            Some((family, rest)) => (family, rest),
            None => (name, ""),
        };
        let version = version(rest);
        let pro = rest.contains("pro");
        let level = Thinks::Level { minimal: !pro };
        match (family, version) {
            ("gemini", Some((0..=1, _) | (2, 0..=4))) => Model { thinks: Thinks::Never, third: false },
            // they speak and draw without thinking
            ("gemini", Some((2, _))) if rest.contains("tts") || rest.contains("image") => {
                Model { thinks: Thinks::Never, third: false }
            }
            ("gemini", Some((2, _))) => {
                let (least, most) = match (pro, rest.contains("lite")) {
                    (true, _) => (128, 32_768),
                    (false, true) => (512, 24_576),
                    (false, false) => (1, 24_576),
                };
                Model { thinks: Thinks::Budget { least, most, stops: !pro }, third: false }
            }
            // `gemini-flash-latest` and the like: the newest there is
            ("gemini", _) => Model { thinks: level, third: true },
            ("gemma", Some((0..=3, _))) => Model { thinks: Thinks::Never, third: false },
            _ => Model { thinks: level, third: false },
        }
    }
}

/// `2.5-flash` is (2, 5), `3-pro` is (3, 0).
fn version(rest: &str) -> Option<(u32, u32)> {
    let number = rest.split('-').next()?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_how_a_model_thinks() {
        for name in ["gemini-1.5-pro", "gemini-2.5-flash-image", "gemini-2.0-flash-001", "models/gemma-3-27b-it"] {
            assert_eq!(Model::of(name), Model { thinks: Thinks::Never, third: false }, "{name}");
        }
        let budget = |least, most, stops| Model { thinks: Thinks::Budget { least, most, stops }, third: false };
        assert_eq!(Model::of("gemini-2.5-pro"), budget(128, 32_768, false));
        assert_eq!(Model::of("publishers/google/models/gemini-2.5-flash"), budget(1, 24_576, true));
        assert_eq!(Model::of("gemini-2.5-flash-lite"), budget(512, 24_576, true));
        for (name, minimal) in [
            ("gemini-3-pro-preview", false),
            ("gemini-3.1-pro-preview", false),
            ("gemini-3-flash-preview", true),
            ("gemini-3.6-flash", true),
            ("gemini-flash-latest", true),
            ("gemini-pro-latest", false),
            ("gemini-10-flash", true),
        ] {
            assert_eq!(Model::of(name), Model { thinks: Thinks::Level { minimal }, third: true }, "{name}");
        }
        assert!(!Model::of("gemma-4-31b-it").third && !Model::of("").third);
    }
}
