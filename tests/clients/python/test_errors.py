"""What a program catches: each failure as the SDK's own exception class, after as many requests as the SDK should make."""

import json
import time
import urllib.error
import urllib.request

import openai
import pytest

from conftest import HELLO, KEY, MODEL, URL, make_client


def chat(client, model=MODEL, **options):
    return client.chat.completions.create(model=model, messages=HELLO, **options)


def drain(client, model):
    return list(chat(client, model, stream=True))


def test_an_unknown_model_is_not_found_with_near_names(client):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, "gpt-4o-mni")
    error = caught.value
    assert error.code == "model_not_found"
    assert error.type == "invalid_request_error"
    assert error.param == "model"
    assert "gpt-4o-mini" in error.message
    assert error.request_id


def test_a_wrong_key_is_an_authentication_error_and_is_not_retried():
    with make_client(api_key="sk-wrong-key-0000000000000000", max_retries=2) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            chat(client)
        assert len(client.sent) == 1
    assert caught.value.code == "invalid_api_key"
    assert "sk-wrong-key" not in str(caught.value), "an error must not repeat the key"


def test_a_wrong_key_cannot_list_models():
    with make_client(api_key="sk-wrong-key-0000000000000000") as client:
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_a_bad_request_names_the_member_and_is_not_retried():
    with make_client(max_retries=2) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client, "sim-400")
        assert len(client.sent) == 1
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param
    assert caught.value.message


def test_a_context_overflow_has_its_own_code(client):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, "sim-context")
    assert caught.value.code == "context_length_exceeded"


def test_a_rate_limit_is_retried_after_the_time_we_say_then_raised():
    with make_client(max_retries=1) as client:
        began = time.monotonic()
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client, "sim-429")
        took = time.monotonic() - began
        assert len(client.sent) == 2
    assert caught.value.response.headers["retry-after"] == "1"
    assert 0.9 <= took < 6


@pytest.mark.parametrize("model, status", [("sim-500", 500), ("sim-503", 503)])
def test_a_provider_failure_is_an_internal_server_error(model, status):
    with make_client(max_retries=1) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            chat(client, model)
        assert len(client.sent) == 2
    assert caught.value.status_code == status
    assert caught.value.message
    assert caught.value.request_id


def test_a_refused_provider_credential_is_an_error_without_secrets(client):
    """`sim-401` repeats the credential and the host it was sent: neither is the client's business."""
    with pytest.raises(openai.APIStatusError) as caught:
        chat(client, "sim-401")
    assert caught.value.request_id
    text = caught.value.response.text
    assert "Bearer" not in text and "127.0.0.1" not in text and "localhost" not in text and KEY not in text


def test_a_flaky_provider_succeeds_through_the_sdks_retries():
    with make_client(max_retries=2) as client:
        for _ in range(3):
            assert chat(client, "sim-flaky").choices[0].message.content
        assert len(client.sent) > 3, "sim-flaky fails every second time, so at least one call was retried"


def test_a_provider_that_hangs_runs_into_the_clients_own_timeout():
    with make_client(timeout=1) as client:
        began = time.monotonic()
        with pytest.raises(openai.APITimeoutError):
            chat(client, "sim-hang")
        assert time.monotonic() - began < 3


def test_a_stream_that_hangs_runs_into_the_clients_own_timeout():
    with make_client(timeout=1) as client:
        began = time.monotonic()
        with pytest.raises(openai.APITimeoutError):
            drain(client, "sim-hang-stream")
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("model", ["sim-cut", "sim-error-event"])
def test_a_broken_stream_raises_and_does_not_end_as_if_complete(client, model):
    began = time.monotonic()
    with pytest.raises(openai.APIError) as caught:
        drain(client, model)
    assert time.monotonic() - began < 10
    assert not isinstance(caught.value, openai.APITimeoutError)
    assert caught.value.message


def test_a_cut_stream_ends_with_an_error_event_in_openais_grammar(client):
    """Not a mere disconnect: `httpx` would raise APIConnectionError for that, and some clients would see a normal end."""
    with pytest.raises(openai.APIError) as caught:
        drain(client, "sim-cut")
    assert not isinstance(caught.value, openai.APIConnectionError)
    assert caught.value.type


def test_a_client_goes_on_working_after_failures(client):
    for model in ["sim-500", "sim-400", "sim-cut"]:
        with pytest.raises(openai.APIError):
            drain(client, model)
    assert chat(client).choices[0].message.content


def post(body, content_type="application/json", path="/v1/chat/completions"):
    """Status, headers and parsed body of a raw POST: what no SDK would send."""
    headers = {"authorization": f"Bearer {KEY}", "content-type": content_type}
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, body, headers), timeout=10) as reply:
            return reply.status, reply.headers, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"[]",
        b"null",
        b'{"model": "gpt-4o-mini", "messages": [}',
        b'{"model": 7, "messages": []}',
        b'{"messages": []}',
        b'{"model": "gpt-4o-mini", "model": "sim-500", "messages": []}',
        b'{"model": "gpt-4o-mini", "mod\\u0065l": "sim-500", "messages": []}',
        b'{"model": "gpt-4o-mini", "messages": []} trailing',
        b'{"model": "gpt-4o-mini", "messages": [], "x": "\xff"}',
    ],
    ids=["cut", "empty", "array", "null", "broken inside", "model is a number", "no model", "two models",
         "two models, one escaped", "trailing text", "invalid UTF-8"],
)
def test_a_malformed_body_is_a_400_in_openais_error_grammar(body):
    status, headers, answer = post(body)
    assert status == 400
    assert headers["content-type"].startswith("application/json")
    assert headers["x-request-id"]
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["message"]


def test_an_unknown_path_is_a_404_in_openais_error_grammar():
    status, headers, answer = post(b"{}", path="/v1/no-such-thing")
    assert status == 404
    assert headers["x-request-id"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}
