"""Bedrock's Converse and ConverseStream. Forms and the order of events from recorded exchanges: unary bedrock.converse-042 (reasoning), -011
(parallel calls), -026 (cache), streams bedrock.converse-stream-004 (a text block has no start event, a call has one), -024, -006, errors
bedrock.converse-001, -010 and the reconstructed bedrock-429-09. The signature of every request is computed anew and compared."""

import base64
import binascii
import hashlib
import json
import re
import struct
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session
import botocore.validate

from .words import Call, Media, Refusal, Refused, Result, Seen, Text, Thinking, compact, decode64, number, pieces

PROVIDER = "bedrock"
PATHS = [re.compile(r"/model/([^/]+)/(converse|converse-stream)")]

ACCESS_KEY = "AKIAFAKEFAKEFAKEFAKE"
SECRET_KEY = "fake/secret+key/of/the/client/tests/0000"
REGION = "us-east-1"
STATUS = {
    "rate_limit": (429, "ThrottlingException"),
    "overloaded": (503, "ServiceUnavailableException"),
    "internal": (500, "InternalServerException"),
    "context": (400, "ValidationException"),
    "auth": (403, "UnrecognizedClientException"),
    "invalid": (400, "ValidationException"),
}
STOP = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "content_filtered"}
FORMATS = {"pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "html": "text/html", "csv": "text/csv"}

SERVICE = botocore.session.Session().get_service_model("bedrock-runtime")

# === requests ===


def read(request):
    check_signature(request)
    model, method = PATHS[0].fullmatch(request.path).groups()
    operation = SERVICE.operation_model("Converse" if method == "converse" else "ConverseStream")
    body = request.json()
    if "modelId" in body:
        raise Refused("modelId: belongs into the path")
    raw = with_bytes(body, operation.input_shape, "$")
    report = botocore.validate.ParamValidator().validate(
        raw | {"modelId": urllib.parse.unquote(model)}, operation.input_shape
    )
    if report.has_errors():
        raise Refused(report.generate_report())
    check_rules(raw)
    return seen_in(raw, urllib.parse.unquote(model), method == "converse-stream")


def check_signature(request):
    """Signature version 4, by botocore's own signer on what arrived."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/bedrock/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})",
        request.headers.get("authorization", ""),
    )
    if not found:
        raise Refused(f"authorization is no AWS4-HMAC-SHA256: {request.headers.get('authorization', '')[:60]!r}")
    key, day, region, names, signature = found.groups()
    stamp = request.headers.get("x-amz-date", "")
    if key != ACCESS_KEY or region != REGION or not stamp.startswith(day):
        raise Refused(f"signed by {key} for {region} at {stamp!r}, day {day}")
    signed = names.split(";")
    if "host" not in signed or "x-amz-date" not in signed:
        raise Refused(f"host and x-amz-date must be signed, not only {signed}")
    digest = request.headers.get("x-amz-content-sha256")
    if digest not in (None, "UNSIGNED-PAYLOAD", hashlib.sha256(request.body).hexdigest()):
        raise Refused("x-amz-content-sha256 is not the body's")
    whole = botocore.awsrequest.AWSRequest(
        "POST",
        f"http://{request.headers['host']}{request.raw_path}",
        {n: request.headers[n] for n in signed},
        request.body,
    )
    whole.context["timestamp"] = stamp
    signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY), "bedrock", REGION)
    text = signer.canonical_request(whole)
    if signer.signature(signer.string_to_sign(whole, text), whole) != signature:
        raise Refused(f"the signature does not match. Canonical request:\n{text}")


def with_bytes(value, shape, at):
    """Blobs are base64 on the wire; botocore's validator wants bytes."""
    match shape.type_name:
        case "structure" if isinstance(value, dict) and not getattr(shape, "is_document_type", False):
            return {
                name: with_bytes(member, shape.members[name], f"{at}.{name}") if name in shape.members else member
                for name, member in value.items()
            }
        case "list" if isinstance(value, list):
            return [with_bytes(member, shape.member, f"{at}[{i}]") for i, member in enumerate(value)]
        case "blob":
            if not isinstance(value, str):
                raise Refused(f"{at}: a blob is a string in base64")
            return decode64(value, at)
    return value


def check_rules(body):
    """What the service refuses beyond its shapes."""
    messages = body.get("messages", [])
    if not messages or messages[0]["role"] != "user":
        raise Refused(
            "A conversation must start with a user message. Try again with a conversation that starts with a user message."
        )
    has_tools = "toolConfig" in body
    names, waiting = [], []
    for i, message in enumerate(messages):
        if i and messages[i - 1]["role"] == message["role"]:
            raise Refused("A conversation must alternate between user and assistant roles.")
        if not message["content"]:
            raise Refused(f"The content field in the Message object at messages.{i} is empty.")
        for block in message["content"]:
            if len(block) != 1:
                raise Refused(f"messages.{i}: a content block has one member, not {sorted(block)}")
            if "text" in block and not block["text"]:
                raise Refused(f"The text field in the ContentBlock object at messages.{i}.content is blank.")
            if "document" in block:
                check_document(block["document"], names, message["content"])
            if not has_tools and ("toolUse" in block or "toolResult" in block):
                raise Refused("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
        given = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        if sorted(given) != sorted(waiting):
            raise Refused(f"messages.{i}: toolResult ids {given} are not the toolUse ids of the turn before: {waiting}")
        waiting = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
    for tool in body.get("toolConfig", {}).get("tools", []):
        schema = tool.get("toolSpec", {}).get("inputSchema", {}).get("json", {"type": "object"})
        if schema.get("type") != "object":
            raise Refused("The value at toolConfig.tools.toolSpec.inputSchema.json.type must be one of: object.")
    thinking = body.get("additionalModelRequestFields", {}).get("thinking", {})
    if thinking.get("type") == "enabled":
        limit = body.get("inferenceConfig", {}).get("maxTokens", 1 << 30)
        if thinking.get("budget_tokens", 0) < 1024 or limit <= thinking["budget_tokens"]:
            raise Refused("`max_tokens` must be greater than `thinking.budget_tokens`, which is 1024 or more")
        if body.get("inferenceConfig", {}).get("temperature", 1) != 1:
            raise Refused("`temperature` may only be set to 1 when thinking is enabled.")


def check_document(document, names, content):
    name = document["name"]
    if not re.fullmatch(r"[A-Za-z0-9_\s()\[\]-]+", name) or re.search(r"\s\s", name):
        raise Refused(
            f"The document file name {name!r} can only contain alphanumeric characters, whitespace, hyphens, () and []."
        )
    if name in names:
        raise Refused("duplicate document names")
    names.append(name)
    if not any("text" in block for block in content):
        raise Refused("A text block is required when a document is sent")


def seen_in(body, model, stream):
    seen = Seen(model=model, stream=stream)
    seen.system = "\n".join(block["text"] for block in body.get("system", []) if "text" in block)
    prompt = [seen.system]
    specs = [tool["toolSpec"] for tool in body.get("toolConfig", {}).get("tools", []) if "toolSpec" in tool]
    seen.tools = [spec["name"] for spec in specs]
    choice = body.get("toolConfig", {}).get("toolChoice", {})
    seen.forced = "*" if "any" in choice else choice.get("tool", {}).get("name")
    seen.parameters = next((s["inputSchema"]["json"] for s in specs if seen.forced in ("*", s["name"])), {})
    form = body.get("outputConfig", {}).get("textFormat", {})
    if form.get("type") == "json_schema":
        seen.schema = json.loads(form["structure"]["jsonSchema"]["schema"])
    more = body.get("additionalModelRequestFields", {})
    seen.thinking = more.get("thinking", {}).get("type") in ("enabled", "adaptive") or bool(
        more.get("reasoning_config") or more.get("reasoningConfig") or more.get("reasoning_effort")
    )
    for message in body["messages"]:
        if message["role"] == "user":
            seen.text, seen.results = "", []
        for block in message["content"]:
            read_block(seen, block, prompt)
    seen.prompt = "\n".join(prompt)
    return seen


def read_block(seen, block, prompt):
    if "text" in block:
        prompt.append(block["text"])
        seen.text = f"{seen.text}\n{block['text']}".strip()
    elif "image" in block:
        seen.media.append(Media(f"image/{block['image']['format']}", block["image"]["source"].get("bytes", b"")))
    elif "document" in block:
        kind = block["document"].get("format", "txt")
        seen.media.append(Media(FORMATS.get(kind, kind), block["document"]["source"].get("bytes", b"")))
    elif "toolUse" in block:
        call = block["toolUse"]
        seen.calls.append(Call(call["toolUseId"], call["name"], json.dumps(call["input"])))
    elif "toolResult" in block:
        result = block["toolResult"]
        texts = []
        for part in result["content"]:
            if "image" in part or "document" in part:
                read_block(seen, part, [])
            elif "text" in part or "json" in part:
                texts.append(part["text"] if "text" in part else json.dumps(part["json"]))
        seen.results.append(Result(result["toolUseId"], "".join(texts), failed=result.get("status") == "error"))
    elif "reasoningContent" in block:
        thought = block["reasoningContent"]
        if "redactedContent" in thought:
            seen.seals.append(base64.b64encode(thought["redactedContent"]).decode())
        else:
            seen.seals.append(thought["reasoningText"].get("signature"))
            seen.thoughts.append(thought["reasoningText"]["text"])


# === replies ===


def headers():
    return {"x-amzn-requestid": f"{number():08x}-fake-4000-8000-000000000000"}


def usage_of(usage):
    out = {
        "inputTokens": usage.input,
        "outputTokens": usage.output,
        "totalTokens": usage.all_input + usage.output,
        "cacheReadInputTokens": usage.cache_read,
        "cacheReadInputTokenCount": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write,
        "cacheWriteInputTokenCount": usage.cache_write,
        "serverToolUsage": {},
    }
    if usage.cache_write:
        details = [("5m", usage.cache_write_5m), ("1h", usage.cache_write_1h)]
        out["cacheDetails"] = [{"inputTokens": tokens, "ttl": ttl} for ttl, tokens in details if tokens]
    return out


def block_of(block):
    match block:
        case Text() | Refusal():
            return {"text": block.text}
        case Thinking(redacted=True):
            return {"reasoningContent": {"redactedContent": block.seal}}
        case Thinking():
            return {"reasoningContent": {"reasoningText": {"signature": block.seal, "text": block.text}}}
        case Call():
            name = {"name": block.name, "toolUseId": f"tooluse_fake{number():018}"}
            return {"toolUse": {"input": json.loads(block.arguments)} | name}


def unary(request, seen, answer):
    body = {
        "metrics": {"latencyMs": 12},
        "output": {"message": {"content": [block_of(block) for block in answer.blocks], "role": "assistant"}},
        "stopReason": STOP[answer.stop],
        "usage": usage_of(answer.usage),
    }
    return 200, headers(), compact(body)


def message(heads, payload):
    """One message of `application/vnd.amazon.eventstream`: lengths, their CRC, headers of type string, payload, CRC of all."""
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in heads.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    prelude += struct.pack("!I", binascii.crc32(prelude))
    body = prelude + head + payload
    return body + struct.pack("!I", binascii.crc32(body))


def event(kind, payload):
    # "p" is padding of no meaning
    payload = {**payload, "p": "abcdefghijklmnopqrstuvwxyz"[: 5 + number() % 20]}
    heads = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return message(heads, compact(payload))


def exception(fault):
    name = {"overloaded": "serviceUnavailableException", "rate_limit": "throttlingException"}[fault.kind]
    heads = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return message(heads, compact({"message": fault.message}))


def stream(request, seen, answer):
    return headers() | {"content-type": "application/vnd.amazon.eventstream"}, frames(answer)


def frames(answer):
    yield event("messageStart", {"role": "assistant"})
    for index, block in enumerate(answer.blocks):
        here = {"contentBlockIndex": index}
        deltas = []
        match block:
            case Text() | Refusal():
                deltas = [{"text": piece} for piece in getattr(block, "pieces", None) or pieces(block.text)]
            case Thinking(redacted=True):
                deltas = [{"reasoningContent": {"redactedContent": block.seal}}]
            case Thinking():
                deltas = [{"reasoningContent": {"text": piece}} for piece in pieces(block.text)]
                deltas.append({"reasoningContent": {"signature": block.seal}})
            case Call():
                start = {k: v for k, v in block_of(block)["toolUse"].items() if k != "input"}
                yield event("contentBlockStart", here | {"start": {"toolUse": start}})
                parts = pieces(block.arguments, 5) if block.arguments != "{}" else []
                deltas = [{"toolUse": {"input": piece}} for piece in ["", *parts]]
        for delta in deltas:
            yield event("contentBlockDelta", here | {"delta": delta})
        if answer.broken:
            yield exception(answer.broken)
            return
        yield event("contentBlockStop", here)
    yield event("messageStop", {"stopReason": STOP[answer.stop]})
    yield event("metadata", {"metrics": {"latencyMs": 12}, "usage": usage_of(answer.usage)})


def error(request, fault):
    status, name = STATUS[fault.kind]
    message = fault.message
    if fault.kind == "context":
        message = "The model returned the following errors: Input is too long for requested model."
    extra = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    return status, headers() | extra, compact({"message": message})
