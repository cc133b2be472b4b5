//! What a model's id says about it: whose it is, and which of Converse's optional members it takes.
//!
//! Converse is one grammar for many vendors' models, but refuses members that a model does not know. An id that says nothing (the ARN of
//! an application inference profile or of a custom model) is [`Family::Unknown`]: it is given what Converse itself has a word for.
//! Truth: Amazon Bedrock User Guide, "Supported models and model features", "Prompt caching", "Structured outputs"; Amazon Nova User
//! Guide; Anthropic, "Extended thinking" and "Adaptive thinking".

/// Whose model it is, as far as Converse treats it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Claude(Version),
    /// The generation: 1 or 2.
    Nova(u32),
    /// gpt-oss.
    OpenAi,
    Mistral,
    Cohere,
    /// Open-weight models whose answers can be held to a JSON schema: Qwen, DeepSeek from V3 on, Gemma, MiniMax, Kimi, Nemotron, GLM.
    OpenWeight,
    /// Llama, Titan, Jamba, DeepSeek R1 and whatever else has a vendor's name in its id.
    Other,
    Unknown,
}

/// Of a Claude model. Ordered by age; (0, 0) when the id does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

// === impl Family ===

impl Family {
    pub fn of(model: &str) -> Self {
        let model = model.to_ascii_lowercase();
        let has = |word: &str| model.contains(word);
        if has("claude") || has("anthropic.") {
            Family::Claude(Version::of(&model))
        } else if has("amazon.nova") {
            Family::Nova(if has("nova-2") { 2 } else { 1 })
        } else if has("openai.") {
            Family::OpenAi
        } else if has("mistral.") {
            Family::Mistral
        } else if has("cohere.") {
            Family::Cohere
        } else if ["qwen.", "deepseek.v", "google.", "minimax.", "moonshot", "nvidia.", "zai."].iter().any(|w| has(w)) {
            Family::OpenWeight
        } else if ["amazon.", "meta.", "ai21.", "deepseek.", "writer.", "stability.", "luma.", "twelvelabs."]
            .iter()
            .any(|w| has(w))
        {
            Family::Other
        } else {
            Family::Unknown
        }
    }

    pub fn is_claude(self) -> bool {
        matches!(self, Family::Claude(_))
    }

    /// `outputConfig.textFormat` and `toolSpec.strict` ("Structured outputs": Claude from 4.5 on, and open-weight models).
    pub fn json_schema(self) -> bool {
        match self {
            Family::Claude(version) => version >= Version(4, 5),
            Family::OpenAi | Family::OpenWeight => true,
            Family::Nova(_) | Family::Mistral | Family::Cohere | Family::Other | Family::Unknown => false,
        }
    }

    /// `cachePoint` in messages and system ("Prompt caching": Claude and Nova).
    pub fn cache(self) -> bool {
        matches!(self, Family::Claude(_) | Family::Nova(_) | Family::Unknown)
    }

    /// `cachePoint` behind tools, and terms other than five minutes: Claude only.
    pub fn cache_tools(self) -> bool {
        matches!(self, Family::Claude(_) | Family::Unknown)
    }

    /// `toolChoice` other than `auto`.
    pub fn forced_tools(self) -> bool {
        matches!(self, Family::Claude(_) | Family::Nova(_) | Family::Mistral | Family::Unknown)
    }

    /// `toolResult.status` ("only supported by Amazon Nova and Anthropic Claude 3 and 4 models").
    pub fn tool_status(self) -> bool {
        matches!(self, Family::Claude(_) | Family::Nova(_) | Family::Unknown)
    }
}

// === impl Version ===

impl Version {
    /// `claude-sonnet-4-5-20250929`, `claude-3-7-sonnet-20250219`, `claude-opus-4-20250514`, `claude-sonnet-5`: one or two small numbers
    /// behind `claude`, perhaps with the size between. A date is eight digits, a revision begins with `v`.
    fn of(model: &str) -> Self {
        let Some((_, rest)) = model.split_once("claude") else { return Version(0, 0) };
        let mut numbers = rest
            .split(['-', '.', ':', '@'])
            .take_while(|word| !word.starts_with('v'))
            .skip_while(|word| !is_small(word))
            .take_while(|word| is_small(word))
            .filter_map(|word| word.parse().ok());
        Version(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

fn is_small(word: &str) -> bool {
    (1..=2).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_whose_and_how_old_a_model_is() {
        let claude = |a, b| Family::Claude(Version(a, b));
        for (id, family) in [
            ("anthropic.claude-3-5-sonnet-20241022-v2:0", claude(3, 5)),
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", claude(3, 7)),
            ("anthropic.claude-3-sonnet-20240229-v1:0", claude(3, 0)),
            ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", claude(4, 5)),
            ("us.anthropic.claude-opus-4-20250514-v1:0", claude(4, 0)),
            ("us.anthropic.claude-sonnet-4-6", claude(4, 6)),
            ("us.anthropic.claude-sonnet-5", claude(5, 0)),
            (
                "arn:aws:bedrock:us-east-1:012345678901:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0",
                claude(4, 5),
            ),
            ("anthropic.claude-v2:1", claude(0, 0)),
            ("us.amazon.nova-2-lite-v1:0", Family::Nova(2)),
            ("amazon.nova-lite-v1:0", Family::Nova(1)),
            ("openai.gpt-oss-120b-1:0", Family::OpenAi),
            ("us.deepseek.r1-v1:0", Family::Other),
            ("deepseek.v3-v1:0", Family::OpenWeight),
            ("amazon.titan-text-lite-v1", Family::Other),
            ("arn:aws:bedrock:us-east-1:012345678901:application-inference-profile/abcdefghijkl", Family::Unknown),
        ] {
            assert_eq!(Family::of(id), family, "{id}");
        }
    }
}
