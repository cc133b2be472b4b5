"""OpenAI's Python SDK, chat completions."""

import base64
import json
import time

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from . import wire
from .base import DESCRIPTION, PARAMETERS, Call, Conversation, Event, Sdk, Told, object_of

TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": DESCRIPTION, "parameters": PARAMETERS, "strict": True},
}
STOP = {"stop": "end", "tool_calls": "tools", "length": "length", "content_filter": "refusal"}


class OpenAIChat(Sdk):
    dialect = "chat"
    rate_limit, server_error = openai.RateLimitError, openai.InternalServerError
    bad_request, any_error = openai.BadRequestError, openai.APIError

    def __init__(self, url, key):
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)

    def open(self, model, ask, stream):
        return Chat(self.client, body_of(model, ask), ask, stream)

    def strict_stream(self, url, key, model, ask):
        body = body_of(model, ask) | {"stream": True, "stream_options": {"include_usage": True}}
        status, headers, raw = wire.post(f"{url}/v1/chat/completions", body, {"authorization": f"Bearer {key}"})
        assert status == 200, raw
        assert headers["content-type"].startswith("text/event-stream")
        data = [data for _, data in wire.events(raw)]
        assert data[-1] == "[DONE]"
        chunks = [ChatCompletionChunk.model_validate(json.loads(d), strict=True) for d in data[:-1]]
        assert len({chunk.id for chunk in chunks}) == 1
        assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason], "no finish reason"
        assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0
        return chunks


def part_of(file):
    url = f"data:{file.media_type};base64,{base64.b64encode(file.data).decode()}"
    if file.media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": file.name, "file_data": url}}


def body_of(model, ask):
    content = [{"type": "text", "text": ask.text}, *map(part_of, ask.files)] if ask.files else ask.text
    messages = [{"role": "system", "content": ask.system}] if ask.system else []
    body = {"model": model, "messages": [*messages, {"role": "user", "content": content}]}
    body["max_completion_tokens"] = ask.max_tokens
    if ask.tools:
        body["tools"] = [TOOL]
    if ask.forced:
        body["tool_choice"] = {"type": "function", "function": {"name": "get_weather"}}
    if ask.thinking:
        body["reasoning_effort"] = "high"
    if ask.stop:
        body["stop"] = ask.stop
    return body | ask.more


class Chat(Conversation):
    def __init__(self, client, body, ask, stream):
        self.client, self.body, self.ask, self.stream = client, body, ask, stream
        self.say()

    def results(self, texts):
        answers = zip(self.told.calls, texts, strict=True)
        self.body["messages"] += [{"role": "tool", "tool_call_id": call.id, "content": text} for call, text in answers]
        self.say()
        return self.told

    def say(self):
        self.filtered = False
        extra = {"response_format": Event} if self.ask.schema else {}
        if self.stream:
            completion, self.told = self.streamed(extra)
        else:
            completion, self.told = self.unary(extra)
        choice = completion.choices[0]
        message, told = choice.message, self.told
        told.text, told.refusal = message.content or "", message.refusal or ""
        told.calls = [Call(c.id, c.function.name, object_of(c.function.arguments)) for c in message.tool_calls or []]
        told.thoughts = getattr(message, "reasoning_content", None) or ""
        told.stop = "refusal" if message.refusal or self.filtered else STOP[choice.finish_reason]
        usage = completion.usage
        if self.filtered and usage is None:
            return
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        told.input, told.output = usage.prompt_tokens, usage.completion_tokens
        if usage.prompt_tokens_details:
            told.cache_read = usage.prompt_tokens_details.cached_tokens or 0
        if usage.completion_tokens_details:
            told.reasoning = usage.completion_tokens_details.reasoning_tokens or 0
        if self.ask.schema:
            assert isinstance(message.parsed, Event), message
        # as the SDK's own documentation goes on: the message is put back whole
        put_back = message.model_dump(exclude_none=True, exclude={"parsed"})
        for call in put_back.get("tool_calls", []):
            # the stream helper's own
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
        self.body["messages"].append(put_back)

    def unary(self, extra):
        chat = self.client.chat.completions.with_raw_response
        if extra:
            raw = chat.parse(**self.body, **extra)
        else:
            raw = chat.create(**self.body)
        ChatCompletion.model_validate(json.loads(raw.http_response.content), strict=True)
        return raw.parse(), Told(headers=dict(raw.headers))

    def streamed(self, extra):
        times, told = [], Told()
        with self.client.chat.completions.stream(
            **self.body, **extra, stream_options={"include_usage": True}
        ) as stream:
            try:
                for event in stream:
                    if event.type == "chunk":
                        told.pieces += 1
                    if event.type == "content.delta":
                        times.append(time.monotonic())
                completion = stream.get_final_completion()
            except openai.LengthFinishReasonError as cut:
                completion = cut.completion
            except openai.ContentFilterFinishReasonError:
                # the helper's way to say so; what came before is kept
                self.filtered, completion = True, stream.current_completion_snapshot
            told.headers = (
                dict(stream.response.headers) if hasattr(stream, "response") else dict(stream._response.headers)
            )
        told.spread = times[-1] - times[0] if times else 0
        return completion, told
