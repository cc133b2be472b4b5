//! What a vector is made for, in the words of those who ask.
//!
//! Cohere: API reference, embed v2, `input_type`. Google: Gemini API reference, `TaskType`; Vertex' service description names the same.

/// Closed list: what Google and Cohere tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Query,
    Document,
    Similarity,
    Classification,
    Clustering,
    QuestionAnswering,
    FactVerification,
    CodeQuery,
}

impl Purpose {
    /// By Google's word, by Cohere's, or by one of those that OpenAI-compatible vendors use beside them.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "retrieval_query" | "search_query" | "query" => Purpose::Query,
            "retrieval_document" | "search_document" | "document" | "passage" => Purpose::Document,
            "semantic_similarity" => Purpose::Similarity,
            "classification" => Purpose::Classification,
            "clustering" => Purpose::Clustering,
            "question_answering" => Purpose::QuestionAnswering,
            "fact_verification" => Purpose::FactVerification,
            "code_retrieval_query" => Purpose::CodeQuery,
            _ => return None,
        })
    }

    pub(super) fn google(self) -> &'static str {
        match self {
            Purpose::Query => "RETRIEVAL_QUERY",
            Purpose::Document => "RETRIEVAL_DOCUMENT",
            Purpose::Similarity => "SEMANTIC_SIMILARITY",
            Purpose::Classification => "CLASSIFICATION",
            Purpose::Clustering => "CLUSTERING",
            Purpose::QuestionAnswering => "QUESTION_ANSWERING",
            Purpose::FactVerification => "FACT_VERIFICATION",
            Purpose::CodeQuery => "CODE_RETRIEVAL_QUERY",
        }
    }

    /// The word of Amazon's Nova (User Guide, "Complete embeddings request and response schema"). `Err`: the nearest.
    pub(super) fn nova(self) -> Result<&'static str, &'static str> {
        match self {
            Purpose::Query => Ok("TEXT_RETRIEVAL"),
            Purpose::Document => Ok("GENERIC_INDEX"),
            Purpose::Classification => Ok("CLASSIFICATION"),
            Purpose::Clustering => Ok("CLUSTERING"),
            Purpose::Similarity => Err("CLUSTERING"),
            Purpose::QuestionAnswering | Purpose::FactVerification | Purpose::CodeQuery => Err("TEXT_RETRIEVAL"),
        }
    }

    /// Cohere's word. `Err`: the nearest.
    pub(super) fn cohere(self) -> Result<&'static str, &'static str> {
        match self {
            Purpose::Query => Ok("search_query"),
            Purpose::Document => Ok("search_document"),
            Purpose::Classification => Ok("classification"),
            Purpose::Clustering => Ok("clustering"),
            Purpose::Similarity => Err("clustering"),
            Purpose::QuestionAnswering | Purpose::FactVerification | Purpose::CodeQuery => Err("search_query"),
        }
    }
}
