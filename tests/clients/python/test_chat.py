"""Chat completions through the official SDK: what a program gets, and that it is what OpenAI's own types say."""

import asyncio
import json

import pydantic
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from conftest import HELLO, MODEL, make_async_client, make_client, metric, wait_for_metric

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Paris for two days?"}]


class Event(pydantic.BaseModel):
    name: str
    day: int
    guests: list[str]


def strict_completion(raw):
    """The reply's bytes against the SDK's types, without any coercion."""
    return ChatCompletion.model_validate(json.loads(raw.http_response.content), strict=True)


def strict_chunks(response):
    """The data lines of a raw stream as strict chunks, and whether it ended with [DONE]."""
    data = [line[5:].strip() for line in response.iter_lines() if line.startswith("data:")]
    done = bool(data) and data[-1] == "[DONE]"
    return [ChatCompletionChunk.model_validate(json.loads(d), strict=True) for d in data if d != "[DONE]"], done


def text_of(chunks):
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == 0)


def finish_of(chunks, index=0):
    return [c.finish_reason for chunk in chunks for c in chunk.choices if c.index == index and c.finish_reason]


def test_a_unary_chat_is_strictly_valid(client):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    completion = strict_completion(raw)
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"
    usage = completion.usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert raw.parse() == completion


def test_a_reply_says_who_served_it(client):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    assert raw.headers["x-request-id"]
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    assert raw.headers["x-tollgate-model"] == MODEL
    assert raw.headers["x-tollgate-provider"]
    assert raw.headers["x-tollgate-lane"] == "splice"
    assert raw.headers["x-tollgate-attempts"] == "1"
    assert raw.headers["content-type"].startswith("application/json")


def test_two_calls_have_two_request_ids(client):
    replies = [client.chat.completions.create(model=MODEL, messages=HELLO) for _ in range(2)]
    assert replies[0]._request_id != replies[1]._request_id


def test_a_stream_reply_says_who_served_it(client):
    with client.chat.completions.with_streaming_response.create(model=MODEL, messages=HELLO, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-request-id"]
        assert response.headers["x-tollgate-model"] == MODEL
        assert response.headers["x-tollgate-lane"] == "splice"
        assert "content-length" not in response.headers
        response.read()


def test_every_chunk_of_a_stream_is_strictly_valid(client):
    with client.chat.completions.with_streaming_response.create(model=MODEL, messages=HELLO, stream=True) as response:
        chunks, done = strict_chunks(response)
    assert done
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)


def test_a_stream_has_the_role_first_then_text_then_a_finish_reason(client):
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks)
    assert finish_of(chunks) == ["stop"]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_has_no_usage_chunk_unless_asked(client):
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks), "a chunk without choices is the usage chunk nobody asked for"


def test_a_stream_has_usage_last_when_asked(client):
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as response:
        chunks, done = strict_chunks(response)
    assert done
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_and_a_unary_reply_carry_the_same_text(client):
    unary = client.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content
    assert text_of(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)) == unary


def test_the_sdks_own_stream_helper_accumulates_the_reply(client):
    with client.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds
    assert final.choices[0].message.content


def test_a_tool_call_has_json_arguments(client):
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=ASK_WEATHER, tools=[WEATHER], tool_choice="required"
    )
    choice = strict_completion(raw).choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.id and call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments), dict)


def test_a_streamed_tool_call_joins_to_json_arguments(client):
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=ASK_WEATHER, tools=[WEATHER], tool_choice="required", stream=True
    ) as response:
        chunks, done = strict_chunks(response)
    assert done
    parts = [p for chunk in chunks for c in chunk.choices for p in c.delta.tool_calls or [] if p.index == 0]
    assert parts[0].id and parts[0].function.name == "get_weather"
    assert isinstance(json.loads("".join(p.function.arguments or "" for p in parts)), dict)
    assert finish_of(chunks) == ["tool_calls"]


def test_a_tool_result_sent_back_gives_a_final_answer(client):
    first = client.chat.completions.create(model=MODEL, messages=ASK_WEATHER, tools=[WEATHER], tool_choice="required")
    message = first.choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 21}'} for call in message.tool_calls]
    history = [*ASK_WEATHER, message.model_dump(exclude_none=True), *results]
    second = client.chat.completions.create(model=MODEL, messages=history, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content


def test_structured_output_parses_into_a_pydantic_model(client):
    completion = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Event)
    assert isinstance(completion.choices[0].message.parsed, Event)


def test_streamed_structured_output_parses_into_a_pydantic_model(client):
    with client.chat.completions.stream(model=MODEL, messages=HELLO, response_format=Event) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Event)


def test_n_choices_are_all_returned(client):
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, n=2)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert all(choice.message.content for choice in completion.choices)


def test_n_streamed_choices_are_all_returned(client):
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, n=2, stream=True))
    assert {c.index for chunk in chunks for c in chunk.choices} == {0, 1}
    assert finish_of(chunks, 0) == finish_of(chunks, 1) == ["stop"]


def test_unknown_body_members_are_let_through(client):
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, extra_body={"x_unknown": {"a": 1}})
    assert completion.choices[0].message.content


def test_a_stream_of_two_thousand_chunks_arrives_whole(client):
    chunks = list(client.chat.completions.create(model="sim-long", messages=HELLO, stream=True))
    assert len(chunks) >= 2000
    assert finish_of(chunks) in (["stop"], ["length"])


def test_a_thinking_model_is_passed_on_strictly_valid(client):
    with client.chat.completions.with_streaming_response.create(
        model="sim-think", messages=HELLO, stream=True
    ) as response:
        chunks, done = strict_chunks(response)
    assert done and finish_of(chunks) == ["stop"]


@pytest.mark.parametrize("how", ["create", "stream"])
def test_the_async_client_works(how):
    async def call():
        async with make_async_client() as client:
            if how == "create":
                completion = await client.chat.completions.create(model=MODEL, messages=HELLO)
                return completion.choices[0].message.content
            stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
            return text_of([chunk async for chunk in stream])

    assert asyncio.run(call())


def test_fifty_streams_at_once_all_complete():
    async def one(client):
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        return [chunk async for chunk in stream]

    async def all_of_them():
        async with make_async_client() as client:
            return await asyncio.gather(*(one(client) for _ in range(50)))

    streams = asyncio.run(all_of_them())
    assert [finish_of(chunks) for chunks in streams] == [["stop"]] * 50
    assert all(text_of(chunks) for chunks in streams)
    assert len({chunks[0].id for chunks in streams}) == 50, "two clients were given the same reply"


def test_a_stream_closed_early_is_closed_in_the_gateway_too():
    wait_for_metric("tollgate_streams_open", 0, 5)
    with make_client() as client:
        with client.chat.completions.create(model="sim-slow", messages=HELLO, stream=True) as stream:
            for seen, _chunk in enumerate(stream, 1):
                if seen == 2:
                    break
            assert metric("tollgate_streams_open") == 1
        wait_for_metric("tollgate_streams_open", 0, 3)
