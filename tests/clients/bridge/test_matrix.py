"""Each SDK asks each provider for everything that most of them can do. Straight to the provider of its own dialect first, which proves the
fakes; then the same through the gateway, to all of them."""

import hashlib
import struct
import zlib

import pytest

from providers import scenarios

from .conftest import both_ways, routes
from .sdks.base import Ask, File
from .targets import ALL, ANTHROPIC, BEDROCK, COHERE

WEATHER = "What is the weather in Paris?"


def png():
    """One red pixel."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack("!I", len(data)) + body + struct.pack("!I", zlib.crc32(body))

    head = struct.pack("!IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00"))
        + chunk(b"IEND", b"")
    )


PNG = File("image/png", png(), "dot.png")
PDF = File(
    "application/pdf", b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n", "report.pdf"
)

# === text ===


@both_ways
@routes(targets=ALL)
def test_text_and_system_prompt_arrive_and_the_answer_comes_back(route, stream, fakes):
    told = route.open("text", Ask("Say hello.", system="Be brief."), stream).told
    assert told.text == f"Hello from {route.target.dialect}: Say hello. [system: Be brief.]"
    assert (told.stop, told.calls, told.thoughts) == ("end", [], "")
    assert (told.input, told.output) == (20, 10)
    assert [request["provider"] for request in fakes.requests()] == [route.target.dialect]
    if stream:
        assert told.pieces > 3
    if route.through:
        assert told.headers["x-tollgate-lane"] == route.lane
        assert told.headers["x-tollgate-provider"] == route.target.provider
        assert told.headers["x-request-id"]


@routes(lambda route: route.through, targets=ALL)
def test_the_gateways_key_is_not_sent_on(route, fakes):
    route.open("text", Ask())
    (request,) = fakes.requests()
    assert route.key not in str(request["headers"]) + request["target"]


@both_ways
@routes()
def test_every_character_survives_any_cut(route, stream):
    assert route.open("unicode", Ask(), stream).told.text == scenarios.UNICODE


@routes()
def test_a_stream_is_passed_on_as_it_comes(route):
    told = route.open("slow", Ask(), True).told
    assert told.text == "one two three four five"
    assert told.spread > 0.5, "the pieces came all at once"


@both_ways
@routes()
def test_a_cut_answer_says_so(route, stream):
    told = route.open("length", Ask(), stream).told
    assert (told.text, told.stop) == ("This sentence has no", "length")


@both_ways
@routes(lambda route: route.target.refuses)
def test_a_refusal_is_one(route, stream):
    told = route.open("refusal", Ask(), stream).told
    assert told.stop == "refusal"
    assert told.calls == []


@both_ways
@routes()
def test_cached_tokens_are_counted_in_the_clients_own_way(route, stream):
    told = route.open("cache", Ask(), stream).told
    assert (told.input, told.output, told.cache_read) == (160, 7, 100)


# === tools ===


@both_ways
@routes(targets=ALL)
def test_a_tool_is_called_and_its_result_is_answered(route, stream, fakes):
    chat = route.open("tools", Ask(WEATHER, tools=True), stream)
    (call,) = chat.told.calls
    assert (call.name, call.arguments) == ("get_weather", {"city": "Paris", "days": 2})
    assert chat.told.stop == "tools"
    assert chat.told.text in ("I will look.", "")
    told = chat.results(["21 degrees"])
    assert (told.text, told.stop, told.calls) == ("The tool said: 21 degrees", "end", [])
    assert fakes.requests()[1]["seen"]["calls"] == [{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}]


@both_ways
@routes(targets=ALL)
def test_two_calls_at_once_are_told_apart(route, stream):
    chat = route.open("parallel", Ask("Paris and Rome?", tools=True), stream)
    assert [call.arguments["city"] for call in chat.told.calls] == ["Paris", "Rome"]
    assert chat.told.calls[0].id != chat.told.calls[1].id or not chat.told.calls[0].id
    assert chat.results(["sunny", "rainy"]).text == "The tool said: sunny | rainy"


@both_ways
@routes()
def test_a_call_without_arguments_has_an_empty_object(route, stream):
    chat = route.open("noargs", Ask(WEATHER, tools=True), stream)
    assert [call.arguments for call in chat.told.calls] == [{}]
    assert chat.results(["done"]).text == "The tool said: done"


@routes()
def test_a_tool_that_must_be_called_is_named_to_the_provider(route, fakes):
    chat = route.open("tools", Ask(WEATHER, tools=True, forced=True))
    assert [call.name for call in chat.told.calls] == ["get_weather"]
    # Cohere can only be told that some tool must be called
    assert fakes.requests()[0]["seen"]["forced"] == ("*" if route.target == COHERE else "get_weather")


# === media ===


@both_ways
@routes()
def test_an_image_arrives_with_its_type_and_bytes(route, stream):
    told = route.open("vision", Ask("What is this?", files=[PNG]), stream).told
    assert told.text == f"image/png sha256={hashlib.sha256(PNG.data).hexdigest()}"


@routes(lambda route: route.target.documents)
def test_a_document_arrives_with_its_type_and_bytes(route):
    told = route.open("vision", Ask("What is this?", files=[PDF])).told
    assert told.text == f"application/pdf sha256={hashlib.sha256(PDF.data).hexdigest()}"


@pytest.mark.refused
@routes(lambda route: route.through and not route.target.documents)
def test_a_document_for_a_provider_that_takes_none_is_refused_and_not_left_out(route, fakes):
    with pytest.raises(route.sdk.bad_request):
        route.open("vision", Ask("What is this?", files=[PDF]))
    assert fakes.requests() == [], "an essential loss is never sent"


# === structured output ===


@both_ways
@routes()
def test_structured_output_is_parsed(route, stream):
    # the SDK's class, its parser: the adapter asserts that they met
    told = route.open("schema", Ask("Make up an event.", schema=True), stream).told
    assert told.text, "structured output is the answer's text, also where the provider was made to call a tool"
    assert told.stop == "end"


# === thinking ===


@both_ways
@routes(lambda route: route.target.thinks)
def test_thoughts_are_asked_for_and_shown(route, stream):
    told = route.open("thinking", Ask(thinking=True), stream).told
    assert told.text == "Thought and said."
    assert told.thoughts == scenarios.THOUGHT
    assert (told.output, told.reasoning) == (10, reasoning_of(route))


def reasoning_of(route):
    """Bedrock does not say how many tokens were thoughts."""
    return 0 if route.target.dialect == "bedrock" else 6


@both_ways
@routes(lambda route: route.target.thinks, targets=ALL)
def test_a_signed_thought_comes_back_to_its_provider_with_the_result(route, stream):
    # the fake refuses the second request when its signature is not in it, verbatim
    chat = route.open("thinking", Ask(WEATHER, tools=True, thinking=True), stream)
    assert [call.arguments["city"] for call in chat.told.calls] == ["Paris"]
    assert chat.told.thoughts == scenarios.THOUGHT
    told = chat.results(["21 degrees"])
    assert told.text == "The tool said: 21 degrees"
    assert told.thoughts == "Now I know."


@both_ways
@routes(targets=[ANTHROPIC, BEDROCK])
def test_a_hidden_thought_comes_back_to_its_provider_with_the_result(route, stream):
    chat = route.open("redacted", Ask(WEATHER, tools=True, thinking=True), stream)
    assert chat.told.thoughts == ""
    assert chat.results(["21 degrees"]).text == "The tool said: 21 degrees"


# === errors ===


@both_ways
@pytest.mark.parametrize("scenario", ["error_429", "error_500", "error_529", "error_context"])
@routes()
def test_a_providers_error_is_the_sdks_own(route, scenario, stream):
    sdk = route.sdk
    wanted = {"error_429": sdk.rate_limit, "error_context": sdk.bad_request}.get(scenario, sdk.server_error)
    with pytest.raises(wanted) as caught:
        route.open(scenario, Ask(), stream)
    status = sdk.status(caught.value)
    assert status == {"error_429": 429, "error_context": 400, "error_500": 500}.get(scenario, status)
    assert status < 500 or scenario in ("error_500", "error_529")
    if scenario == "error_context" and route.dialect in ("chat", "responses"):
        assert caught.value.code == "context_length_exceeded"
    if scenario == "error_429" and route.through and route.dialect != "gemini" and route.target != BEDROCK:
        assert caught.value.response.headers["retry-after"] == "7"


@routes(lambda route: route.through)
def test_an_error_about_the_gateways_credential_tells_nothing_of_it(route):
    with pytest.raises(route.sdk.any_error) as caught:
        route.open("error_401", Ask())
    assert "sk-upstream" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


@routes()
def test_an_error_in_the_middle_of_a_stream_is_raised(route):
    with pytest.raises(route.sdk.any_error) as caught:
        route.open("error_stream", Ask(), True)
    assert "fell over" in str(caught.value)


# === streams, event by event ===

STREAMS = {
    "text": Ask(),
    "unicode": Ask(),
    "tools": Ask(WEATHER, tools=True),
    "parallel": Ask(WEATHER, tools=True),
    "noargs": Ask(WEATHER, tools=True),
    "thinking": Ask(WEATHER, tools=True, thinking=True),
    "length": Ask(),
    "refusal": Ask(),
    "cache": Ask(),
}


@pytest.mark.parametrize("scenario", STREAMS)
@routes(lambda route: route.dialect not in ("bedrock", "cohere"))
def test_every_event_of_a_stream_is_strictly_valid_and_in_its_place(route, scenario):
    assert route.strict_stream(scenario, STREAMS[scenario])


@routes(lambda route: route.dialect == "gemini")
def test_a_gemini_stream_that_was_not_asked_for_as_events_is_an_array(route):
    chunks = route.sdk.strict_array(route.url, route.key, route.model("text"))
    assert len(chunks) > 1
    texts = [part.text or "" for chunk in chunks for c in chunk.candidates for part in c.content.parts or []]
    assert "".join(texts) == f"Hello from {route.target.dialect}: Say hello."
