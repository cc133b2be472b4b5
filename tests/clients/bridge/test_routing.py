"""Real SDKs while providers fail: OpenAI's, then Anthropic's, then Bedrock's is asked, and the client reads one answer of its own dialect.
Only through the gateway; the models are in `targets.CONFIG`."""

import anthropic
import openai
import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletion

from .conftest import GATEWAY, KEY, both_ways
from .sdks.anthropic_messages import TOOL as ANTHROPIC_TOOL
from .sdks.openai_chat import TOOL

pytestmark = pytest.mark.skipif(not GATEWAY, reason="there is no gateway: only the fakes are tested")

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
# a stream of the second one has begun when it fails
TRIED = "compatible/gpt-5--error_503;503, anthropic/claude-sonnet-4-5--error_first;529"
CREDENTIALS = {
    "chat": ("authorization", "Bearer fake-openai-key"),
    "anthropic": ("x-api-key", "fake-anthropic-key"),
    "bedrock": ("authorization", "AWS4-HMAC-SHA256 Credential="),
}


@pytest.fixture
def openai_client():
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, timeout=20) as client:
        yield client.with_options(max_retries=0)


@pytest.fixture
def anthropic_client():
    with anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, timeout=20) as client:
        yield client.with_options(max_retries=0)


def came_third(headers):
    assert headers["x-tollgate-provider"] == "bedrock"
    assert headers["x-tollgate-attempts"] == "3"
    assert headers["x-tollgate-tried"] == TRIED
    assert headers["x-tollgate-lane"] == "bridge"


def each_was_asked_once(fakes, system="", tools=False):
    """In its own dialect (the fakes check the form), for the same thing, with its own credential and no other."""
    requests = fakes.requests()
    assert [request["provider"] for request in requests] == ["chat", "anthropic", "bedrock"]
    for request in requests:
        assert request["fault"] is None
        seen = request["seen"]
        assert (seen["text"], seen["system"]) == (requests[0]["seen"]["text"], system)
        assert seen["tools"] == (["get_weather"] if tools else [])
        name, value = CREDENTIALS[request["provider"]]
        assert request["headers"][name].startswith(value)
        others = [other for other in ("fake-openai-key", "fake-anthropic-key", KEY) if other not in value]
        assert not [other for other in others if other in str(request["headers"])]


# === OpenAI's SDK ===


def test_openais_sdk_gets_an_answer_from_the_third_provider(openai_client, fakes):
    raw = openai_client.chat.completions.with_raw_response.create(
        model="chain", messages=[{"role": "system", "content": "Be brief."}, *HELLO], max_completion_tokens=100
    )
    came_third(raw.headers)
    answer = raw.parse()
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    assert answer.choices[0].message.content == "Hello from bedrock: Say hello. [system: Be brief.]"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (20, 10, 30)
    each_was_asked_once(fakes, "Be brief.")


def test_openais_sdk_gets_a_stream_from_the_third_provider(openai_client, fakes):
    with openai_client.chat.completions.with_streaming_response.create(
        model="chain", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as raw:
        came_third(raw.headers)
        chunks = list(raw.parse())
    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.delta.role for chunk in chunks for c in chunk.choices if c.delta.role] == ["assistant"]
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert text == "Hello from bedrock: Say hello."
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert chunks[-1].usage.total_tokens == 30
    each_was_asked_once(fakes)


@both_ways
def test_openais_sdk_calls_a_tool_of_the_third_provider_and_goes_on(openai_client, fakes, stream):
    messages = [*WEATHER]

    def say():
        body = {"model": "chain-tools", "messages": messages, "tools": [TOOL]}
        if not stream:
            return openai_client.chat.completions.create(**body).choices[0]
        with openai_client.chat.completions.stream(**body) as events:
            return events.get_final_completion().choices[0]

    choice = say()
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather" and '"Paris"' in call.function.arguments
    each_was_asked_once(fakes, tools=True)
    function = {"name": "get_weather", "arguments": call.function.arguments}
    messages += [
        {
            "role": "assistant",
            "content": choice.message.content,
            "tool_calls": [{"id": call.id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"},
    ]
    choice = say()
    assert (choice.message.content, choice.finish_reason) == ("The tool said: 21 degrees", "stop")
    assert [request["provider"] for request in fakes.requests()] == ["chat", "anthropic", "bedrock"] * 2


def test_openais_responses_too(openai_client, fakes):
    raw = openai_client.responses.with_raw_response.create(model="chain", input="Say hello.")
    came_third(raw.headers)
    answer = raw.parse()
    assert (answer.output_text, answer.status) == ("Hello from bedrock: Say hello.", "completed")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (20, 10)
    each_was_asked_once(fakes)


# === Anthropic's SDK ===


def test_anthropics_sdk_gets_an_answer_from_the_third_provider(anthropic_client, fakes):
    raw = anthropic_client.messages.with_raw_response.create(
        model="chain", max_tokens=100, system="Be brief.", messages=HELLO
    )
    came_third(raw.headers)
    answer = raw.parse()
    Message.model_validate(answer.model_dump(), strict=True)
    assert answer.content[0].text == "Hello from bedrock: Say hello. [system: Be brief.]"
    assert (answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens) == ("end_turn", 20, 10)
    each_was_asked_once(fakes, "Be brief.")


def test_anthropics_sdk_gets_a_stream_from_the_third_provider(anthropic_client, fakes):
    kinds = []
    with anthropic_client.messages.stream(model="chain", max_tokens=100, messages=HELLO) as stream:
        came_third(stream.response.headers)
        for event in stream:
            kinds.append(event.type)
        answer = stream.get_final_message()
    assert kinds.count("message_start") == kinds.count("message_stop") == 1
    assert answer.content[0].text == "Hello from bedrock: Say hello."
    assert (answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens) == ("end_turn", 20, 10)
    each_was_asked_once(fakes)


@both_ways
def test_anthropics_sdk_calls_a_tool_of_the_third_provider(anthropic_client, fakes, stream):
    body = {"model": "chain-tools", "max_tokens": 100, "messages": WEATHER, "tools": [ANTHROPIC_TOOL]}
    if stream:
        with anthropic_client.messages.stream(**body) as events:
            answer = events.get_final_message()
    else:
        answer = anthropic_client.messages.create(**body)
    assert answer.stop_reason == "tool_use"
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("get_weather", {"city": "Paris", "days": 2})
    each_was_asked_once(fakes, tools=True)


# === where it ends ===


@both_ways
def test_a_stream_that_breaks_after_its_first_words_is_not_answered_by_another(openai_client, fakes, stream):
    body = {"model": "chain-broken", "messages": HELLO}
    if not stream:
        assert openai_client.chat.completions.create(**body).choices[0].message.content.startswith("Hello from bedrock")
        return
    heard = ""
    with pytest.raises(openai.APIError):
        for chunk in openai_client.chat.completions.create(**body, stream=True):
            heard += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert heard == "This is only the beginning"
    assert [request["provider"] for request in fakes.requests()] == ["anthropic"]


@both_ways
def test_when_all_fail_the_sdk_raises_its_own_error_once(openai_client, anthropic_client, fakes, stream):
    with pytest.raises(openai.InternalServerError) as caught:
        openai_client.chat.completions.create(model="chain-down", messages=HELLO, stream=stream)
    assert caught.value.response.headers["x-tollgate-attempts"] == "3"
    with pytest.raises(anthropic.APIStatusError) as caught:
        anthropic_client.messages.create(model="chain-down", max_tokens=100, messages=HELLO, stream=stream)
    assert caught.value.status_code >= 500
    assert caught.value.response.headers["x-tollgate-attempts"] == "3"
    assert len(fakes.requests()) == 6


@both_ways
def test_what_is_too_long_goes_to_the_model_for_that(openai_client, anthropic_client, fakes, stream):
    answer = openai_client.chat.completions.with_raw_response.create(model="chain-long", messages=HELLO, stream=stream)
    assert (answer.headers["x-tollgate-provider"], answer.headers["x-tollgate-attempts"]) == ("bedrock", "2")
    for _ in answer.parse() if stream else ():
        pass
    raw = anthropic_client.messages.with_raw_response.create(
        model="chain-long", max_tokens=100, messages=HELLO, stream=stream
    )
    assert (raw.headers["x-tollgate-provider"], raw.headers["x-tollgate-attempts"]) == ("bedrock", "2")
    for _ in raw.parse() if stream else ():
        pass
    assert [request["provider"] for request in fakes.requests()] == ["chat", "bedrock"] * 2


def test_a_retry_after_reaches_the_sdk_when_nobody_is_left(openai_client, fakes):
    with pytest.raises(openai.RateLimitError) as caught:
        openai_client.chat.completions.create(model="limited", messages=HELLO)
    assert caught.value.response.headers["retry-after"] == "7"
    assert len(fakes.requests()) == 1
