"""OpenAI's Python SDK, responses. Nothing is stored: a conversation goes on by sending the items back."""

import base64
import json
import time

import openai
import pydantic
from openai.types.responses import Response, ResponseStreamEvent

from . import wire
from .base import DESCRIPTION, PARAMETERS, Call, Conversation, Event, Sdk, Told, object_of

TOOL = {"type": "function", "name": "get_weather", "description": DESCRIPTION, "parameters": PARAMETERS, "strict": True}
EVENTS = pydantic.TypeAdapter(ResponseStreamEvent)


class OpenAIResponses(Sdk):
    dialect = "responses"
    rate_limit, server_error = openai.RateLimitError, openai.InternalServerError
    bad_request, any_error = openai.BadRequestError, openai.APIError

    def __init__(self, url, key):
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)

    def open(self, model, ask, stream):
        return Responses(self.client, body_of(model, ask), ask, stream)

    def strict_stream(self, url, key, model, ask):
        body = body_of(model, ask) | {"stream": True}
        status, headers, raw = wire.post(f"{url}/v1/responses", body, {"authorization": f"Bearer {key}"})
        assert status == 200, raw
        assert headers["content-type"].startswith("text/event-stream")
        frames = [(name, json.loads(data)) for name, data in wire.events(raw) if data != "[DONE]"]
        events = []
        for name, data in frames:
            assert name == data["type"], "the event's name is its type"
            events.append(EVENTS.validate_python(data, strict=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        kinds = [event.type for event in events]
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] in ("response.completed", "response.incomplete")
        check_order(events)
        return events


def check_order(events):
    """Every item and part is opened before it is written to, and closed; the last event repeats them all."""
    items, parts, closed = {}, set(), []
    for event in events:
        if event.type == "response.output_item.added":
            assert event.output_index == len(items)
            items[event.output_index] = event.item.id
        elif event.type == "response.output_item.done":
            assert items[event.output_index] == event.item.id
            closed.append(event.output_index)
        elif hasattr(event, "item_id"):
            assert items[event.output_index] == event.item_id, event
            assert event.output_index not in closed, event
        if event.type == "response.content_part.added":
            parts.add((event.output_index, event.content_index))
        elif event.type.startswith("response.output_text"):
            assert (event.output_index, event.content_index) in parts
    assert sorted(closed) == sorted(items), "an item was not closed"
    assert [item.id for item in events[-1].response.output] == [items[i] for i in sorted(items)]


def part_of(file):
    url = f"data:{file.media_type};base64,{base64.b64encode(file.data).decode()}"
    if file.media_type.startswith("image/"):
        return {"type": "input_image", "image_url": url, "detail": "auto"}
    return {"type": "input_file", "filename": file.name, "file_data": url}


def body_of(model, ask):
    content = [{"type": "input_text", "text": ask.text}, *map(part_of, ask.files)]
    body = {"model": model, "input": [{"role": "user", "content": content}], "store": False}
    body["max_output_tokens"] = ask.max_tokens
    if ask.system:
        body["instructions"] = ask.system
    if ask.tools:
        body["tools"] = [TOOL]
    if ask.forced:
        body["tool_choice"] = {"type": "function", "name": "get_weather"}
    if ask.thinking:
        body["reasoning"] = {"effort": "high", "summary": "auto"}
        body["include"] = ["reasoning.encrypted_content"]
    return body | ask.more


class Responses(Conversation):
    def __init__(self, client, body, ask, stream):
        self.client, self.body, self.ask, self.stream = client, body, ask, stream
        self.say()

    def results(self, texts):
        answers = zip(self.told.calls, texts, strict=True)
        outputs = [{"type": "function_call_output", "call_id": call.id, "output": text} for call, text in answers]
        self.body["input"] += outputs
        self.say()
        return self.told

    def say(self):
        extra = {"text_format": Event} if self.ask.schema else {}
        response, self.told = self.streamed(extra) if self.stream else self.unary(extra)
        told = self.told
        for item in response.output:
            if item.type == "message":
                told.text += "".join(part.text for part in item.content if part.type == "output_text")
                told.refusal += "".join(part.refusal for part in item.content if part.type == "refusal")
            elif item.type == "function_call":
                told.calls.append(Call(item.call_id, item.name, object_of(item.arguments)))
            elif item.type == "reasoning":
                told.thoughts += "".join(part.text for part in [*item.summary, *(item.content or [])])
        told.stop = "tools" if told.calls else "end"
        if response.status == "incomplete":
            reason = response.incomplete_details.reason
            told.stop = {"max_output_tokens": "length", "content_filter": "refusal"}[reason]
        elif told.refusal:
            told.stop = "refusal"
        usage = response.usage
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        told.input, told.output = usage.input_tokens, usage.output_tokens
        told.cache_read = usage.input_tokens_details.cached_tokens
        told.cache_write = getattr(usage.input_tokens_details, "cache_write_tokens", None) or 0
        told.reasoning = usage.output_tokens_details.reasoning_tokens
        if self.ask.schema:
            assert isinstance(response.output_parsed, Event), response.output
        # to_dict leaves out what was not there; `parsed` members are the SDK's own and not the wire's
        for item in json.loads(Response.model_validate(response.to_dict()).model_dump_json(exclude_unset=True))[
            "output"
        ]:
            self.body["input"].append(plain(item))

    def unary(self, extra):
        responses = self.client.responses.with_raw_response
        raw = responses.parse(**self.body, **extra) if extra else responses.create(**self.body)
        Response.model_validate(json.loads(raw.http_response.content), strict=True)
        return raw.parse(), Told(headers=dict(raw.headers))

    def streamed(self, extra):
        times, told = [], Told()
        with self.client.responses.stream(**self.body, **extra) as stream:
            for event in stream:
                told.pieces += 1
                if event.type == "response.output_text.delta":
                    times.append(time.monotonic())
                elif event.type in ("error", "response.failed"):
                    # the SDK hands these out like any other event
                    message = event.message if event.type == "error" else event.response.error.message
                    raise openai.APIError(message, stream._response.request, body=None)
            # the helper knows no other end than response.completed
            response = event.response if event.type == "response.incomplete" else stream.get_final_response()
            told.headers = dict(stream._response.headers)
        told.spread = times[-1] - times[0] if times else 0
        return response, told


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ("parsed", "parsed_arguments") and v is not None}
    return [plain(v) for v in value] if isinstance(value, list) else value
