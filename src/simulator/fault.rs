//! Error bodies in OpenAI's own words, and Azure's where they differ (platform.openai.com/docs/guides/error-codes; wording
//! from recorded traffic). Those of the other APIs are in `grammar`.

use http::StatusCode;
use serde_json::{Value, json};

use super::grammar;
use super::inquiry::Vendor;
use super::reply::Reply;

/// A refusal as the API words it, in OpenAI's terms: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) message: String,
    pub(super) param: Option<String>,
    pub(super) code: Option<&'static str>,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Azure's code and message for it, where Azure's gateway answers in OpenAI's stead.
    at_azure: Option<&'static AzureWords>,
}

/// A code and a message.
type AzureWords = (&'static str, &'static str);

static AZURE_KEY: AzureWords = (
    "401",
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active \
     subscription and use a correct regional API endpoint for your resource.",
);
static AZURE_PATH: AzureWords = ("404", "Resource not found");
static AZURE_DEPLOYMENT: AzureWords = (
    "DeploymentNotFound",
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please \
     wait a moment and try again.",
);

// === impl Fault ===

impl Fault {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None, code: None, headers: Vec::new(), at_azure: None }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(super) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn azure(mut self, words: &'static AzureWords) -> Self {
        self.at_azure = Some(words);
        self
    }

    pub(super) fn not_json() -> Self {
        Self::bad(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library \
             correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble \
             figuring out how to fix this, please contact us through our help center at help.openai.com.)",
        )
    }

    pub(super) fn no_model() -> Self {
        Self::bad("you must provide a model parameter")
    }

    pub(super) fn missing(param: &str) -> Self {
        Self::bad(format!("Missing required parameter: '{param}'.")).param(param).code("missing_required_parameter")
    }

    pub(super) fn wrong_type(param: &str, expected: &str, got: &Value) -> Self {
        let got = match got {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        Self::bad(format!("Invalid type for '{param}': expected {expected}, but got {got} instead."))
            .param(param)
            .code("invalid_type")
    }

    pub(super) fn no_such_url(method: &http::Method, path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", format!("Invalid URL ({method} {path})"))
            .azure(&AZURE_PATH)
    }

    pub(super) fn wrong_method(method: &http::Method) -> Self {
        let message =
            format!("Not allowed to {method} on this URL. (HINT: Perhaps you meant to use a different HTTP method?)");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message).code("method_not_supported")
    }

    pub(super) fn no_such_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
            .code("model_not_found")
            .azure(&AZURE_DEPLOYMENT)
    }

    pub(super) fn no_such(what: &str, id: &str) -> Self {
        let message = format!("No such {what} object: {id}");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message).param("id")
    }

    pub(super) fn no_key() -> Self {
        let message = "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer \
             auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing \
             the API from your browser and are prompted for a username and password. You can obtain an API key from \
             https://platform.openai.com/account/api-keys.";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message).azure(&AZURE_KEY)
    }

    /// The key is shown as OpenAI shows it: both ends, stars between.
    pub(super) fn wrong_key(key: &str) -> Self {
        let letters: Vec<char> = key.chars().collect();
        let shown: String = match letters.len() {
            0..=12 => key.to_owned(),
            length => (0..length)
                .zip(&letters)
                .map(|(at, letter)| if at < 8 || at + 4 >= length { *letter } else { '*' })
                .collect(),
        };
        let message = format!(
            "Incorrect API key provided: {shown}. You can find your API key at https://platform.openai.com/account/api-keys."
        );
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message).code("invalid_api_key").azure(&AZURE_KEY)
    }

    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "Maximum content size limit exceeded.")
    }

    pub(super) fn server_error() -> Self {
        let message = "The server had an error while processing your request. Sorry about that!";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(super) fn body(&self) -> Value {
        let Self { kind, message, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }

    pub(super) fn reply(&self, vendor: Vendor) -> Reply {
        let body = match (vendor, self.at_azure) {
            (Vendor::Azure, Some((code, message))) => json!({ "error": { "code": code, "message": message } }),
            (Vendor::Azure | Vendor::OpenAi, _) => self.body(),
            (Vendor::Anthropic | Vendor::Gemini | Vendor::Bedrock | Vendor::Cohere, _) => grammar::body(self, vendor),
        };
        let reply = Reply::whole(self.status, "application/json", format!("{body:#}\n"));
        let reply =
            grammar::header(self, vendor).into_iter().fold(reply, |reply, (name, value)| reply.header(name, &value));
        self.headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }
}
