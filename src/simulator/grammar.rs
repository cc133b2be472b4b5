//! How the APIs other than OpenAI's refuse: their error bodies, and what each says for the misbehaving models.
//!
//! Wording from recorded traffic where there is some, else from the references: Anthropic "Errors", `google.rpc.Status` and
//! `google.rpc.RetryInfo`, Amazon Bedrock Runtime "Common errors", Cohere "Errors". OpenAI's and Azure's are in `fault`.

use bytes::Bytes;
use http::StatusCode;
use http::header::{AUTHORIZATION, HOST};
use serde_json::{Value, json};

use super::fault::Fault;
use super::inquiry::{Inquiry, Task, Vendor};
use super::reply::Reply;
use super::scenario::Scenario;

/// Where AWS keeps its exceptions; it comes with the name of each.
const CORAL: &str = ":http://internal.amazon.com/coral/com.amazon.bedrock/";

/// A refusal in the words of this API; its type follows from the status.
pub(super) fn fault(vendor: Vendor, status: u16, message: impl Into<String>) -> Fault {
    let kind = match vendor {
        Vendor::OpenAi | Vendor::Azure => "invalid_request_error",
        Vendor::Anthropic => match status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        },
        Vendor::Gemini => match status {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            500.. => "INTERNAL",
            _ => "INVALID_ARGUMENT",
        },
        Vendor::Bedrock => match status {
            403 => "UnrecognizedClientException",
            404 => "ResourceNotFoundException",
            429 => "ThrottlingException",
            503 => "ServiceUnavailableException",
            500.. => "InternalServerException",
            _ => "ValidationException",
        },
        Vendor::Cohere => "",
    };
    Fault::new(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), kind, message)
}

pub(super) fn body(fault: &Fault, vendor: Vendor) -> Value {
    let Fault { status, kind, message, param, .. } = fault;
    match vendor {
        Vendor::OpenAi | Vendor::Azure => fault.body(),
        Vendor::Anthropic => {
            json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_simulated" })
        }
        Vendor::Gemini => {
            let mut error = json!({ "code": status.as_u16(), "message": message, "status": kind });
            if *status == StatusCode::TOO_MANY_REQUESTS {
                let quota = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier";
                error["details"] = json!([
                    { "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{ "quotaId": quota }] },
                    { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s" },
                ]);
            } else if let Some(reason) = param {
                let kind = "type.googleapis.com/google.rpc.ErrorInfo";
                error["details"] = json!([{ "@type": kind, "reason": reason, "domain": "googleapis.com" }]);
            }
            json!({ "error": error })
        }
        Vendor::Bedrock => json!({ "message": message }),
        Vendor::Cohere => {
            let mut body = json!({ "id": "00000000-0000-4000-8000-000000000000", "message": message });
            if !kind.is_empty() {
                body["error_type"] = json!(kind);
            }
            body
        }
    }
}

/// Headers that belong to the error's grammar.
pub(super) fn header(fault: &Fault, vendor: Vendor) -> Option<(&'static str, String)> {
    match vendor {
        Vendor::Bedrock => Some(("x-amzn-errortype", format!("{}{CORAL}", fault.kind))),
        Vendor::Anthropic => Some(("request-id", "req_simulated".to_owned())),
        Vendor::OpenAi | Vendor::Azure | Vendor::Gemini | Vendor::Cohere => None,
    }
}

pub(super) fn no_key(vendor: Vendor) -> Fault {
    match vendor {
        Vendor::OpenAi | Vendor::Azure => Fault::no_key(),
        Vendor::Anthropic => fault(vendor, 401, "x-api-key header is required"),
        Vendor::Gemini => {
            let message = "Method doesn't allow unregistered callers (callers without established identity). Please use API \
                 Key or other form of API consumer identity to call this API.";
            fault(vendor, 403, message)
        }
        Vendor::Bedrock => fault(vendor, 403, "Missing Authentication Token"),
        Vendor::Cohere => fault(vendor, 401, "no api key supplied"),
    }
}

pub(super) fn wrong_key(vendor: Vendor, key: &str) -> Fault {
    match vendor {
        Vendor::OpenAi | Vendor::Azure => Fault::wrong_key(key),
        Vendor::Anthropic => fault(vendor, 401, "invalid x-api-key"),
        Vendor::Gemini => {
            fault(vendor, 400, "API key not valid. Please pass a valid API key.").param("API_KEY_INVALID")
        }
        Vendor::Bedrock => fault(vendor, 403, "The security token included in the request is invalid."),
        Vendor::Cohere => {
            let message = "Incorrect API key provided: ***********. You can find your API key at \
                 https://dashboard.cohere.com/api-keys.";
            fault(vendor, 401, message)
        }
    }
}

pub(super) fn not_json(vendor: Vendor) -> Fault {
    let message = match vendor {
        Vendor::OpenAi | Vendor::Azure => return Fault::not_json(),
        Vendor::Anthropic => "The request body is not valid JSON.",
        Vendor::Gemini => "Invalid JSON payload received. Expected a value.",
        Vendor::Bedrock => "Malformed input request, please reformat your input and try again.",
        Vendor::Cohere => "invalid request: failed to parse the request body as JSON",
    };
    fault(vendor, 400, message)
}

pub(super) fn no_model(vendor: Vendor) -> Fault {
    match vendor {
        Vendor::OpenAi | Vendor::Azure => Fault::no_model(),
        Vendor::Anthropic => fault(vendor, 400, "model: Field required"),
        Vendor::Gemini | Vendor::Bedrock => fault(vendor, 400, "The provided model identifier is invalid."),
        Vendor::Cohere => fault(vendor, 400, "invalid request: model must be specified"),
    }
}

pub(super) fn wrong_method(inquiry: &Inquiry) -> Fault {
    match inquiry.vendor {
        Vendor::OpenAi | Vendor::Azure => Fault::wrong_method(&inquiry.method),
        vendor @ (Vendor::Anthropic | Vendor::Gemini | Vendor::Bedrock | Vendor::Cohere) => {
            fault(vendor, 405, "Method Not Allowed")
        }
    }
}

/// A member that the API does not know.
pub(super) fn unknown_member(vendor: Vendor, name: &str) -> Fault {
    match vendor {
        Vendor::OpenAi | Vendor::Azure => Fault::bad(format!("Unknown parameter: '{name}'.")).param(name),
        Vendor::Anthropic => fault(vendor, 400, format!("{name}: Extra inputs are not permitted")),
        Vendor::Gemini => {
            let message = format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot find field.");
            fault(vendor, 400, message)
        }
        Vendor::Bedrock => {
            let message = format!(
                "Malformed input request: extraneous key [{name}] is not permitted, please reformat your input and try again."
            );
            fault(vendor, 400, message)
        }
        Vendor::Cohere => fault(vendor, 422, format!("unknown field: parameter '{name}' is not a valid field")),
    }
}

/// The first member of an object that is not among those known.
pub(super) fn check_members(vendor: Vendor, object: &Value, known: &[&str]) -> Result<(), Fault> {
    let unknown = object.as_object().into_iter().flatten().find(|(name, _)| !known.contains(&name.as_str()));
    unknown.map_or(Ok(()), |(name, _)| Err(unknown_member(vendor, name)))
}

/// What overload is called in this API, at once or in mid-stream.
pub(super) fn overloaded(vendor: Vendor) -> Fault {
    let message = match vendor {
        Vendor::OpenAi | Vendor::Azure => return Fault::server_error(),
        Vendor::Anthropic => return fault(vendor, 529, "Overloaded"),
        Vendor::Gemini => "The model is overloaded. Please try again later.",
        Vendor::Bedrock => "Bedrock is unable to process your request.",
        Vendor::Cohere => "service unavailable, please try again later",
    };
    fault(vendor, 503, message)
}

/// A whole answer, as the model's name has it.
pub(super) fn whole(task: &Task<'_>, document: &Value) -> Result<Reply, Fault> {
    if task.scenario == Scenario::ErrorEvent {
        return Err(overloaded(task.vendor));
    }
    Ok(match task.vendor {
        Vendor::OpenAi | Vendor::Azure | Vendor::Gemini => task.scenario.whole(document),
        Vendor::Anthropic | Vendor::Bedrock | Vendor::Cohere => task.scenario.whole_text(document.to_string()),
    })
}

/// A frame of server-sent events with a name.
pub(super) fn event(name: &str, document: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {document}\n\n"))
}

/// The refusal a misbehaving model gives instead of an answer.
pub(super) fn refusal(scenario: Scenario, model: &str, inquiry: &Inquiry) -> Option<Fault> {
    let vendor = inquiry.vendor;
    match scenario {
        Scenario::RateLimited => Some(rate_limited(vendor)),
        Scenario::ServerError => Some(server_error(vendor)),
        Scenario::Overloaded => Some(overloaded(vendor)),
        Scenario::BadRequest => Some(bad_temperature(vendor)),
        Scenario::Unauthorized => Some(leak(inquiry)),
        Scenario::NoSuchModel => Some(no_such_model(vendor, model)),
        Scenario::ContextLength => Some(too_long(vendor)),
        // Gemini and Bedrock answer: what they answer says that it was filtered
        Scenario::ContentFilter => match vendor {
            Vendor::Gemini | Vendor::Bedrock => None,
            Vendor::Anthropic | Vendor::OpenAi | Vendor::Azure => {
                Some(fault(vendor, 400, "Output blocked by content filtering policy"))
            }
            Vendor::Cohere => Some(fault(vendor, 400, "the request was blocked by the safety mode")),
        },
        Scenario::Plain
        | Scenario::Hang
        | Scenario::HangStream
        | Scenario::Cut
        | Scenario::Slow
        | Scenario::Think
        | Scenario::ErrorEvent
        | Scenario::NoUsage
        | Scenario::Long => None,
    }
}

fn rate_limited(vendor: Vendor) -> Fault {
    let message = match vendor {
        Vendor::OpenAi | Vendor::Azure => "Rate limit reached.",
        Vendor::Anthropic => {
            "This request would exceed your organization's rate limit of 50 requests per minute. For details, refer to: \
             https://docs.claude.com/en/api/rate-limits."
        }
        Vendor::Gemini => "You exceeded your current quota, please check your plan and billing details.",
        Vendor::Bedrock => "Too many requests, please wait before trying again.",
        Vendor::Cohere => {
            "You are using a Trial key, which is limited to 20 API calls / minute. You can continue to use the Trial key for \
             free or upgrade to a Production key with higher rate limits at 'https://dashboard.cohere.com/api-keys'."
        }
    };
    let fault = fault(vendor, 429, message);
    match vendor {
        Vendor::Anthropic => fault.header("retry-after", "1").header("anthropic-ratelimit-requests-remaining", "0"),
        Vendor::OpenAi | Vendor::Azure | Vendor::Gemini | Vendor::Bedrock | Vendor::Cohere => fault,
    }
}

fn server_error(vendor: Vendor) -> Fault {
    let message = match vendor {
        Vendor::OpenAi | Vendor::Azure => return Fault::server_error(),
        Vendor::Anthropic => "Internal server error",
        Vendor::Gemini => {
            "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting"
        }
        Vendor::Bedrock => "The system encountered an unexpected error during processing. Try your request again.",
        Vendor::Cohere => "internal server error",
    };
    fault(vendor, 500, message)
}

pub(super) fn bad_temperature(vendor: Vendor) -> Fault {
    let message = match vendor {
        Vendor::OpenAi | Vendor::Azure | Vendor::Anthropic => "temperature: range: 0..1",
        Vendor::Gemini => {
            "Unable to submit request because it has a temperature value out of the supported range, which is from 0 \
             (inclusive) to 2.0001 (exclusive). Update the value and try again."
        }
        Vendor::Bedrock => {
            "The value at inferenceConfig.temperature must be between 0 and 1. Update the value and try again."
        }
        Vendor::Cohere => "invalid request: temperature must be between 0 and 1.0 inclusive.",
    };
    fault(vendor, 400, message)
}

/// Repeats the credential and the host it got.
fn leak(inquiry: &Inquiry) -> Fault {
    let shown = |name: &str| inquiry.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let names = ["x-api-key", "x-goog-api-key", AUTHORIZATION.as_str()];
    let key = names.iter().find_map(|name| shown(name)).unwrap_or_default();
    let host = shown(HOST.as_str()).unwrap_or_default();
    let status = match inquiry.vendor {
        Vendor::Gemini => 400,
        Vendor::Bedrock => 403,
        Vendor::OpenAi | Vendor::Azure | Vendor::Anthropic | Vendor::Cohere => 401,
    };
    fault(inquiry.vendor, status, format!("Incorrect API key provided: {key} (at {host})."))
}

fn no_such_model(vendor: Vendor, model: &str) -> Fault {
    match vendor {
        Vendor::OpenAi | Vendor::Azure => Fault::no_such_model(model),
        Vendor::Anthropic => fault(vendor, 404, format!("model: {model}")),
        Vendor::Gemini => {
            let message = format!(
                "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call \
                 ModelService.ListModels to see the list of available models and their supported methods."
            );
            fault(vendor, 404, message)
        }
        Vendor::Bedrock => fault(vendor, 400, "The provided model identifier is invalid."),
        Vendor::Cohere => {
            let message = format!(
                "model '{model}' not found, make sure the correct model ID was used and that you have access to the model."
            );
            fault(vendor, 404, message)
        }
    }
}

fn too_long(vendor: Vendor) -> Fault {
    let message = match vendor {
        Vendor::OpenAi | Vendor::Azure | Vendor::Anthropic => "prompt is too long: 212345 tokens > 200000 maximum",
        Vendor::Gemini => "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).",
        Vendor::Bedrock => "The model returned the following errors: Input is too long for requested model.",
        Vendor::Cohere => {
            "too many tokens: size limit exceeded by 25836 tokens. Try using shorter or fewer inputs. The limit for this \
             model is 288000 tokens."
        }
    };
    let mut fault = fault(vendor, 400, message);
    if vendor == Vendor::Cohere {
        fault.kind = "TOO_MANY_TOKENS";
    }
    fault
}
