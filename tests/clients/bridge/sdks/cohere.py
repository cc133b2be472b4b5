"""Cohere's Python SDK, chat version 2. Only ever asks the fake itself: Tollgate's clients do not speak this dialect."""

import base64
import time

import cohere
from cohere.core.api_error import ApiError

from .base import DESCRIPTION, PARAMETERS, Call, Conversation, Event, Sdk, Told, object_of

TOOL = {"type": "function", "function": {"name": "get_weather", "description": DESCRIPTION, "parameters": PARAMETERS}}
STOP = {"COMPLETE": "end", "TOOL_CALL": "tools", "MAX_TOKENS": "length", "STOP_SEQUENCE": "end"}


class Cohere(Sdk):
    dialect = "cohere"
    rate_limit, server_error = cohere.TooManyRequestsError, (cohere.InternalServerError, cohere.ServiceUnavailableError)
    bad_request, any_error = cohere.BadRequestError, ApiError

    def __init__(self, url, key):
        self.client = cohere.ClientV2(api_key=key, base_url=url, timeout=20)

    def open(self, model, ask, stream):
        return Chat(self.client, model, ask, stream)


class Chat(Conversation):
    def __init__(self, client, model, ask, stream):
        self.client, self.ask, self.stream = client, ask, stream
        content = ask.text
        if ask.files:
            urls = [f"data:{f.media_type};base64,{base64.b64encode(f.data).decode()}" for f in ask.files]
            content = [{"type": "text", "text": ask.text}]
            content += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        system = [{"role": "system", "content": ask.system}] if ask.system else []
        self.request = {"model": model, "messages": [*system, {"role": "user", "content": content}]}
        self.request["max_tokens"] = ask.max_tokens
        if ask.tools:
            self.request["tools"] = [TOOL]
        if ask.forced:
            self.request["tool_choice"] = "REQUIRED"
        if ask.schema:
            self.request["response_format"] = {"type": "json_object", "json_schema": Event.model_json_schema()}
        if ask.thinking:
            self.request["thinking"] = {"type": "enabled", "token_budget": 2048}
        self.say()

    def results(self, texts):
        for call, text in zip(self.told.calls, texts, strict=True):
            self.request["messages"].append({"role": "tool", "tool_call_id": call.id, "content": text})
        self.say()
        return self.told

    def say(self):
        told = self.told = Told()
        once = {"request_options": {"max_retries": 0}}
        if self.stream:
            reply = streamed(self.client.chat_stream(**self.request, **once), told)
        else:
            whole = self.client.chat(**self.request, **once)
            reply = whole.dict()
            reply["message"] = {k: v for k, v in reply["message"].items() if v is not None}
        message = reply["message"]
        for part in message.get("content") or []:
            told.text += part.get("text", "")
            told.thoughts += part.get("thinking", "")
        told.text += message.get("tool_plan") or ""
        for call in message.get("tool_calls") or []:
            told.calls.append(Call(call["id"], call["function"]["name"], object_of(call["function"]["arguments"])))
        told.stop = STOP[reply["finish_reason"]]
        tokens = reply["usage"]["tokens"]
        told.input, told.output = int(tokens["input_tokens"]), int(tokens["output_tokens"])
        told.reasoning = int(tokens.get("reasoning_tokens") or 0)
        told.cache_read = int(reply["usage"].get("cached_tokens") or 0)
        if self.ask.schema:
            Event.model_validate_json(told.text)
        self.request["messages"].append(message | {"role": "assistant"})


def streamed(events, told):
    message, calls, contents, end, times = {"tool_plan": ""}, {}, {}, None, []
    for event in events:
        told.pieces += 1
        match event.type:
            case "content-start":
                kind = event.delta.message.content.type
                contents[event.index] = {"type": kind, kind: ""}
            case "content-delta":
                part = contents[event.index]
                piece = getattr(event.delta.message.content, part["type"])
                part[part["type"]] += piece
                times += [time.monotonic()]
            case "tool-plan-delta":
                message["tool_plan"] += event.delta.message.tool_plan
            case "tool-call-start":
                calls[event.index] = event.delta.message.tool_calls.dict()
            case "tool-call-delta":
                calls[event.index]["function"]["arguments"] += event.delta.message.tool_calls.function.arguments
            case "message-end":
                end = event.delta
    told.spread = times[-1] - times[0] if times else 0
    if end.finish_reason == "ERROR":
        raise ApiError(status_code=503, body=end.error)
    message["content"], message["tool_calls"] = list(contents.values()), list(calls.values())
    message = {k: v for k, v in message.items() if v}
    return {"message": message, "finish_reason": end.finish_reason, "usage": end.usage.dict()}
