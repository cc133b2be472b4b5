"""What the fakes say to each other: what was seen in a request, what is to be answered. No wire format."""

import base64
import dataclasses
import hashlib
import itertools
import json

# === what a request says ===


@dataclasses.dataclass
class Call:
    id: str
    name: str
    arguments: str = "{}"


@dataclasses.dataclass
class Result:
    """A tool's result in the last turn."""

    id: str
    text: str
    name: str = ""
    failed: bool = False


@dataclasses.dataclass
class Media:
    media_type: str
    data: bytes

    def line(self):
        return f"{self.media_type} sha256={hashlib.sha256(self.data).hexdigest()}"


@dataclasses.dataclass
class Seen:
    """A request, read in its native form."""

    model: str
    stream: bool = False
    system: str = ""
    # of the last turn of the user
    text: str = ""
    # all texts of the request, schemas in words included
    prompt: str = ""
    tools: list = dataclasses.field(default_factory=list)
    # a tool that must be called; "*" is any of them
    forced: str | None = None
    # schema of a forced or only tool
    parameters: dict = dataclasses.field(default_factory=dict)
    # native structured output; {} is "some JSON object"
    schema: dict | None = None
    thinking: bool = False
    calls: list = dataclasses.field(default_factory=list)
    results: list = dataclasses.field(default_factory=list)
    media: list = dataclasses.field(default_factory=list)
    # signatures that came back, in order
    seals: list = dataclasses.field(default_factory=list)
    # thoughts that came back
    thoughts: list = dataclasses.field(default_factory=list)
    include_usage: bool = True

    def told(self):
        """As JSON, for the record."""
        out = dataclasses.asdict(self)
        out["media"] = [media.line() for media in self.media]
        out["calls"] = [{"name": call.name, "arguments": json.loads(call.arguments or "{}")} for call in self.calls]
        return out


# === what is answered ===


@dataclasses.dataclass
class Text:
    text: str
    pieces: list | None = None
    seal: str | None = None


@dataclasses.dataclass
class Thinking:
    text: str
    seal: str | None = None
    redacted: bool = False


@dataclasses.dataclass
class Refusal:
    text: str


@dataclasses.dataclass
class Usage:
    """`input` without cached tokens, as Anthropic counts."""

    input: int = 20
    output: int = 10
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    @property
    def all_input(self):
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def cache_write(self):
        return self.cache_write_5m + self.cache_write_1h


@dataclasses.dataclass
class Fault:
    """An error, by its kind; each dialect has its own status and words for it."""

    kind: str  # rate_limit | overloaded | internal | context | auth | invalid
    message: str
    retry_after: int | None = None


@dataclasses.dataclass
class Answer:
    blocks: list
    stop: str = "end"  # end | tools | length | refusal
    usage: Usage = dataclasses.field(default_factory=Usage)
    # said in band after the blocks, instead of an end
    broken: Fault | None = None
    # seconds between two frames
    pause: float = 0
    # every byte is written by itself
    bytewise: bool = False


class Refused(Exception):
    """The request is not one this provider would take; or it is not what the scenario is about."""


# === small things ===

_numbers = itertools.count(1)


def number():
    """A number nobody had before, for ids."""
    return next(_numbers)


def pieces(text, size=7):
    return [text[i : i + size] for i in range(0, len(text), size)] or [""]


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def decode64(text, at):
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Refused(f"{at}: not base64: {error}") from None


def parse_object(text, at):
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Refused(f"{at}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused(f"{at}: not a JSON object")
    return value
