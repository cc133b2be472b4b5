//! What is known of Claude models by their names: what they refuse, so that a request from another dialect is not refused for it.
//!
//! Names differ by platform (`claude-opus-4-5-20251101`, `claude-3-7-sonnet@20250219`, `us.anthropic.claude-sonnet-4-6-v1:0`,
//! `anthropic/claude-opus-4.5`) and say a family and a version. A name that says neither is another vendor's model behind the same
//! grammar: nothing is known of it and nothing assumed.
//! Truth (read November 2026): platform.claude.com/docs, "Models overview", "Troubleshooting thinking" (support by model), "Effort",
//! "Structured outputs", "Define tools" (forcing tool use), "What's new in Claude Opus 4.7" (sampling), "Errors" (prefill).

/// A Claude model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model {
    family: Family,
    /// Major and minor. Of a name without a number: the newest known.
    version: (u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Opus,
    Sonnet,
    Haiku,
    Fable,
    Mythos,
    Other,
}

/// The ways of thinking a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinks {
    Never,
    /// `enabled`, with a budget.
    Budget,
    /// `enabled` and `adaptive`.
    Both,
    /// `adaptive` only.
    Adaptive,
    /// `adaptive`, and it cannot be turned off.
    Always,
}

/// How thinking is turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Off {
    /// It never thinks.
    Silence,
    Disabled,
    BetweenTools,
    Impossible,
}

/// The highest `output_config.effort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Efforts {
    None,
    ToHigh,
    /// `max`, but not `xhigh`.
    NoXHigh,
    All,
}

// === impl Model ===

impl Model {
    /// `None`: not a Claude model by its name.
    pub(super) fn of(name: &str) -> Option<Model> {
        let name = name.to_ascii_lowercase();
        let rest = &name[name.find("claude")? + "claude".len()..];
        let mut family = None;
        let mut numbers = [None; 2];
        let mut numbered = 0;
        for word in rest.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            match (word, word.parse::<u32>()) {
                // a date, or the platform's own version behind it
                (_, Ok(100..)) => break,
                (_, Ok(number)) => {
                    if let Some(place) = numbers.get_mut(numbered) {
                        *place = Some(number);
                        numbered += 1;
                    }
                }
                (word, Err(_)) => {
                    if word.strip_prefix('v').is_some_and(|rest| rest.parse::<u32>().is_ok()) && numbered > 0 {
                        break;
                    }
                    family = family.or(Family::of(word));
                }
            }
        }
        let family = family.unwrap_or(Family::Other);
        let version = match (numbers, family) {
            ([Some(major), minor], _) => (major, minor.unwrap_or(0)),
            ([None, _], Family::Mythos) => (5, 0),
            ([None, _], _) => (5, 5),
        };
        Some(Model { family, version })
    }

    fn from(self, major: u32, minor: u32) -> bool {
        self.version >= (major, minor)
    }

    fn always_thinks(self) -> bool {
        matches!(self.family, Family::Fable | Family::Mythos) || self.family == Family::Opus && self.from(5, 5)
    }

    pub(super) fn thinks(self) -> Thinks {
        if self.always_thinks() {
            return Thinks::Always;
        }
        match self.version {
            version if version < (3, 7) => Thinks::Never,
            version if version < (4, 6) => Thinks::Budget,
            (4, 6) => Thinks::Both,
            _ => Thinks::Adaptive,
        }
    }

    pub(super) fn off(self) -> Off {
        match self.thinks() {
            Thinks::Never => Off::Silence,
            Thinks::Always => Off::Impossible,
            Thinks::Adaptive if self.family == Family::Sonnet && self.from(5, 5) => Off::BetweenTools,
            Thinks::Budget | Thinks::Both | Thinks::Adaptive => Off::Disabled,
        }
    }

    pub(super) fn efforts(self) -> Efforts {
        match (self.family, self.version) {
            (Family::Opus, (4, 5)) => Efforts::ToHigh,
            (_, (4, 6)) => Efforts::NoXHigh,
            (_, version) if version >= (4, 7) => Efforts::All,
            _ => Efforts::None,
        }
    }

    /// Whether the text of thoughts is left out unless it is asked for.
    pub(super) fn hides_thoughts(self) -> bool {
        self.from(4, 7)
    }

    /// Whether `temperature`, `top_p` and `top_k` are taken.
    pub(super) fn samples(self) -> bool {
        !self.from(4, 7)
    }

    /// Whether `temperature` and `top_p` exclude each other.
    pub(super) fn one_sampler(self) -> bool {
        self.from(4, 1)
    }

    /// Whether a tool can be forced (`any`, `tool`).
    pub(super) fn forced_tool(self) -> bool {
        match self.family {
            Family::Fable | Family::Mythos => !self.from(5, 1),
            Family::Opus | Family::Sonnet => !self.from(5, 5),
            Family::Haiku | Family::Other => true,
        }
    }

    /// Whether the conversation may end with a turn of the assistant, which the answer then goes on from.
    pub(super) fn prefill(self) -> bool {
        !self.from(4, 6)
    }

    /// Whether `messages` may hold turns of the system.
    pub(super) fn system_turns(self) -> bool {
        match self.family {
            Family::Opus => self.from(4, 8),
            Family::Sonnet | Family::Haiku => self.from(5, 5),
            Family::Fable | Family::Mythos | Family::Other => self.from(5, 0),
        }
    }

    pub(super) fn json_schema(self) -> bool {
        self.from(4, 5) || self.family == Family::Opus && self.version == (4, 1)
    }

    /// `max_tokens` when nobody said one: the model's own maximum, and for newer models a part of it (theirs is 128,000).
    pub(super) fn default_output(model: Option<Model>) -> u64 {
        match model {
            Some(model) if model.version < (3, 5) => 4_096,
            Some(model) if model.version < (3, 7) => 8_192,
            Some(model) if model.from(5, 0) => 32_000,
            Some(Model { family: Family::Opus, version: (4, _) }) => 32_000,
            Some(_) => 64_000,
            None => 32_000,
        }
    }

    /// The most that `max_tokens` may be; more is refused.
    pub(super) fn most_output(self) -> u64 {
        match self.version {
            version if version < (3, 5) => 4_096,
            version if version < (3, 7) => 8_192,
            version if version >= (4, 6) => 128_000,
            version if version < (4, 5) && self.family == Family::Opus => 32_000,
            _ => 64_000,
        }
    }
}

// === impl Family ===

impl Family {
    fn of(word: &str) -> Option<Self> {
        match word {
            "opus" => Some(Family::Opus),
            "sonnet" => Some(Family::Sonnet),
            "haiku" => Some(Family::Haiku),
            "fable" => Some(Family::Fable),
            "mythos" => Some(Family::Mythos),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> Model {
        Model::of(name).unwrap()
    }

    #[test]
    fn every_platform_s_name_says_the_same_model() {
        for name in [
            "claude-opus-4-5",
            "claude-opus-4-5-20251101",
            "claude-opus-4-5@20251101",
            "us.anthropic.claude-opus-4-5-20251101-v1:0",
            "anthropic/claude-opus-4.5",
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-4-5-v1",
        ] {
            assert_eq!(model(name), Model { family: Family::Opus, version: (4, 5) }, "{name}");
        }
        for (name, version) in [
            ("claude-3-5-sonnet-latest", (3, 5)),
            ("claude-3-7-sonnet@20250219", (3, 7)),
            ("claude-sonnet-4-20250514", (4, 0)),
            ("claude-4-sonnet", (4, 0)),
            ("claude-sonnet-4-0", (4, 0)),
            ("claude-sonnet-5", (5, 0)),
        ] {
            assert_eq!(model(name), Model { family: Family::Sonnet, version }, "{name}");
        }
        assert_eq!(Model::of("glm-4.6"), None);
        assert_eq!(Model::of("kimi-k2"), None);
    }

    #[test]
    fn the_support_tables_are_kept() {
        use Thinks::*;
        for (name, thinks, off, efforts, samples, schema) in [
            ("claude-3-haiku-20240307", Never, Off::Silence, Efforts::None, true, false),
            ("claude-3-7-sonnet-20250219", Budget, Off::Disabled, Efforts::None, true, false),
            ("claude-opus-4-1-20250805", Budget, Off::Disabled, Efforts::None, true, true),
            ("claude-sonnet-4-5", Budget, Off::Disabled, Efforts::None, true, true),
            ("claude-opus-4-5", Budget, Off::Disabled, Efforts::ToHigh, true, true),
            ("claude-sonnet-4-6", Both, Off::Disabled, Efforts::NoXHigh, true, true),
            ("claude-opus-4-7", Adaptive, Off::Disabled, Efforts::All, false, true),
            ("claude-opus-5", Adaptive, Off::Disabled, Efforts::All, false, true),
            ("claude-sonnet-5-5", Adaptive, Off::BetweenTools, Efforts::All, false, true),
            ("claude-opus-5-5", Always, Off::Impossible, Efforts::All, false, true),
            ("claude-fable-5", Always, Off::Impossible, Efforts::All, false, true),
            ("claude-mythos-preview", Always, Off::Impossible, Efforts::All, false, true),
        ] {
            let it = model(name);
            assert_eq!(
                (it.thinks(), it.off(), it.efforts(), it.samples(), it.json_schema()),
                (thinks, off, efforts, samples, schema),
                "{name}"
            );
        }
        assert!(model("claude-fable-5").forced_tool() && !model("claude-fable-5-1").forced_tool());
        assert!(model("claude-opus-5").forced_tool() && !model("claude-opus-5-5").forced_tool());
    }

    #[test]
    fn a_default_never_exceeds_the_maximum() {
        for (name, default) in [
            ("claude-3-opus-20240229", 4_096),
            ("claude-3-5-haiku-20241022", 8_192),
            ("claude-3-7-sonnet-latest", 64_000),
            ("claude-opus-4-20250514", 32_000),
            ("claude-opus-4-6", 32_000),
            ("claude-sonnet-4-5", 64_000),
            ("claude-haiku-4-5", 64_000),
            ("claude-opus-5", 32_000),
            ("claude-sonnet-9", 32_000),
        ] {
            assert_eq!(Model::default_output(Model::of(name)), default, "{name}");
            assert!(default <= model(name).most_output(), "{name}");
        }
        assert_eq!(Model::default_output(None), 32_000);
    }
}
