"""Cohere's chat, version 2. Forms and the order of events from recorded exchanges: unary cohere.chat-005 (thinking), -011 (parallel calls), -023
(JSON), streams cohere.chat-008, -029 (tools), -016 (a call without arguments), errors cohere.chat-009, -017."""

import json
import re
import typing

from cohere.v2.client import V2Client

from . import shape
from .words import Call, Media, Refused, Result, Seen, Text, Thinking, compact, decode64, number, pieces

PROVIDER = "cohere"
PATHS = [re.compile(r"/v2/chat")]

STATUS = {"rate_limit": 429, "overloaded": 503, "internal": 500, "context": 400, "auth": 401, "invalid": 400}
# there is no word for a refusal: the model says it
STOP = {"end": "COMPLETE", "tools": "TOOL_CALL", "length": "MAX_TOKENS", "refusal": "COMPLETE"}

MEMBERS = typing.get_type_hints(V2Client.chat, include_extras=True) | {"stream": bool}
del MEMBERS["return"], MEMBERS["request_options"]

# === requests ===


def read(request):
    if not re.fullmatch(r"(Bearer|bearer) \S+", request.headers.get("authorization", "")):
        raise Refused("no api key supplied")
    body = request.json()
    found = shape.struct(body, MEMBERS, {"model", "messages", "stream"}, False, "$")
    found += [f"$.{name}: null" for name, value in body.items() if value is None]
    if body.get("tool_choice") not in (None, "REQUIRED", "NONE"):
        found.append(f"$.tool_choice: {body['tool_choice']!r}")
    if found:
        raise Refused("; ".join(found[:5]))
    check_rules(body)
    return seen_in(body)


def check_rules(body):
    """What the API refuses beyond its types."""
    waiting = []
    if not body["messages"]:
        raise Refused("invalid request: messages must not be empty")
    for i, message in enumerate(body["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                raise Refused(
                    f"messages[{i}]: tool_call_id {message['tool_call_id']!r} was not found in the tool calls before"
                )
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            raise Refused(f"messages[{i}]: tool calls without results: {waiting}")
        waiting = [call["id"] for call in message.get("tool_calls") or []]
        if message["role"] == "assistant" and not waiting and not message.get("content"):
            raise Refused(f"messages[{i}]: must have at least one of content and tool_calls")
    if waiting:
        raise Refused(f"tool calls without results: {waiting}")
    form = body.get("response_format", {})
    if form.get("type") == "json_object" and body.get("tools"):
        raise Refused("response_format and tools cannot be used together")


def seen_in(body):
    seen = Seen(model=body["model"], stream=body["stream"])
    functions = [tool["function"] for tool in body.get("tools", [])]
    seen.tools = [function["name"] for function in functions]
    seen.forced = "*" if body.get("tool_choice") == "REQUIRED" else None
    seen.parameters = functions[0].get("parameters", {}) if functions else {}
    form = body.get("response_format", {})
    if form.get("type") == "json_object":
        seen.schema = form.get("json_schema", {})
    seen.thinking = body.get("thinking", {}).get("type") == "enabled"
    prompt, systems = [], []
    for message in body["messages"]:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        prompt.append(text)
        match message["role"]:
            case "system":
                systems.append(text)
            case "user":
                seen.text = text
                for part in parts:
                    read_media(seen, part)
            case "assistant":
                seen.results = []
                for call in message.get("tool_calls") or []:
                    seen.calls.append(Call(call["id"], call["function"]["name"], call["function"]["arguments"]))
                seen.thoughts += [part["thinking"] for part in parts if part["type"] == "thinking"]
            case "tool":
                documents = [p["document"]["data"] for p in parts if p["type"] == "document"]
                texts = [document if isinstance(document, str) else json.dumps(document) for document in documents]
                seen.results.append(Result(message["tool_call_id"], text + "".join(texts)))
    seen.system, seen.prompt = "\n".join(systems), "\n".join(prompt)
    return seen


def read_media(seen, part):
    if part["type"] != "image_url":
        return
    found = re.fullmatch(r"data:([a-z0-9./+-]+);base64,(.*)", part["image_url"]["url"], re.DOTALL)
    if not found:
        raise Refused(f"not a data: URL: {part['image_url']['url'][:40]}")
    seen.media.append(Media(found[1], decode64(found[2], "image_url")))


# === replies ===


def headers():
    return {"server": "envoy", "via": "1.1 google", "x-debug-trace-id": f"fake{number():08}"}


def usage_of(usage):
    tokens = {"input_tokens": usage.all_input, "output_tokens": usage.output}
    if usage.reasoning:
        tokens["reasoning_tokens"] = usage.reasoning
    return {
        "billed_units": {"input_tokens": usage.all_input, "output_tokens": usage.output},
        "tokens": tokens,
        "cached_tokens": usage.cache_read,
    }


def call_of(call):
    return {
        "id": f"{call.name}_fake{number():08}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def unary(request, seen, answer):
    message = {"role": "assistant"}
    has_calls = any(isinstance(block, Call) for block in answer.blocks)
    for block in answer.blocks:
        match block:
            case Call():
                message.setdefault("tool_calls", []).append(call_of(block))
            case Thinking():
                part = {"type": "thinking", "thinking": block.text}
                message.setdefault("content", []).append(part)
            case Text() if has_calls:
                message["tool_plan"] = block.text
            case _:
                message.setdefault("content", []).append({"type": "text", "text": block.text})
    body = {
        "id": f"{number():08x}-fake-4000-8000-000000000000",
        "message": message,
        "finish_reason": STOP[answer.stop],
        "usage": usage_of(answer.usage),
    }
    return 200, headers(), compact(body)


def frame(kind, **members):
    return f"event: {kind}\ndata: ".encode() + compact({"type": kind, **members}) + b"\n\n"


def stream(request, seen, answer):
    return headers() | {"content-type": "text/event-stream"}, frames(answer)


def frames(answer):
    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield frame("message-start", id=f"{number():08x}-fake-4000-8000-000000000000", delta={"message": empty})
    has_calls = any(isinstance(block, Call) for block in answer.blocks)
    index = tool = 0
    for block in answer.blocks:
        match block:
            case Call():
                call = call_of(block)
                opened = call | {"function": call["function"] | {"arguments": ""}}
                yield frame("tool-call-start", index=tool, delta={"message": {"tool_calls": opened}})
                for piece in pieces(block.arguments, 5):
                    part = {"tool_calls": {"function": {"arguments": piece}}}
                    yield frame("tool-call-delta", index=tool, delta={"message": part})
                yield frame("tool-call-end", index=tool)
                tool += 1
            case Text() if has_calls:
                for piece in pieces(block.text):
                    yield frame("tool-plan-delta", delta={"message": {"tool_plan": piece}})
            case _:
                yield from content(block, index, answer.broken)
                index += 1
        if answer.broken:
            # as documented: the stream ends with the finish reason ERROR
            yield frame(
                "message-end",
                delta={"error": answer.broken.message, "finish_reason": "ERROR", "usage": usage_of(answer.usage)},
            )
            return
    yield frame("message-end", delta={"finish_reason": STOP[answer.stop], "usage": usage_of(answer.usage)})
    yield b"data: [DONE]\n\n"


def content(block, index, broken):
    kind = "thinking" if isinstance(block, Thinking) else "text"
    yield frame("content-start", index=index, delta={"message": {"content": {"type": kind, kind: ""}}})
    for piece in getattr(block, "pieces", None) or pieces(block.text):
        yield frame("content-delta", index=index, delta={"message": {"content": {kind: piece}}})
    if not broken:
        yield frame("content-end", index=index)


def error(request, fault):
    body = {"id": f"{number():08x}-fake-4000-8000-000000000000", "message": fault.message}
    if fault.kind == "context":
        body["message"] = "too many tokens: size limit exceeded by 25836 tokens. Try using shorter or fewer inputs."
        body["error_type"] = "TOO_MANY_TOKENS"
    extra = {"retry-after": str(fault.retry_after)} if fault.retry_after else {}
    return STATUS[fault.kind], headers() | extra, compact(body)
