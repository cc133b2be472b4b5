"""The Responses API through the official SDK: unary, the event sequence of a stream, tools, parsed text."""

import asyncio
import json

import openai
import pydantic
import pytest
from openai.types.responses import Response

from conftest import MODEL, make_async_client

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Event(pydantic.BaseModel):
    name: str
    day: int


def calls_of(response):
    return [item for item in response.output if item.type == "function_call"]


def test_a_unary_response_is_strictly_valid(client):
    raw = client.responses.with_raw_response.create(model=MODEL, input="Say hello.")
    response = Response.model_validate(json.loads(raw.http_response.content), strict=True)
    assert response.object == "response" and response.status == "completed"
    assert response.output_text
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert raw.headers["x-tollgate-lane"] == "splice"
    assert raw.headers["x-tollgate-model"] == MODEL
    assert raw.headers["x-request-id"]


def test_a_streamed_response_has_the_documented_event_sequence(client):
    events = list(client.responses.create(model=MODEL, input="Say hello.", stream=True))
    kinds = [event.type for event in events]
    order = [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_streamed_responses_deltas_join_to_its_final_text(client):
    events = list(client.responses.create(model=MODEL, input="Say hello.", stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    done = next(event for event in events if event.type == "response.output_text.done")
    final = events[-1].response
    assert text and text == done.text == final.output_text
    assert final.usage.output_tokens > 0


def test_the_wire_events_are_named_as_their_data(client):
    with client.responses.with_streaming_response.create(model=MODEL, input="Say hello.", stream=True) as response:
        lines = list(response.iter_lines())
    names = [line[6:].strip() for line in lines if line.startswith("event:")]
    types = [json.loads(line[5:])["type"] for line in lines if line.startswith("data:") and line[5:].strip() != "[DONE]"]
    assert names == types


def test_the_sdks_own_stream_helper_accumulates_the_response(client):
    with client.responses.stream(model=MODEL, input="Say hello.") as stream:
        for _event in stream:
            pass
        assert stream.get_final_response().output_text


def test_a_tool_call_has_json_arguments_and_its_result_gives_an_answer(client):
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = client.responses.create(model=MODEL, input=question, tools=[WEATHER], tool_choice="required")
    call = calls_of(first)[0]
    assert call.name == "get_weather" and isinstance(json.loads(call.arguments), dict)
    history = [
        *question,
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": '{"celsius": 21}'},
    ]
    second = client.responses.create(model=MODEL, input=history, tools=[WEATHER])
    assert second.output_text


def test_a_streamed_tool_call_joins_to_json_arguments(client):
    events = list(
        client.responses.create(
            model=MODEL, input="What is the weather in Paris?", tools=[WEATHER], tool_choice="required", stream=True
        )
    )
    joined = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    done = next(e for e in events if e.type == "response.function_call_arguments.done")
    assert joined == done.arguments == calls_of(events[-1].response)[0].arguments
    assert isinstance(json.loads(joined), dict)


def test_parsed_text_becomes_a_pydantic_model(client):
    response = client.responses.parse(model=MODEL, input="An event.", text_format=Event)
    assert isinstance(response.output_parsed, Event)


def test_unknown_body_members_are_let_through(client):
    assert client.responses.create(model=MODEL, input="hello", extra_body={"x_unknown": {"a": 1}}).output_text


def test_the_async_client_streams_a_response():
    async def call():
        async with make_async_client() as client:
            stream = await client.responses.create(model=MODEL, input="Say hello.", stream=True)
            return [event.type async for event in stream]

    assert asyncio.run(call())[-1] == "response.completed"


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="gpt-4o-mni", input="hello")
    assert caught.value.code == "model_not_found"
    assert "gpt-4o-mini" in caught.value.message


def test_a_broken_stream_does_not_end_as_if_complete(client):
    """The stream must say that it broke: an `error` or `response.failed` event, or an exception."""
    kinds = []
    try:
        for event in client.responses.create(model="sim-cut", input="hello", stream=True):
            kinds.append(event.type)
    except openai.APIError as error:
        assert not isinstance(error, openai.APIConnectionError)
        return
    assert kinds and kinds[-1] in ("error", "response.failed", "response.incomplete")
