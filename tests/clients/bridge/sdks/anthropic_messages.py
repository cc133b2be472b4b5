"""Anthropic's Python SDK, messages."""

import base64
import json
import time

import anthropic
import pydantic
from anthropic.types import Message, RawMessageStreamEvent

from . import wire
from .base import DESCRIPTION, PARAMETERS, Call, Conversation, Event, Sdk, Told

TOOL = {"name": "get_weather", "description": DESCRIPTION, "input_schema": PARAMETERS}
STOP = {"end_turn": "end", "tool_use": "tools", "max_tokens": "length", "refusal": "refusal", "stop_sequence": "end"}
EVENTS = pydantic.TypeAdapter(RawMessageStreamEvent)


class AnthropicMessages(Sdk):
    dialect = "anthropic"
    rate_limit, server_error = anthropic.RateLimitError, anthropic.InternalServerError
    bad_request, any_error = anthropic.BadRequestError, anthropic.APIError

    def __init__(self, url, key):
        self.client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=20)

    def open(self, model, ask, stream):
        return Messages(self.client, body_of(model, ask), ask, stream)

    def strict_stream(self, url, key, model, ask):
        body = body_of(model, ask) | {"stream": True}
        heads = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        status, headers, raw = wire.post(f"{url}/v1/messages", body, heads)
        assert status == 200, raw
        assert headers["content-type"].startswith("text/event-stream")
        events = []
        for name, text in wire.events(raw):
            data = json.loads(text)
            assert name == data["type"], "the event's name is its type"
            if name != "ping":
                events.append(EVENTS.validate_python(data, strict=True))
        kinds = [event.type for event in events]
        assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], kinds
        assert kinds.count("message_start") == kinds.count("message_delta") == 1
        check_order(events)
        return events


def check_order(events):
    """One block at a time, counted from 0, each opened and closed."""
    is_open, count = False, 0
    for event in events:
        match event.type:
            case "content_block_start":
                assert not is_open and event.index == count
                is_open = True
            case "content_block_delta":
                assert is_open and event.index == count
            case "content_block_stop":
                assert is_open and event.index == count
                is_open, count = False, count + 1
    assert not is_open


def part_of(file):
    source = {"type": "base64", "media_type": file.media_type, "data": base64.b64encode(file.data).decode()}
    if file.media_type.startswith("image/"):
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, "title": file.name}


def body_of(model, ask):
    content = [*map(part_of, ask.files), {"type": "text", "text": ask.text}] if ask.files else ask.text
    body = {"model": model, "max_tokens": ask.max_tokens, "messages": [{"role": "user", "content": content}]}
    if ask.system:
        body["system"] = ask.system
    if ask.tools:
        body["tools"] = [TOOL]
    if ask.forced:
        body["tool_choice"] = {"type": "tool", "name": "get_weather"}
    if ask.thinking:
        body["thinking"] = {"type": "enabled", "budget_tokens": 2048}
    if ask.stop:
        body["stop_sequences"] = ask.stop
    return body | ask.more


class Messages(Conversation):
    def __init__(self, client, body, ask, stream):
        self.client, self.body, self.ask, self.stream = client, body, ask, stream
        self.say()

    def results(self, texts):
        answers = zip(self.told.calls, texts, strict=True)
        content = [{"type": "tool_result", "tool_use_id": call.id, "content": text} for call, text in answers]
        self.body["messages"].append({"role": "user", "content": content})
        self.say()
        return self.told

    def say(self):
        extra = {"output_format": Event} if self.ask.schema else {}
        message, self.told = self.streamed(extra) if self.stream else self.unary(extra)
        told = self.told
        for block in message.content:
            if block.type == "text":
                told.text += block.text
            elif block.type == "tool_use":
                assert isinstance(block.input, dict)
                told.calls.append(Call(block.id, block.name, block.input))
            elif block.type == "thinking":
                told.thoughts += block.thinking
        # Claude Code prints the last block of an answer, and nothing when that is a thought
        assert told.calls or not message.content or "thinking" not in message.content[-1].type, message.content
        told.stop = STOP[message.stop_reason]
        if told.stop == "refusal":
            details = getattr(message, "stop_details", None)
            told.refusal = told.text or (details and details.explanation) or ""
        usage = message.usage
        told.cache_read = usage.cache_read_input_tokens or 0
        told.cache_write = usage.cache_creation_input_tokens or 0
        told.input, told.output = usage.input_tokens + told.cache_read + told.cache_write, usage.output_tokens
        details = getattr(usage, "output_tokens_details", None)
        told.reasoning = (details and details.thinking_tokens) or 0
        if self.ask.schema:
            assert isinstance(message.parsed_output, Event), message.content
        content = json.loads(message.model_dump_json(exclude_none=True))["content"]
        # what the SDK added, and what only replies have
        content = [{k: v for k, v in b.items() if k not in ("parsed_output", "caller", "parsed")} for b in content]
        self.body["messages"].append({"role": "assistant", "content": content})

    def unary(self, extra):
        if extra:
            parsed = self.client.messages.parse(**self.body, **extra)
            return parsed, Told()
        raw = self.client.messages.with_raw_response.create(**self.body)
        Message.model_validate(json.loads(raw.http_response.content), strict=True)
        return raw.parse(), Told(headers=dict(raw.headers))

    def streamed(self, extra):
        times, told = [], Told()
        with self.client.messages.stream(**self.body, **extra) as stream:
            for event in stream:
                told.pieces += 1
                if event.type == "text":
                    times.append(time.monotonic())
            message = stream.get_final_message()
            told.headers = dict(stream.response.headers)
        told.spread = times[-1] - times[0] if times else 0
        return message, told
