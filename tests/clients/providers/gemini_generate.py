"""Gemini's generateContent and streamGenerateContent. Forms from recorded exchanges: unary gemini.generateContent-009, -015, -030 (blocked),
-018 (cached), streams gemini.streamGenerateContent-012 (parallel calls), -016 and -017 (thoughts, signatures), -005 (length), -026
(an array, without `alt=sse`), errors gemini.generateContent-019, -023, -043 and the reconstructed gemini-503-07."""

import base64
import json
import re

import pydantic
from google.genai import types

from . import scenarios
from .words import Call, Media, Refusal, Refused, Result, Seen, Text, Thinking, compact, number, pieces

PROVIDER = "gemini"
PATHS = [re.compile(r"/v1beta/models/([^/:]+):(generateContent|streamGenerateContent|countTokens)")]

STATUS = {
    "rate_limit": (429, "RESOURCE_EXHAUSTED"),
    "overloaded": (503, "UNAVAILABLE"),
    "internal": (500, "INTERNAL"),
    "context": (400, "INVALID_ARGUMENT"),
    "auth": (400, "INVALID_ARGUMENT"),
    "invalid": (400, "INVALID_ARGUMENT"),
}
STOP = {"end": "STOP", "tools": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}


class Body(pydantic.BaseModel):
    """The wire's request: the SDK has types for its members only."""

    model_config = pydantic.ConfigDict(
        extra="forbid", alias_generator=pydantic.alias_generators.to_camel, populate_by_name=True
    )

    model: str | None = None
    contents: list[types.Content]
    system_instruction: types.Content | None = None
    tools: list[types.Tool] | None = None
    tool_config: types.ToolConfig | None = None
    safety_settings: list[types.SafetySetting] | None = None
    generation_config: types.GenerationConfig | None = None
    cached_content: str | None = None
    service_tier: str | None = None
    store: bool | None = None


# Members of the SDK's types that only Vertex takes.
VERTEX = ("model_selection_config", "routing_config", "audio_timestamp")

# === requests ===


def read(request):
    if not request.headers.get("x-goog-api-key") and "key" not in request.query:
        raise Refused("API key not valid. Please pass a valid API key.")
    name, method = PATHS[0].fullmatch(request.path).groups()
    if method == "countTokens":
        return Seen(model=name)
    try:
        body = Body.model_validate_json(request.body)
    except pydantic.ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
        raise Refused("; ".join(found)) from None
    check_rules(body, request.json(), name)
    return seen_in(body, name, method)


def check_rules(body, raw, name):
    """What the API refuses beyond its types."""
    if not body.contents:
        raise Refused("contents are required")
    config = body.generation_config
    for member in VERTEX:
        if config and getattr(config, member, None) is not None:
            raise Refused(f"generation_config.{member}: Unknown name")
    if (
        config
        and (config.response_schema or config.response_json_schema)
        and config.response_mime_type != "application/json"
    ):
        raise Refused("responseSchema can only be set if responseMimeType is application/json")
    if config and config.response_schema and config.response_json_schema:
        raise Refused("only one of responseSchema and responseJsonSchema may be set")
    for tool in body.tools or []:
        for function in tool.function_declarations or []:
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}", function.name or ""):
                raise Refused(f"Invalid function name {function.name!r}")
    waiting = []
    for i, content in enumerate(body.contents):
        if content.role not in ("user", "model", None):
            raise Refused("Please use a valid role: user, model.")
        if not content.parts:
            raise Refused(f"contents[{i}].parts must not be empty.")
        for part in content.parts:
            check_part(i, part)
        results = [part.function_response for part in content.parts if part.function_response]
        if len(results) != len(waiting) or sorted(r.name for r in results) != sorted(c.name for c in waiting):
            raise Refused(
                "the number and names of function response parts must equal those of the function call turn before"
            )
        calls = [part for part in content.parts if part.function_call]
        if calls and (i == 0 or body.contents[i - 1].role == "model"):
            raise Refused("function call turn comes immediately after a user turn or after a function response turn.")
        # Gemini 3 demands the signature of the first call of each step
        if calls and name.startswith("gemini-3") and not calls[0].thought_signature:
            raise Refused(f"Function call is missing a thought_signature in functionCall parts. contents[{i}]")
        waiting = [part.function_call for part in calls]


def check_part(i, part):
    kinds = ["text", "inline_data", "file_data", "function_call", "function_response", "executable_code"]
    data = [kind for kind in [*kinds, "code_execution_result"] if getattr(part, kind) is not None]
    if len(data) != 1:
        raise Refused(f"contents[{i}].parts: required oneof field 'data' must have one initialized field, not {data}")
    if part.inline_data and not part.inline_data.mime_type:
        raise Refused(f"contents[{i}].parts: inlineData without a mimeType")


def seen_in(body, name, method):
    seen = Seen(model=name, stream=method == "streamGenerateContent")
    config = body.generation_config or types.GenerationConfig()
    functions = [f for tool in body.tools or [] for f in tool.function_declarations or []]
    seen.tools = [function.name for function in functions]
    calling = body.tool_config and body.tool_config.function_calling_config
    if calling and calling.mode == types.FunctionCallingConfigMode.ANY:
        allowed = calling.allowed_function_names or []
        seen.forced = allowed[0] if len(allowed) == 1 else "*"
    chosen = next((f for f in functions if seen.forced in ("*", f.name)), None)
    if chosen:
        given = chosen.parameters.model_dump(mode="json", exclude_none=True) if chosen.parameters else {}
        seen.parameters = chosen.parameters_json_schema or given
    if config.response_json_schema is not None:
        seen.schema = config.response_json_schema
    elif config.response_schema:
        seen.schema = config.response_schema.model_dump(mode="json", exclude_none=True)
    elif config.response_mime_type == "application/json":
        seen.schema = {}
    thinking = config.thinking_config
    if thinking:
        if thinking.thinking_budget is not None and thinking.thinking_level is not None:
            raise Refused("You can only set only one of thinking budget and thinking level.")
        seen.thinking = thinking.thinking_budget != 0
    prompt = []
    if body.system_instruction:
        seen.system = "\n".join(part.text or "" for part in body.system_instruction.parts)
        prompt.append(seen.system)
    for content in body.contents:
        if content.role == "model":
            seen.results = []
        else:
            seen.text = ""
        for part in content.parts:
            read_part(seen, part, content.role, prompt)
    seen.prompt = "\n".join(prompt)
    return seen


def read_part(seen, part, role, prompt):
    if part.thought_signature is not None:
        seen.seals.append(base64.b64encode(part.thought_signature).decode())
    if part.thought:
        seen.thoughts.append(part.text)
    elif part.text is not None:
        prompt.append(part.text)
        if role != "model":
            seen.text = f"{seen.text}\n{part.text}".strip()
    elif part.inline_data:
        seen.media.append(Media(part.inline_data.mime_type, part.inline_data.data))
    elif part.function_call:
        seen.calls.append(
            Call(part.function_call.id or "", part.function_call.name, json.dumps(part.function_call.args))
        )
    elif part.function_response:
        given = part.function_response
        seen.results.append(Result(given.id or "", json.dumps(given.response), given.name))
        for inner in given.parts or []:
            if inner.inline_data:
                seen.media.append(Media(inner.inline_data.mime_type, inner.inline_data.data))


# === replies ===


def headers():
    return {"server": "scaffolding on HTTPServer2", "x-gemini-service-tier": "standard"}


def usage_of(usage):
    text = usage.output - usage.reasoning
    out = {"promptTokenCount": usage.all_input}
    if usage.cache_read:
        out["cachedContentTokenCount"] = usage.cache_read
        out["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.cache_read}]
    out |= {
        "candidatesTokenCount": text,
        "totalTokenCount": usage.all_input + usage.output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.all_input}],
    }
    if usage.reasoning:
        out["thoughtsTokenCount"] = usage.reasoning
    return out | {"serviceTier": "standard"}


def part_of(block):
    match block:
        case Text():
            return {"text": block.text}
        case Thinking():
            return {"text": block.text, "thought": True}
        case Call():
            return {
                "functionCall": {"name": block.name, "args": json.loads(block.arguments), "id": f"fake{number():06}"}
            }


def parts_of(blocks, model):
    """The signature of a thought stands on the first part that is none. Gemini 3 signs the first call in any case."""
    parts, seal = [], None
    if model.startswith("gemini-3") and not any(isinstance(block, Thinking) for block in blocks):
        calls = [block for block in blocks if isinstance(block, Call)]
        sealed = calls[0] if calls else None
    else:
        sealed = None
    for block in blocks:
        if isinstance(block, Refusal):
            continue
        part = part_of(block)
        if isinstance(block, Thinking):
            seal = block.seal
        elif seal:
            part["thoughtSignature"], seal = seal, None
        if block is sealed:
            part["thoughtSignature"] = scenarios.SEALS[PROVIDER]
        parts.append(part)
    return parts


def reply(seen, head, parts, usage, finish=None):
    content = {"parts": parts, "role": "model"} if parts else {}
    candidate = {"content": content, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    if finish == "SAFETY":
        candidate["safetyRatings"] = [{"blocked": True, "category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH"}]
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": seen.model, "responseId": head}


def unary(request, seen, answer):
    if request.path.endswith(":countTokens"):
        return 200, headers(), compact({"totalTokens": 21})
    head = f"fake{number():020}"
    body = reply(seen, head, parts_of(answer.blocks, seen.model), usage_of(answer.usage), STOP[answer.stop])
    return 200, headers(), json.dumps(body, indent=2, ensure_ascii=False).encode()


def stream(request, seen, answer):
    chunks = replies(seen, answer)
    if request.query.get("alt") == "sse":
        frames = (b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\r\n\r\n" for chunk in chunks)
        return headers() | {"content-type": "text/event-stream"}, frames
    return headers() | {"content-type": "application/json; charset=UTF-8"}, array(chunks)


def array(chunks):
    for i, chunk in enumerate(chunks):
        yield (b"[" if i == 0 else b",\r\n") + json.dumps(chunk, ensure_ascii=False).encode()
    yield b"]"


def replies(seen, answer):
    head = f"fake{number():020}"
    usage = usage_of(answer.usage)
    early = {k: v for k, v in usage.items() if k != "candidatesTokenCount"}
    parts = parts_of(answer.blocks, seen.model)
    for block, part in zip([b for b in answer.blocks if not isinstance(b, Refusal)], parts, strict=True):
        texts = (block.pieces or pieces(block.text, 12)) if isinstance(block, Text) else [None]
        if isinstance(block, Thinking):
            texts = pieces(block.text, 20)
        for piece in texts:
            text = {} if piece is None else {"text": piece}
            yield reply(seen, head, [without_seal(part, block) | text], early)
        if answer.broken:
            yield json.loads(error(None, answer.broken)[2])
            return
        if isinstance(block, Text) and "thoughtSignature" in part:
            yield reply(seen, head, [{"text": "", "thoughtSignature": part["thoughtSignature"]}], early)
    last = [] if answer.stop == "refusal" else [{"text": ""}]
    yield reply(seen, head, last, usage, STOP[answer.stop])


def without_seal(part, block):
    """A text's signature comes in a part of its own, behind it; a call's stands on the call."""
    return {k: v for k, v in part.items() if k != "thoughtSignature"} if isinstance(block, Text) else part


def error(request, fault):
    status, name = STATUS[fault.kind]
    message = fault.message
    if fault.kind == "context":
        message = "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)."
    body = {"error": {"code": status, "message": message, "status": name}}
    if fault.retry_after:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        body["error"]["details"] = [{"@type": kind, "retryDelay": f"{fault.retry_after}s"}]
    return status, headers(), compact(body)
