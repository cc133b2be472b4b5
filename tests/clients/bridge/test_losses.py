"""What is carried in a provider's own words, and what cannot be: named in `x-tollgate-dropped`, or refused when the request would mean
something else without it. Only through the gateway."""

import base64

import pytest

from .conftest import GATEWAY, routes
from .sdks.base import Ask
from .targets import ANTHROPIC, BEDROCK, CHAT, COHERE, GEMINI, RESPONSES
from .test_matrix import PNG, WEATHER

pytestmark = pytest.mark.skipif(not GATEWAY, reason="there is no gateway: only the fakes are tested")


def through(dialect, *targets):
    return routes(lambda route: route.through and route.dialect == dialect, targets)


def dropped(told):
    """What of the request was lost; members of the reply that the client's dialect has no place for are named too."""
    names = [name.strip() for name in told.headers.get("x-tollgate-dropped", "").split(",")]
    return ", ".join(name for name in names if not name.startswith("reply."))


# === carried ===

# the parameters' places, in the order of WANTED
PLACES = {
    ANTHROPIC: ["max_tokens", "temperature", "top_p", "stop_sequences"],
    BEDROCK: [
        "inferenceConfig.maxTokens",
        "inferenceConfig.temperature",
        "inferenceConfig.topP",
        "inferenceConfig.stopSequences",
    ],
    GEMINI: [
        "generationConfig.maxOutputTokens",
        "generationConfig.temperature",
        "generationConfig.topP",
        "generationConfig.stopSequences",
    ],
    COHERE: ["max_tokens", "temperature", "p", "stop_sequences"],
    RESPONSES: ["max_output_tokens", "temperature", "top_p"],
}
WANTED = [123, 0.5, 0.9, ["END"]]


@through("chat", *PLACES)
def test_parameters_arrive_in_the_providers_own_words(route, fakes):
    ask = Ask(max_tokens=123, stop=["END"], more={"temperature": 0.5, "top_p": 0.9})
    told = route.open("text", ask).told
    (body,) = fakes.bodies()
    for place, wanted in zip(PLACES[route.target], WANTED, strict=False):
        value = body
        for name in place.split("."):
            value = value.get(name, {})
        # Anthropic's newer models take only one of the two
        assert value == wanted or place == "top_p" and route.target == ANTHROPIC and "top_p" in dropped(told), place
    # responses have no stop sequences
    assert ("stop" in dropped(told)) == (route.target == RESPONSES)


@through("chat", ANTHROPIC, GEMINI, BEDROCK, COHERE, RESPONSES)
def test_nothing_is_named_when_nothing_was_lost(route):
    assert dropped(route.open("text", Ask(system="Be brief.")).told) == ""


@through("anthropic", ANTHROPIC)
def test_anthropics_version_is_the_clients_when_it_speaks_to_anthropic(route, fakes):
    route.open("text", Ask())
    # the newest SDKs ask for the newest version, which refuses more
    assert fakes.requests()[0]["headers"]["anthropic-version"] == "2026-10-21"


@through("chat", ANTHROPIC)
def test_sampling_is_still_possible_with_anthropics_models(route, fakes):
    route.open("text", Ask(more={"temperature": 0.3}))
    assert fakes.requests()[0]["headers"]["anthropic-version"] == "2023-06-01"
    assert fakes.bodies()[0]["temperature"] == 0.3


# === lost ===


@through("chat", ANTHROPIC, BEDROCK)
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_a_seed_that_cannot_be_carried_is_named(route, stream):
    assert "seed" in dropped(route.open("text", Ask(more={"seed": 7}), stream).told)


@through("chat", GEMINI, COHERE)
def test_a_seed_that_can_be_carried_is_not_named(route, fakes):
    assert dropped(route.open("text", Ask(more={"seed": 7})).told) == ""
    assert "'seed': 7" in str(fakes.bodies()[0])


@through("anthropic", CHAT, RESPONSES, GEMINI, COHERE)
def test_a_cache_mark_for_a_provider_without_them_is_named(route):
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert "cache_control" in dropped(route.open("text", Ask(more={"system": system})).told)


@through("anthropic", BEDROCK)
def test_a_cache_mark_for_a_provider_with_marks_arrives(route, fakes):
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert dropped(route.open("text", Ask(more={"system": system})).told) == ""
    assert {"cachePoint": {"type": "default"}} in fakes.bodies()[0]["system"]


@through("gemini", ANTHROPIC, BEDROCK, CHAT, RESPONSES)
def test_safety_settings_are_named(route):
    settings = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}]
    assert "safetySettings" in dropped(route.open("text", Ask(more={"safety_settings": settings})).told)


@through("responses", ANTHROPIC, GEMINI, BEDROCK, COHERE, CHAT)
def test_a_history_that_is_kept_elsewhere_is_refused_and_not_left_out(route, fakes):
    with pytest.raises(route.sdk.bad_request) as caught:
        route.open("text", Ask(more={"previous_response_id": "resp_123"}))
    assert "previous_response_id" in str(caught.value)
    assert fakes.requests() == [], "an essential loss is never sent"


# === tool results ===


def answer(chat, **result):
    """The first call's result, in Anthropic's own words."""
    (call,) = chat.told.calls
    chat.body["messages"].append(
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, **result}]}
    )
    chat.say()
    return chat.told


@through("anthropic", ANTHROPIC, GEMINI, BEDROCK, COHERE, CHAT, RESPONSES)
def test_a_failed_tool_is_told_as_failed_where_that_can_be_said(route, fakes):
    chat = route.open("tools", Ask(WEATHER, tools=True))
    told = answer(chat, content="no such city", is_error=True)
    assert told.text.startswith("The tool said:") and "no such city" in told.text
    (result,) = fakes.requests()[1]["seen"]["results"]
    if route.target in (ANTHROPIC, BEDROCK):
        assert result["failed"]


@through("anthropic", ANTHROPIC, GEMINI, BEDROCK, COHERE, CHAT, RESPONSES)
def test_an_image_in_a_tools_result_arrives_or_is_named(route, fakes):
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG.data).decode()}
    chat = route.open("tools", Ask(WEATHER, tools=True))
    told = answer(chat, content=[{"type": "text", "text": "a map"}, {"type": "image", "source": source}])
    assert "a map" in told.text
    arrived = fakes.requests()[1]["seen"]["media"]
    if route.target in (ANTHROPIC, BEDROCK, RESPONSES):
        assert len(arrived) == 1
    assert arrived or "content" in dropped(told), "it was left out and nobody was told"
