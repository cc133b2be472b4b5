//! What a client can ask for, by name. The same word stands in the config (`paths`), the log and the metrics.

use std::fmt;

use crate::chat::Dialect;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    ChatCompletions,
    Completions,
    Embeddings,
    Responses,
    /// Anthropic messages.
    Messages,
    /// Anthropic messages/count_tokens.
    CountMessageTokens,
    /// Gemini generateContent and streamGenerateContent.
    GenerateContent,
    /// Gemini countTokens.
    CountContentTokens,
    /// Bedrock CountTokens, of a Converse body.
    CountConverseTokens,
    /// Gemini embedContent and batchEmbedContents.
    EmbedContent,
    /// Bedrock Converse and ConverseStream.
    Converse,
    /// Bedrock InvokeModel, for embeddings.
    Invoke,
    /// Cohere chat, version 2.
    CohereChat,
    /// Cohere embed, version 2.
    CohereEmbed,
    /// Cohere's rerank and what is shaped like it.
    Rerank,
    /// Bedrock's rerank, of the agent runtime.
    BedrockRerank,
    /// Ollama's own embeddings.
    OllamaEmbed,
    /// Vertex predict, for text embeddings.
    Predict,
}

/// In whose words errors are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Grammar {
    #[default]
    OpenAi,
    Anthropic,
    Google,
}

impl Operation {
    pub const ALL: [Operation; 18] = [
        Operation::ChatCompletions,
        Operation::Completions,
        Operation::Embeddings,
        Operation::Responses,
        Operation::Messages,
        Operation::CountMessageTokens,
        Operation::GenerateContent,
        Operation::CountContentTokens,
        Operation::CountConverseTokens,
        Operation::EmbedContent,
        Operation::Converse,
        Operation::Invoke,
        Operation::CohereChat,
        Operation::CohereEmbed,
        Operation::Rerank,
        Operation::BedrockRerank,
        Operation::OllamaEmbed,
        Operation::Predict,
    ];

    /// The word in config, log and metric (OpenTelemetry GenAI `gen_ai.operation.name` where it has one).
    pub fn name(self) -> &'static str {
        match self {
            Operation::ChatCompletions => "chat_completions",
            Operation::Completions => "completions",
            Operation::Embeddings => "embeddings",
            Operation::Responses => "responses",
            Operation::Messages => "messages",
            Operation::CountMessageTokens => "count_message_tokens",
            Operation::GenerateContent => "generate_content",
            Operation::CountContentTokens => "count_content_tokens",
            Operation::CountConverseTokens => "count_converse_tokens",
            Operation::EmbedContent => "embed_content",
            Operation::Converse => "converse",
            Operation::Invoke => "invoke",
            Operation::CohereChat => "cohere_chat",
            Operation::CohereEmbed => "cohere_embed",
            Operation::Rerank => "rerank",
            Operation::BedrockRerank => "bedrock_rerank",
            Operation::OllamaEmbed => "ollama_embed",
            Operation::Predict => "predict",
        }
    }

    /// The operation that a word in the config stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// The conversation grammar it is written in; `None` for what is not a conversation.
    pub fn dialect(self) -> Option<Dialect> {
        match self {
            Operation::ChatCompletions => Some(Dialect::OpenAiChat),
            Operation::Responses => Some(Dialect::OpenAiResponses),
            Operation::Messages => Some(Dialect::Anthropic),
            Operation::GenerateContent => Some(Dialect::Gemini),
            Operation::Converse => Some(Dialect::Bedrock),
            Operation::CohereChat => Some(Dialect::Cohere),
            Operation::Completions
            | Operation::Embeddings
            | Operation::CountMessageTokens
            | Operation::CountContentTokens
            | Operation::CountConverseTokens
            | Operation::EmbedContent
            | Operation::Invoke
            | Operation::CohereEmbed
            | Operation::Rerank
            | Operation::BedrockRerank
            | Operation::OllamaEmbed
            | Operation::Predict => None,
        }
    }

    /// In whose words a client that uses it reads errors.
    pub fn grammar(self) -> Grammar {
        match self {
            Operation::Messages | Operation::CountMessageTokens => Grammar::Anthropic,
            Operation::GenerateContent
            | Operation::CountContentTokens
            | Operation::EmbedContent
            | Operation::Predict => Grammar::Google,
            Operation::ChatCompletions
            | Operation::Completions
            | Operation::Embeddings
            | Operation::Responses
            | Operation::CountConverseTokens
            | Operation::Converse
            | Operation::Invoke
            | Operation::CohereChat
            | Operation::CohereEmbed
            | Operation::Rerank
            | Operation::BedrockRerank
            | Operation::OllamaEmbed => Grammar::OpenAi,
        }
    }

    /// The path below a provider's base URL; `{model}` stands for the percent-encoded model.
    pub fn path(self) -> &'static str {
        match self {
            Operation::ChatCompletions => "/chat/completions",
            Operation::Completions => "/completions",
            Operation::Embeddings => "/embeddings",
            Operation::Responses => "/responses",
            Operation::Messages => "/messages",
            Operation::CountMessageTokens => "/messages/count_tokens",
            Operation::GenerateContent => "/models/{model}:generateContent",
            Operation::CountContentTokens => "/models/{model}:countTokens",
            Operation::CountConverseTokens => "/model/{model}/count-tokens",
            Operation::EmbedContent => "/models/{model}:batchEmbedContents",
            Operation::Converse => "/model/{model}/converse",
            Operation::Invoke => "/model/{model}/invoke",
            Operation::CohereChat => "/v2/chat",
            Operation::CohereEmbed => "/v2/embed",
            Operation::Rerank => "/v2/rerank",
            Operation::BedrockRerank => "/rerank",
            Operation::OllamaEmbed => "/api/embed",
            Operation::Predict => "/models/{model}:predict",
        }
    }

    /// The path of a call that is answered as a stream, where it is another one.
    pub fn stream_path(self) -> Option<&'static str> {
        match self {
            Operation::GenerateContent => Some("/models/{model}:streamGenerateContent?alt=sse"),
            Operation::Converse => Some("/model/{model}/converse-stream"),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
