"""OpenAI's responses. Forms and the order of events from recorded exchanges: unary openai.responses-019 (tools), -004 (refusal), -016
(incomplete), -033 (encrypted reasoning), streams -021 (text), -022 (reasoning and a call), errors -030."""

import re

from openai.types.responses import response_create_params

from . import openai_chat, shape
from .words import Call, Media, Refusal, Refused, Result, Seen, Text, Thinking, compact, decode64, number, pieces

PROVIDER = "responses"
PATHS = [re.compile(r"/v1/responses")]
# required by the SDK's types; recorded traffic has got on without them (openai.responses-027, -050, -051)
OPTIONAL = (".id: missing", ".strict: missing", ".detail: missing")
PREFIX = {"message": "msg_", "function_call": "fc_", "reasoning": "rs_", "function_call_output": "fc"}
MESSAGE = {"user": "input_text", "system": "input_text", "developer": "input_text", "assistant": "output_text"}

headers = openai_chat.headers

# === requests ===


def read(request):
    body = request.json()
    openai_chat.check_key(request)
    kind = response_create_params.ResponseCreateParamsNonStreaming
    if body.get("stream"):
        kind = response_create_params.ResponseCreateParamsStreaming
    # `client_metadata` is Codex's own
    bare = openai_chat.without(body, {"client_metadata"})
    if isinstance(body.get("input"), list):
        bare["input"] = [bare_item(item) for item in body["input"]]
    found = [fault for fault in shape.faults(bare, kind) if not fault.endswith(OPTIONAL)]
    if found:
        raise Refused("; ".join(found[:5]))
    if "model" not in body or "input" not in body:
        raise Refused("Missing required parameter: 'model' and 'input'")
    check_rules(body)
    return seen_in(body)


def bare_item(item):
    """Without what the API takes and the SDK's types do not know: ids of messages, an assistant's words without one."""
    if not isinstance(item, dict) or item.get("type", "message") != "message":
        return item
    if item.get("role") != "assistant":
        return openai_chat.without(item, {"id"})
    if "id" in item or not isinstance(item.get("content"), list):
        return item
    content = [openai_chat.without(part, {"annotations", "logprobs"}) for part in item["content"]]
    words = [part | {"type": "input_text"} if part.get("type") == "output_text" else part for part in content]
    return openai_chat.without(item, {"status"}) | {"content": words}


def items_of(body):
    given = body["input"]
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def check_rules(body):
    """What the API refuses beyond its types."""
    for tool in body.get("tools", []):
        if tool["type"] == "function":
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool["name"]):
                raise Refused(f"Invalid 'tools[].name': {tool['name']!r}")
            openai_chat.check_strict(tool.get("strict"), tool.get("parameters"), tool["name"])
    form = body.get("text", {}).get("format", {})
    if form.get("type") == "json_schema":
        openai_chat.check_format(form)
    if form.get("type") == "json_object" and "json" not in str(body["input"]).lower():
        raise Refused("Response input messages must contain the word 'json' in some form")
    open_calls, thought = [], False
    for i, item in enumerate(items_of(body)):
        kind = item.get("type", "message")
        wanted = PREFIX.get(kind)
        if wanted and item.get("id") and not item["id"].startswith(wanted):
            raise Refused(f"Invalid 'input[{i}].id': {item['id']!r}. Expected an ID that begins with {wanted!r}.")
        if kind == "message":
            check_message(i, item)
        elif kind == "function_call":
            if len(item["call_id"]) > 64:
                raise Refused(
                    f"Invalid 'input[{i}].call_id': string too long. Expected a string with maximum length 64"
                )
            open_calls.append(item["call_id"])
        elif kind == "function_call_output":
            if item["call_id"] not in open_calls:
                raise Refused(f"No tool call found for function call output with call_id {item['call_id']}.")
            open_calls.remove(item["call_id"])
        if thought and kind in ("function_call_output",) or thought and item.get("role") == "user":
            raise Refused("Item of type 'reasoning' was provided without its required following item.")
        thought = kind == "reasoning"
    if open_calls:
        raise Refused(f"No tool output found for function call {open_calls[0]}.")


def check_message(i, item):
    if isinstance(item["content"], str):
        return
    for part in item["content"]:
        is_text = part["type"] in ("input_text", "output_text")
        if is_text and part["type"] != MESSAGE[item["role"]]:
            raise Refused(f"Invalid value: '{part['type']}' in input[{i}] of role {item['role']}")


def seen_in(body):
    seen = Seen(model=body["model"], stream=bool(body.get("stream")))
    functions = [tool for tool in body.get("tools", []) if tool["type"] == "function"]
    seen.tools = [tool.get("name") or tool["type"] for tool in body.get("tools", [])]
    choice = body.get("tool_choice")
    if choice == "required":
        seen.forced = "*"
    elif isinstance(choice, dict):
        seen.forced = choice.get("name")
    seen.parameters = next((f.get("parameters", {}) for f in functions if seen.forced in ("*", f["name"])), {})
    form = body.get("text", {}).get("format", {})
    seen.schema = {"json_schema": form.get("schema"), "json_object": {}}.get(form.get("type"))
    seen.thinking = (body.get("reasoning") or {}).get("effort", "none") != "none"
    systems = [body["instructions"]] if body.get("instructions") else []
    prompt = list(systems)
    for item in items_of(body):
        kind = item.get("type", "message")
        if kind == "message":
            read_message(seen, item, systems, prompt)
        elif kind == "function_call":
            seen.calls.append(Call(item["call_id"], item["name"], item["arguments"]))
            seen.results = []
        elif kind == "function_call_output":
            output = item["output"]
            parts = [{"type": "input_text", "text": output}] if isinstance(output, str) else output
            for part in parts:
                read_media(seen, part)
            text = "".join(part["text"] for part in parts if part["type"] == "input_text")
            seen.results.append(Result(item["call_id"], text))
        elif kind == "reasoning":
            if item.get("encrypted_content"):
                seen.seals.append(item["encrypted_content"])
            seen.thoughts += [part["text"] for part in item.get("summary", [])]
    seen.system, seen.prompt = "\n".join(systems), "\n".join(prompt)
    return seen


def read_message(seen, item, systems, prompt):
    content = item["content"]
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    text = "\n".join(part["text"] for part in parts if part["type"] in ("input_text", "output_text"))
    prompt.append(text)
    if item["role"] in ("system", "developer"):
        systems.append(text)
    elif item["role"] == "user":
        seen.text = text
    else:
        seen.results = []
    for part in parts:
        read_media(seen, part)


def read_media(seen, part):
    if part["type"] == "input_image":
        url = part.get("image_url", "")
    elif part["type"] == "input_file":
        url = part.get("file_data", "")
        if not part.get("filename"):
            raise Refused("Missing required parameter: 'filename'")
    else:
        return
    found = re.fullmatch(r"data:([a-z0-9./+-]+);base64,(.*)", url, re.DOTALL)
    if not found:
        raise Refused(f"not a data: URL: {url[:40]}")
    seen.media.append(Media(found[1], decode64(found[2], part["type"])))


# === replies ===


def usage_of(usage):
    return {
        "input_tokens": usage.all_input,
        "input_tokens_details": {"cache_write_tokens": usage.cache_write, "cached_tokens": usage.cache_read},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.all_input + usage.output,
    }


def response(body, seen, status, output, usage=None, **more):
    return {
        "id": f"resp_fake{number():032x}",
        "object": "response",
        "created_at": 1782321745,
        "status": status,
        "background": False,
        "completed_at": 1782321750 if status == "completed" else None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": seen.model,
        "moderation": None,
        "output": output,
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": "in_memory",
        "reasoning": {"context": "current_turn", "effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "user": None,
        "metadata": {},
    } | more


def item_of(block, wants_seal):
    match block:
        case Thinking():
            item = {"id": f"rs_fake{number():040x}", "type": "reasoning", "content": []}
            if wants_seal:
                item["encrypted_content"] = block.seal
            return item | {"summary": [{"type": "summary_text", "text": block.text}] if block.text else []}
        case Call():
            return {
                "id": f"fc_fake{number():040x}",
                "type": "function_call",
                "status": "completed",
                "arguments": block.arguments,
                "call_id": f"call_fake{number():016}",
                "name": block.name,
            }
        case Refusal():
            content = {"type": "refusal", "refusal": block.text}
        case Text():
            content = {"type": "output_text", "annotations": [], "logprobs": [], "text": block.text}
    item = {"id": f"msg_fake{number():040x}", "type": "message", "status": "completed"}
    return item | {"content": [content], "role": "assistant"}


def ending(answer):
    if answer.stop == "length":
        return "incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}
    return "completed", {}


def wants_seal(body):
    return "reasoning.encrypted_content" in (body.get("include") or []) or body.get("store") is False


def unary(request, seen, answer):
    body = request.json()
    output = [item_of(block, wants_seal(body)) for block in answer.blocks]
    status, more = ending(answer)
    if status == "incomplete":
        output[-1]["status"] = "incomplete"
    return 200, headers(), compact(response(body, seen, status, output, usage_of(answer.usage), **more))


def stream(request, seen, answer):
    return headers() | {"content-type": "text/event-stream; charset=utf-8"}, frames(request.json(), seen, answer)


def frames(body, seen, answer):
    count = 0

    def frame(kind, **members):
        nonlocal count
        event = {"type": kind, **members, "sequence_number": count}
        count += 1
        return b"event: " + kind.encode() + b"\ndata: " + compact(event) + b"\n\n"

    begun = response(body, seen, "in_progress", [])
    yield frame("response.created", response=begun)
    yield frame("response.in_progress", response=begun)
    output = []
    for index, block in enumerate(answer.blocks):
        item = item_of(block, wants_seal(body))
        output.append(item)
        here = {"item_id": item["id"], "output_index": index}
        match block:
            case Thinking():
                yield frame("response.output_item.added", item=item | {"summary": []}, output_index=index)
                yield from summary(frame, block, here)
            case Call():
                opened = item | {"arguments": "", "status": "in_progress"}
                yield frame("response.output_item.added", item=opened, output_index=index)
                for piece in pieces(block.arguments, 5):
                    yield frame("response.function_call_arguments.delta", delta=piece, obfuscation="x", **here)
                yield frame("response.function_call_arguments.done", arguments=block.arguments, **here)
            case Text() | Refusal():
                opened = item | {"content": [], "status": "in_progress"}
                yield frame("response.output_item.added", item=opened, output_index=index)
                yield from content(frame, block, item, here, answer.broken)
        if answer.broken:
            yield frame("error", code="server_error", message=answer.broken.message, param=None)
            failed = {"code": "server_error", "message": answer.broken.message}
            yield frame("response.failed", response=begun | {"status": "failed", "error": failed})
            return
        yield frame("response.output_item.done", item=item, output_index=index)
    status, more = ending(answer)
    whole = begun | {"status": status, "output": output, "usage": usage_of(answer.usage)} | more
    yield frame(f"response.{status}", response=whole)


def summary(frame, block, here):
    if not block.text:
        return
    here = here | {"summary_index": 0}
    yield frame("response.reasoning_summary_part.added", part={"type": "summary_text", "text": ""}, **here)
    for piece in pieces(block.text):
        yield frame("response.reasoning_summary_text.delta", delta=piece, obfuscation="x", **here)
    yield frame("response.reasoning_summary_text.done", text=block.text, **here)
    yield frame("response.reasoning_summary_part.done", part={"type": "summary_text", "text": block.text}, **here)


def content(frame, block, item, here, broken):
    here = here | {"content_index": 0}
    part = item["content"][0]
    if isinstance(block, Refusal):
        yield frame("response.content_part.added", part=part | {"refusal": ""}, **here)
        for piece in pieces(block.text):
            yield frame("response.refusal.delta", delta=piece, **here)
        yield frame("response.refusal.done", refusal=block.text, **here)
    else:
        yield frame("response.content_part.added", part=part | {"text": ""}, **here)
        for piece in block.pieces or pieces(block.text):
            yield frame("response.output_text.delta", delta=piece, logprobs=[], obfuscation="x", **here)
        if broken:
            return
        yield frame("response.output_text.done", text=block.text, logprobs=[], **here)
    yield frame("response.content_part.done", part=part, **here)


def error(request, fault):
    return openai_chat.error(request, fault)
