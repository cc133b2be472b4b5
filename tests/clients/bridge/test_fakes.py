"""The fakes refuse what the real APIs refuse: else the other tests would prove nothing."""

import json

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from providers.bedrock_converse import ACCESS_KEY, REGION, SECRET_KEY

from .conftest import FAKES
from .sdks import wire

pytestmark = pytest.mark.refused

USER = [{"role": "user", "content": "hi"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
STRICT = {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
PARTS = [{"role": "user", "parts": [{"text": "hi"}]}]
GOOD = {
    "anthropic": ("/v1/messages", {"model": "text", "max_tokens": 9, "messages": USER}),
    "chat": ("/v1/chat/completions", {"model": "text", "messages": USER}),
    "responses": ("/v1/responses", {"model": "text", "input": "hi"}),
    "gemini": ("/v1beta/models/text:generateContent", {"contents": PARTS}),
    "bedrock": ("/model/text/converse", {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
    "cohere": ("/v2/chat", {"model": "text", "stream": False, "messages": USER}),
}
MOUNTS = {"chat": "openai", "responses": "openai"}
HEADERS = {
    "anthropic": {"x-api-key": "k", "anthropic-version": "2023-06-01"},
    "gemini": {"x-goog-api-key": "k"},
}


def post(provider, change, headers=None):
    path, body = GOOD[provider]
    body = {name: value for name, value in (body | change).items() if value is not ...}
    url = f"{FAKES}/{MOUNTS.get(provider, provider)}{path}"
    headers = HEADERS.get(provider, {"authorization": "Bearer k"}) if headers is None else headers
    if provider == "bedrock" and headers.get("authorization") == "Bearer k":
        headers = signed(url, body)
    status, _, raw = wire.post(url, body, headers)
    return status, raw.decode()


def signed(url, body):
    request = botocore.awsrequest.AWSRequest("POST", url, {"content-type": "application/json"}, json.dumps(body))
    credentials = botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY)
    botocore.auth.SigV4Auth(credentials, "bedrock", REGION).add_auth(request)
    return dict(request.headers)


@pytest.mark.parametrize("provider", GOOD)
def test_a_good_request_is_answered(provider, fakes):
    assert post(provider, {})[0] == 200
    assert fakes.faults() == []


@pytest.mark.parametrize("provider", GOOD)
def test_an_unknown_member_is_refused(provider):
    status, text = post(provider, {"surprise": 1})
    assert status == 400 and "surprise" in text


@pytest.mark.parametrize("provider", GOOD)
def test_a_request_without_credentials_is_refused(provider):
    assert post(provider, {}, {})[0] == 400


def turns(*contents):
    """Anthropic's: user and assistant in turn."""
    roles = ["user", "assistant"] * 9
    return {"messages": [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]}


USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
THINK = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
WRONG = {
    "anthropic": [
        ({"max_tokens": ...}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"tool_choice": {"type": "auto"}}, "tool_choice"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "a b"),
        (turns("hi", [USE], "no result"), "tool_result"),
        (turns("hi", "x", [RESULT]), "tool_result"),
        (turns([{"type": "text", "text": " "}]), "whitespace"),
        (turns([{"type": "text", "text": "a", "colour": "red"}]), "colour"),
        (THINK | turns("hi", [USE], [RESULT]), "Expected `thinking`"),
        (THINK | {"max_tokens": 1024}, "budget_tokens"),
        (turns([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!"}}]), "base64"),
    ],
    "chat": [
        ({"messages": []}, "empty"),
        ({"temperature": None}, "null"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"messages": [*USER, {"role": "tool", "tool_call_id": "c1", "content": "x"}]}, "preceding"),
        ({"messages": [*USER, {"role": "assistant", "tool_calls": [CALL]}]}, "did not have response"),
        ({"messages": [*USER, {"role": "assistant", "tool_calls": [CALL | {"id": "c" * 41}]}]}, "too long"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}]}, "messages"),
        ({"tools": [{"type": "function", "function": STRICT}]}, "additionalProperties"),
        ({"response_format": {"type": "json_object"}}, "json"),
    ],
    "responses": [
        ({"input": [{"type": "function_call_output", "call_id": "c1", "output": "x"}]}, "No tool call"),
        ({"input": [{"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}]}, "No tool output"),
        ({"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]}, "input_text"),
        ({"tools": [{"type": "function", **STRICT}]}, "additionalProperties"),
    ],
    "gemini": [
        ({"contents": []}, "required"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "role"),
        ({"contents": [{"role": "user", "parts": []}]}, "parts"),
        ({"contents": [{"role": "user", "parts": [{"text": "x", "colour": "red"}]}]}, "colour"),
        (
            {"contents": [*PARTS, {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
            "number",
        ),
        ({"generationConfig": {"responseSchema": {"type": "OBJECT"}}}, "responseMimeType"),
        ({"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"$schema": "x"}}]}]}, "schema"),
    ],
    "bedrock": [
        ({"messages": [{"role": "user", "content": [{"text": 7}]}]}, "text"),
        ({"messages": [{"role": "assistant", "content": [{"text": "x"}]}]}, "start with a user"),
        ({"inferenceConfig": {"maxTokens": "many"}}, "maxTokens"),
        (
            {"messages": [{"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": []}}]}]},
            "toolConfig",
        ),
        ({"modelId": "text"}, "path"),
    ],
    "cohere": [
        ({"stream": ...}, "stream"),
        ({"tool_choice": "AUTO"}, "tool_choice"),
        ({"messages": [*USER, {"role": "tool", "tool_call_id": "c1", "content": "x"}]}, "tool_call_id"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "role"),
    ],
}


@pytest.mark.parametrize(
    ("provider", "change", "why"),
    [(provider, change, why) for provider, cases in WRONG.items() for change, why in cases],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_request_is_refused_with_its_reason(provider, change, why, fakes):
    status, text = post(provider, change)
    assert status == 400 and why in text, text
    (fault,) = fakes.faults()
    assert why in fault and "broke" not in fault


def test_a_wrong_signature_is_refused():
    url = f"{FAKES}/bedrock/model/text/converse"
    headers = signed(url, GOOD["bedrock"][1])
    status, text = post("bedrock", {"system": [{"text": "another body"}]}, headers)
    assert status == 400 and "signature does not match" in text
    status, text = post("bedrock", {}, headers | {"x-amz-date": "20260101T000000Z"})
    assert status == 400


def test_the_newer_version_of_anthropics_api_takes_no_temperature():
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    assert post("anthropic", {}, headers)[0] == 200
    assert post("anthropic", {"temperature": 1}, headers)[0] == 400
    assert post("anthropic", {"temperature": 1})[0] == 200
