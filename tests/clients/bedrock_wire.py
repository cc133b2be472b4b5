"""Checks what we write for Bedrock against botocore, AWS's own client.

    bedrock_wire.py requests < requests.jsonl    each line {"modelId": .., "body": ..}: a body of Converse
    bedrock_wire.py events < stream              bytes of an event stream, as ConverseStream sends them

Bodies are validated against the Converse input shape of the installed service model: names, types, required members,
lengths and ranges by botocore's own validator; patterns and enums, which that leaves to the service, by this script.
Members that the model does not know are faults too: the validator would pass them by, the client would drop them.
Streams go through botocore's buffer (every checksum) and its parser of ConverseStream's output; a parsed event is
printed a line. Ends with status 1 when anything is wrong.
"""

import base64
import binascii
import json
import re
import sys

import botocore.session
from botocore.eventstream import EventStreamBuffer
from botocore.parsers import EventStreamJSONParser
from botocore.validate import ParamValidator


def service_model():
    return botocore.session.Session().get_service_model("bedrock-runtime")


def bring(value, shape, path, faults):
    """The value as the client's caller would give it (blobs as bytes), with the faults that botocore does not look for."""
    kind = shape.type_name
    if kind == "structure":
        if getattr(shape, "is_document_type", False):
            return value
        if not isinstance(value, dict):
            return value
        if getattr(shape, "is_tagged_union", False) and len(value) != 1:
            faults.append(f"{path}: a union of {len(value)} members")
        known = shape.members
        for name in value:
            if name not in known:
                faults.append(f"{path}.{name}: no such member")
        return {n: bring(v, known[n], f"{path}.{n}", faults) for n, v in value.items() if n in known}
    if kind == "list" and isinstance(value, list):
        return [bring(v, shape.member, f"{path}[{i}]", faults) for i, v in enumerate(value)]
    if kind == "map" and isinstance(value, dict):
        for key in value:
            bring(key, shape.key, f"{path} key", faults)
        return {k: bring(v, shape.value, f"{path}.{k}", faults) for k, v in value.items()}
    if kind == "blob" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            faults.append(f"{path}: not base64")
            return b"?"
    if kind == "string" and isinstance(value, str):
        if shape.enum and value not in shape.enum:
            faults.append(f"{path}: {value!r} is none of {shape.enum}")
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, value):
            faults.append(f"{path}: {value!r} does not match {pattern}")
    return value


def check_requests():
    shape = service_model().operation_model("Converse").input_shape
    validator = ParamValidator()
    count = bad = 0
    for line in sys.stdin:
        item = json.loads(line)
        faults = []
        params = bring({"modelId": item["modelId"], **item["body"]}, shape, "", faults)
        report = validator.validate(params, shape)
        if report.has_errors():
            faults.append(report.generate_report())
        count += 1
        if faults:
            bad += 1
            print("\n".join(faults), "\n  in", line[:2000], file=sys.stderr)
    print(f"{count} bodies, {bad} wrong")
    return bad == 0 and count > 0


def check_events():
    output = service_model().operation_model("ConverseStream").output_shape.members["stream"]
    parser = EventStreamJSONParser()
    buffer = EventStreamBuffer()
    buffer.add_data(sys.stdin.buffer.read())
    count = 0
    for message in buffer:
        event = parser.parse(message.to_response_dict(), output)
        if not event:
            print("an event that the model does not know:", message.headers, file=sys.stderr)
            return False
        print(json.dumps(event, default=lambda data: base64.b64encode(data).decode(), ensure_ascii=False))
        count += 1
    print(f"{count} events", file=sys.stderr)
    return count > 0


if __name__ == "__main__":
    checks = {"requests": check_requests, "events": check_events}
    sys.exit(0 if checks[sys.argv[1]]() else 1)
