"""OpenAI's chat completions. Forms from recorded exchanges: unary openai.chat-011, -017, -060 (refusal), streams -026 (parallel
tools), -028, errors -031, -061 and the reconstructed openai-429-06. OpenAI itself shows no thoughts here; those of the scenario
`thinking` are told as DeepSeek does (deepseek.chat, `reasoning_content`)."""

import re

from openai.types.chat import completion_create_params

from . import shape
from .words import Call, Media, Refusal, Refused, Result, Seen, Text, Thinking, compact, decode64, number, pieces

PROVIDER = "chat"
PATHS = [re.compile(r"/v1/chat/completions")]

STATUS = {"rate_limit": 429, "overloaded": 503, "internal": 500, "context": 400, "auth": 401, "invalid": 400}
TYPE = {
    "rate_limit": ("tokens", "rate_limit_exceeded", None),
    "overloaded": ("server_error", None, None),
    "internal": ("server_error", None, None),
    "context": ("invalid_request_error", "context_length_exceeded", "messages"),
    "auth": ("invalid_request_error", "invalid_api_key", None),
    "invalid": ("invalid_request_error", "invalid_value", None),
}
STOP = {"end": "stop", "tools": "tool_calls", "length": "length", "refusal": "stop"}
# members of replies that come back with the history; OpenAI takes its own, vendors of this dialect theirs
VENDORS = {"reasoning_content", "reasoning", "reasoning_details", "annotations"}

# === requests ===


def read(request):
    body = request.json()
    check_key(request)
    kind = completion_create_params.CompletionCreateParamsNonStreaming
    if body.get("stream"):
        kind = completion_create_params.CompletionCreateParamsStreaming
    bare = dict(body)
    if isinstance(body.get("messages"), list):
        bare["messages"] = [without(message, VENDORS) for message in body["messages"]]
    found = shape.faults(bare, kind)
    found += [f"$.{name}: null" for name, value in body.items() if value is None]
    if found:
        raise Refused("; ".join(found[:5]))
    check_rules(body)
    return seen_in(body)


def without(value, names):
    return {k: v for k, v in value.items() if k not in names} if isinstance(value, dict) else value


def check_key(request):
    if not re.fullmatch(r"Bearer \S+", request.headers.get("authorization", "")):
        raise Refused("You didn't provide an API key.")


def check_rules(body):
    """What the API refuses beyond its types."""
    for tool in body.get("tools", []):
        name = tool.get("function", tool.get("custom", {})).get("name", "")
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            raise Refused(f"Invalid 'tools[].function.name': {name!r}")
        check_strict(tool.get("function", {}).get("strict"), tool.get("function", {}).get("parameters"), name)
    if not body.get("tools") and ("tool_choice" in body or "parallel_tool_calls" in body):
        raise Refused("'tool_choice' and 'parallel_tool_calls' are only allowed when 'tools' are specified.")
    form = body.get("response_format", {})
    if form.get("type") == "json_schema":
        check_format(form["json_schema"])
    if form.get("type") == "json_object" and "json" not in str(body["messages"]).lower():
        raise Refused("'messages' must contain the word 'json' in some form")
    if not body["messages"]:
        raise Refused("Invalid 'messages': empty array.")
    waiting = []
    for i, message in enumerate(body["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                raise Refused(
                    f"messages[{i}]: a 'tool' message must be a response to a preceding message with 'tool_calls'"
                )
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            raise Refused(f"messages[{i}]: tool_call_ids did not have response messages: {waiting}")
        waiting = [call["id"] for call in message.get("tool_calls", [])]
        if any(len(call) > 40 for call in waiting):
            raise Refused(f"messages[{i}].tool_calls: id: string too long. Expected a string with maximum length 40")
        if (
            message["role"] == "assistant"
            and not waiting
            and message.get("content") is None
            and not message.get("refusal")
        ):
            raise Refused(f"Invalid value for 'messages[{i}].content': expected a string, got null.")
    if waiting:
        raise Refused(f"tool_call_ids did not have response messages: {waiting}")


def check_format(form):
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", form.get("name", "")):
        raise Refused(f"Invalid 'response_format.json_schema.name': {form.get('name')!r}")
    check_strict(form.get("strict"), form.get("schema"), form["name"])


def check_strict(strict, schema, name):
    """Strict schemas have every member required and no others."""
    if not strict or not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            raise Refused(
                f"Invalid schema for {name!r}: 'additionalProperties' is required to be supplied and to be false."
            )
        if set(schema.get("required", [])) != set(schema.get("properties", {})):
            raise Refused(f"Invalid schema for {name!r}: 'required' must include every key in properties.")
    for member in [*schema.get("properties", {}).values(), schema.get("items")]:
        check_strict(True, member, name)


def seen_in(body):
    seen = Seen(model=body["model"], stream=bool(body.get("stream")))
    seen.include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    functions = [tool["function"] for tool in body.get("tools", []) if tool["type"] == "function"]
    seen.tools = [function["name"] for function in functions]
    choice = body.get("tool_choice")
    if choice == "required":
        seen.forced = "*"
    elif isinstance(choice, dict):
        seen.forced = choice.get("function", {}).get("name")
    seen.parameters = next((f.get("parameters", {}) for f in functions if seen.forced in ("*", f["name"])), {})
    form = body.get("response_format", {})
    seen.schema = {"json_schema": form.get("json_schema", {}).get("schema"), "json_object": {}}.get(form.get("type"))
    seen.thinking = body.get("reasoning_effort", "none") != "none"
    prompt, systems = [], []
    for message in body["messages"]:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        prompt.append(text)
        match message["role"]:
            case "system" | "developer":
                systems.append(text)
            case "user":
                # may follow results, to bring what a tool's message cannot hold (as in openai.chat-047)
                seen.text = text
                for part in parts:
                    read_media(seen, part)
            case "assistant":
                seen.results = []
                for call in message.get("tool_calls", []):
                    seen.calls.append(Call(call["id"], call["function"]["name"], call["function"]["arguments"]))
                if message.get("reasoning_content"):
                    seen.thoughts.append(message["reasoning_content"])
            case "tool":
                seen.results.append(Result(message["tool_call_id"], text))
    seen.system, seen.prompt = "\n".join(systems), "\n".join(prompt)
    return seen


def read_media(seen, part):
    if part["type"] == "image_url":
        url = part["image_url"]["url"]
    elif part["type"] == "file" and "file_data" in part["file"]:
        url = part["file"]["file_data"]
        if not part["file"].get("filename"):
            raise Refused("Missing required parameter: 'file.filename'")
    else:
        return
    found = re.fullmatch(r"data:([a-z0-9./+-]+);base64,(.*)", url, re.DOTALL)
    if not found:
        raise Refused(f"not a data: URL: {url[:40]}")
    seen.media.append(Media(found[1], decode64(found[2], part["type"])))


# === replies ===


def headers():
    return {"x-request-id": f"req_fake{number():08}", "openai-version": "2020-10-01", "openai-processing-ms": "3"}


def usage_of(usage):
    return {
        "prompt_tokens": usage.all_input,
        "completion_tokens": usage.output,
        "total_tokens": usage.all_input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def call_of(call):
    # ids of every provider are remembered by clients: never the same one twice
    return {
        "id": f"call_fake{number():015}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def unary(request, seen, answer):
    message = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    for block in answer.blocks:
        match block:
            case Text():
                message["content"] = (message["content"] or "") + block.text
            case Refusal():
                message["refusal"] = block.text
            case Thinking():
                message["reasoning_content"] = block.text
            case Call():
                message.setdefault("tool_calls", []).append(call_of(block))
    body = {
        "id": f"chatcmpl-Fake{number():020}",
        "object": "chat.completion",
        "created": 1782321945,
        "model": seen.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": STOP[answer.stop]}],
        "usage": usage_of(answer.usage),
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }
    return 200, headers(), compact(body)


def stream(request, seen, answer):
    return headers() | {"content-type": "text/event-stream; charset=utf-8"}, frames(seen, answer)


def frames(seen, answer):
    head = {
        "id": f"chatcmpl-Fake{number():020}",
        "object": "chat.completion.chunk",
        "created": 1782321945,
        "model": seen.model,
        "service_tier": "default",
        "system_fingerprint": None,
    }

    def chunk(choices, **more):
        usage = {"usage": None} if seen.include_usage else {}
        return b"data: " + compact(head | {"choices": choices} | usage | more | {"obfuscation": "a8Gt"}) + b"\n\n"

    def delta(value, finish=None):
        return chunk([{"index": 0, "delta": value, "finish_reason": finish}])

    only_tools = all(isinstance(block, Call) for block in answer.blocks)
    yield delta({"role": "assistant", "content": None if only_tools else "", "refusal": None})
    tool = 0
    for block in answer.blocks:
        match block:
            case Text():
                for piece in block.pieces or pieces(block.text):
                    yield delta({"content": piece})
            case Refusal():
                for piece in pieces(block.text):
                    yield delta({"refusal": piece})
            case Thinking():
                for piece in pieces(block.text):
                    yield delta({"reasoning_content": piece})
            case Call():
                call = call_of(block)
                opened = call | {"function": call["function"] | {"arguments": ""}}
                yield delta({"tool_calls": [{"index": tool} | opened]})
                for piece in pieces(block.arguments, 5):
                    yield delta({"tool_calls": [{"index": tool, "function": {"arguments": piece}}]})
                tool += 1
    if answer.broken:
        yield b"data: " + compact(error_body(answer.broken)) + b"\n\n"
        return
    yield delta({}, STOP[answer.stop])
    if seen.include_usage:
        yield chunk([], usage=usage_of(answer.usage))
    yield b"data: [DONE]\n\n"


def error_body(fault):
    kind, code, param = TYPE[fault.kind]
    message = fault.message
    if fault.kind == "context":
        message = "Your input exceeds the context window of this model. Please adjust your input and try again."
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error(request, fault):
    extra = {"retry-after": str(fault.retry_after)} if fault.retry_after else {}
    return STATUS[fault.kind], headers() | extra, compact(error_body(fault))
