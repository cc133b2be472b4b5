"""Anthropic's messages API. Forms and the order of events from recorded exchanges: unary anthropic.messages-042 and -049, streams
-010 (tools), -024 (thinking), -047 (refusal), errors -011, -032 and the reconstructed anthropic-429-01, -529-03."""

import json
import re

from anthropic.types import message_create_params

from . import shape
from .words import Call, Media, Refusal, Refused, Result, Seen, Text, Thinking, compact, decode64, number, pieces

PROVIDER = "anthropic"
PATHS = [re.compile(r"/v1/messages"), re.compile(r"/v1/messages/(count_tokens)")]

# Two versions of the API are served. The SDK's types are those of the newer one, which has no sampling parameters any more.
VERSIONS = ("2023-06-01", "2026-10-21")
OLDER = {"temperature": float, "top_p": float, "top_k": int}
STATUS = {"rate_limit": 429, "overloaded": 529, "internal": 500, "context": 400, "auth": 401, "invalid": 400}
TYPE = {
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "internal": "api_error",
    "context": "invalid_request_error",
    "auth": "authentication_error",
    "invalid": "invalid_request_error",
}
STOP = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "refusal"}

# === requests ===


def read(request):
    body = request.json()
    older = OLDER if version_of(request) == "2023-06-01" else {}
    kind = message_create_params.MessageCreateParamsNonStreaming
    if body.get("stream"):
        kind = message_create_params.MessageCreateParamsStreaming
    counting = request.path.endswith("count_tokens")
    members, required, _ = shape.typed_dict(kind)
    # Claude Code and other users of `?beta=true` send members of the beta types
    beta = (
        {"context_management": object, "betas": object, "mcp_servers": object}
        if "anthropic-beta" in request.headers
        else {}
    )
    required = required - {"max_tokens"} if counting else required
    found = shape.struct(body, members | older | beta, required, False, "$")
    if found:
        raise Refused("; ".join(found[:5]))
    check_rules(body)
    return seen_in(body)


def version_of(request):
    version = request.headers.get("anthropic-version")
    if version not in VERSIONS:
        raise Refused(f"anthropic-version: {version!r} is none of {VERSIONS}")
    if not request.headers.get("x-api-key") and not request.headers.get("authorization"):
        raise Refused("x-api-key: header is required")
    return version


def check_rules(body):
    """What the API refuses beyond its types."""
    names = [tool["name"] for tool in body.get("tools", []) if "name" in tool]
    for name in names:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", name):
            raise Refused(f"tools: {name!r} should match ^[a-zA-Z0-9_-]{{1,128}}$")
    if len(names) != len(set(names)):
        raise Refused("tools: Tool names must be unique.")
    if body.get("tool_choice") and not body.get("tools"):
        raise Refused("tool_choice: may only be specified while providing tools")
    thinking = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    if thinking:
        budget = body["thinking"].get("budget_tokens", 1024)
        if budget < 1024:
            raise Refused("thinking.budget_tokens: Input should be greater than or equal to 1024")
        if body["thinking"]["type"] == "enabled" and body.get("max_tokens", 1 << 30) <= budget:
            raise Refused("`max_tokens` must be greater than `thinking.budget_tokens`")
        if body.get("temperature", 1) != 1 or "top_k" in body:
            raise Refused("`temperature` may only be set to 1 when thinking is enabled")
        if body.get("tool_choice", {}).get("type") in ("any", "tool"):
            raise Refused("Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("temperature", 0) > 1:
        raise Refused("temperature: range: 0..1")
    if not body["messages"]:
        raise Refused("messages: at least one message is required")
    waiting = []
    for i, message in enumerate(body["messages"]):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks and i != len(body["messages"]) - 1:
            raise Refused(f"messages.{i}: all messages must have non-empty content")
        check_results(i, message["role"], blocks, waiting)
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for block in blocks:
            if block["type"] == "text" and not block["text"].strip():
                raise Refused(f"messages.{i}: text content blocks must contain non-whitespace text")
            if block["type"] == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
                raise Refused(f"messages.{i}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        types = [block["type"] for block in blocks]
        # the rule of the models with extended thinking
        if (
            thinking
            and waiting
            and i == len(body["messages"]) - 2
            and types[0] not in ("thinking", "redacted_thinking")
        ):
            raise Refused(
                f"messages.{i}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{types[0]}`"
            )
    if waiting:
        raise Refused("messages: `tool_use` ids were found without `tool_result` blocks immediately after")


def check_results(i, role, blocks, waiting):
    given = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    if sorted(given) != sorted(waiting):
        raise Refused(f"messages.{i}: tool_result ids {given} are not the tool_use ids before: {waiting}")
    if given and [block["type"] for block in blocks[: len(given)]] != ["tool_result"] * len(given):
        raise Refused(f"messages.{i}: tool_result blocks must come first")
    if role == "assistant" and given:
        raise Refused(f"messages.{i}: tool_result in an assistant message")


def seen_in(body):
    seen = Seen(model=body["model"], stream=bool(body.get("stream")))
    system = body.get("system", "")
    seen.system = system if isinstance(system, str) else "\n".join(block["text"] for block in system)
    prompt = [seen.system]
    for tool in body.get("tools", []):
        seen.tools.append(tool["name"])
    choice = body.get("tool_choice", {})
    seen.forced = {"any": "*", "tool": choice.get("name")}.get(choice.get("type"))
    chosen = [t for t in body.get("tools", []) if seen.forced in ("*", t["name"])]
    seen.parameters = chosen[0].get("input_schema", {}) if chosen else {}
    form = (body.get("output_config") or {}).get("format")
    seen.schema = form["schema"] if form else None
    seen.thinking = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "user":
            seen.results, seen.text = [], ""
        for block in blocks:
            read_block(seen, block, prompt)
    seen.prompt = "\n".join(prompt)
    return seen


def read_block(seen, block, prompt):
    match block["type"]:
        case "text":
            prompt.append(block["text"])
            seen.text = f"{seen.text}\n{block['text']}".strip()
        case "image" | "document":
            read_media(seen, block)
        case "tool_use":
            seen.calls.append(Call(block["id"], block["name"], compact(block["input"]).decode()))
        case "tool_result":
            content = block.get("content", "")
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for part in parts:
                if part["type"] in ("image", "document"):
                    read_media(seen, part)
            text = "".join(part["text"] for part in parts if part["type"] == "text")
            seen.results.append(Result(block["tool_use_id"], text, failed=bool(block.get("is_error"))))
        case "thinking":
            seen.seals.append(block["signature"])
            seen.thoughts.append(block["thinking"])
        case "redacted_thinking":
            seen.seals.append(block["data"])


def read_media(seen, block):
    source = block["source"]
    if source["type"] == "base64":
        seen.media.append(Media(source["media_type"], decode64(source["data"], "source.data")))
    elif source["type"] == "text":
        seen.media.append(Media(source["media_type"], source["data"].encode()))


# === replies ===


def headers():
    return {"request-id": f"req_fake{number():08}", "anthropic-organization-id": "00000000-fake"}


def usage_of(usage):
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }


def end_usage(usage):
    out = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
    }
    if usage.reasoning:
        out["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return out


def stop_of(answer):
    """Reason and details. A refusal has no block of its own: what was said stays text."""
    details = None
    if answer.stop == "refusal":
        words = next(block.text for block in answer.blocks if isinstance(block, Refusal))
        details = {"type": "refusal", "category": "cyber", "explanation": words}
    return {"stop_reason": STOP[answer.stop], "stop_sequence": None, "stop_details": details}


def block_of(block):
    match block:
        case Text():
            return {"type": "text", "text": block.text}
        case Thinking(redacted=True):
            return {"type": "redacted_thinking", "data": block.seal}
        case Thinking():
            return {"type": "thinking", "thinking": block.text, "signature": block.seal}
        case Call():
            return {
                "type": "tool_use",
                "id": f"toolu_01Fake{number():018}",
                "name": block.name,
                "input": json.loads(block.arguments),
                "caller": {"type": "direct"},
            }


def message(seen, content, answer=None):
    stop = stop_of(answer) if answer else {"stop_reason": None, "stop_sequence": None, "stop_details": None}
    return {
        "model": seen.model,
        "id": f"msg_01Fake{number():018}",
        "type": "message",
        "role": "assistant",
        "content": content,
        **stop,
    }


def unary(request, seen, answer):
    if request.path.endswith("count_tokens"):
        return 200, headers(), compact({"input_tokens": 21})
    content = [block_of(block) for block in answer.blocks if not isinstance(block, Refusal)]
    usage = usage_of(answer.usage)
    if answer.usage.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": answer.usage.reasoning}
    return 200, headers(), compact(message(seen, content, answer) | {"usage": usage})


def frame(event):
    # as recorded: some spaces before the last brace
    return b"event: " + event["type"].encode() + b"\ndata: " + compact(event)[:-1] + b"     }\n\n"


def stream(request, seen, answer):
    return headers() | {"content-type": "text/event-stream; charset=utf-8"}, frames(seen, answer)


def frames(seen, answer):
    start = usage_of(answer.usage) | {"output_tokens": 1}
    yield frame({"type": "message_start", "message": message(seen, []) | {"usage": start}})
    blocks = [block for block in answer.blocks if not isinstance(block, Refusal)]
    if answer.broken and not blocks:
        yield b'event: ping\ndata: {"type": "ping"}\n\n'
        yield broken(answer.broken)
        return
    for index, block in enumerate(blocks):
        opened = block_of(block)
        deltas = []
        match block:
            case Text():
                opened["text"] = ""
                deltas = [{"type": "text_delta", "text": piece} for piece in block.pieces or pieces(block.text)]
            case Thinking(redacted=True):
                pass
            case Thinking():
                opened |= {"thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block.text)]
                deltas.append({"type": "signature_delta", "signature": block.seal})
            case Call():
                opened["input"] = {}
                parts = [] if block.arguments == "{}" else pieces(block.arguments, 5)
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *parts]]
        yield frame({"type": "content_block_start", "index": index, "content_block": opened})
        if index == 0:
            yield b'event: ping\ndata: {"type": "ping"}\n\n'
        for delta in deltas:
            yield frame({"type": "content_block_delta", "index": index, "delta": delta})
        if answer.broken:
            yield broken(answer.broken)
            return
        yield frame({"type": "content_block_stop", "index": index})
    yield frame({"type": "message_delta", "delta": stop_of(answer), "usage": end_usage(answer.usage)})
    yield frame({"type": "message_stop"})


def broken(fault):
    return frame({"type": "error", "error": {"type": TYPE[fault.kind], "message": fault.message}})


def error(request, fault):
    message = "prompt is too long: 212345 tokens > 200000 maximum" if fault.kind == "context" else fault.message
    body = {
        "type": "error",
        "error": {"type": TYPE[fault.kind], "message": message},
        "request_id": f"req_fake{number():08}",
    }
    extra = {"retry-after": str(fault.retry_after)} if fault.retry_after else {}
    return STATUS[fault.kind], headers() | extra, compact(body)
