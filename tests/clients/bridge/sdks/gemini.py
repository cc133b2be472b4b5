"""Google's Python SDK, generate_content."""

import json
import time

from google import genai
from google.genai import errors, types

from . import wire
from .base import DESCRIPTION, PARAMETERS, Call, Conversation, Event, Sdk, Told

TOOL = {"name": "get_weather", "description": DESCRIPTION, "parametersJsonSchema": PARAMETERS}


class Gemini(Sdk):
    dialect = "gemini"
    rate_limit, server_error = errors.ClientError, errors.ServerError
    bad_request, any_error = errors.ClientError, errors.APIError

    def __init__(self, url, key):
        options = types.HttpOptions(base_url=url, api_version="v1beta", timeout=20_000)
        self.client = genai.Client(api_key=key, http_options=options)

    def open(self, model, ask, stream):
        return Contents(self.client, model, ask, stream)

    def status(self, error):
        return error.code

    def strict_stream(self, url, key, model, ask):
        body = {"contents": [{"role": "user", "parts": [{"text": ask.text}]}]}
        if ask.tools:
            body["tools"] = [{"functionDeclarations": [TOOL]}]
        if ask.thinking:
            body["generationConfig"] = {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 2048}}
        target = f"{url}/v1beta/models/{model}:streamGenerateContent?alt=sse"
        status, headers, raw = wire.post(target, body, {"x-goog-api-key": key})
        assert status == 200, raw
        assert headers["content-type"].startswith("text/event-stream")
        chunks = [strict(json.loads(data)) for _, data in wire.events(raw)]
        ends = [c.finish_reason for chunk in chunks for c in chunk.candidates if c.finish_reason]
        assert len(ends) == 1 and chunks[-1].candidates[0].finish_reason, ends
        assert chunks[-1].usage_metadata.total_token_count > 0
        return chunks

    def strict_array(self, url, key, model):
        """A stream as Google sends it to those who do not ask for events: one array that grows."""
        body = {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}
        target = f"{url}/v1beta/models/{model}:streamGenerateContent"
        status, headers, raw = wire.post(target, body, {"x-goog-api-key": key})
        assert status == 200, raw
        assert headers["content-type"].startswith("application/json")
        return [strict(chunk) for chunk in json.loads(raw)]


def strict(body):
    """The SDK's types know no other members; real replies have one more."""
    body.get("usageMetadata", {}).pop("serviceTier", None)
    return types.GenerateContentResponse.model_validate_json(json.dumps(body))


class Contents(Conversation):
    def __init__(self, client, model, ask, stream):
        self.client, self.model, self.ask, self.stream = client, model, ask, stream
        files = [types.Part.from_bytes(data=file.data, mime_type=file.media_type) for file in ask.files]
        self.contents = [types.Content(role="user", parts=[types.Part.from_text(text=ask.text), *files])]
        self.config = types.GenerateContentConfig(
            system_instruction=ask.system,
            max_output_tokens=ask.max_tokens,
            stop_sequences=ask.stop,
            tools=[types.Tool(function_declarations=[types.FunctionDeclaration.model_validate(TOOL)])]
            if ask.tools
            else None,
            tool_config=types.ToolConfig(
                function_calling_config=types.FunctionCallingConfig(mode="ANY", allowed_function_names=["get_weather"])
            )
            if ask.forced
            else None,
            response_mime_type="application/json" if ask.schema else None,
            response_schema=Event if ask.schema else None,
            thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2048) if ask.thinking else None,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            **ask.more,
        )
        self.say()

    def results(self, texts):
        parts = []
        for call, text in zip(self.told.calls, texts, strict=True):
            response = types.FunctionResponse(id=call.id or None, name=call.name, response={"output": text})
            parts.append(types.Part(function_response=response))
        self.contents.append(types.Content(role="user", parts=parts))
        self.say()
        return self.told

    def say(self):
        told = self.told = Told()
        request = {"model": self.model, "contents": self.contents, "config": self.config}
        if self.stream:
            chunks, times = [], []
            for chunk in self.client.models.generate_content_stream(**request):
                chunks.append(chunk)
                told.pieces += 1
                if chunk.text:
                    times.append(time.monotonic())
            told.spread = times[-1] - times[0] if times else 0
        else:
            chunks = [self.client.models.generate_content(**request)]
        if chunks[0].sdk_http_response:
            told.headers = {name.lower(): value for name, value in chunks[0].sdk_http_response.headers.items()}
        self.fold(chunks, told)
        if self.ask.schema:
            Event.model_validate_json(told.text)
            assert self.stream or isinstance(chunks[0].parsed, Event)

    def fold(self, chunks, told):
        parts = []
        for chunk in chunks:
            for candidate in chunk.candidates or []:
                parts += (candidate.content and candidate.content.parts) or []
                if candidate.finish_reason:
                    told.stop = {"STOP": "end", "MAX_TOKENS": "length"}.get(candidate.finish_reason.value, "refusal")
        for part in parts:
            if part.thought:
                told.thoughts += part.text or ""
            elif part.text:
                told.text += part.text
            elif part.function_call:
                told.calls.append(
                    Call(part.function_call.id or "", part.function_call.name, dict(part.function_call.args or {}))
                )
        if told.calls:
            told.stop = "tools"
        usage = chunks[-1].usage_metadata
        told.input = usage.prompt_token_count
        told.reasoning = usage.thoughts_token_count or 0
        told.output = (usage.candidates_token_count or 0) + told.reasoning
        told.cache_read = usage.cached_content_token_count or 0
        assert usage.total_token_count == told.input + told.output
        self.contents.append(types.Content(role="model", parts=parts or [types.Part(text="")]))
