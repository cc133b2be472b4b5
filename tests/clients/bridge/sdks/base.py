"""What a test asks and what it gets, in words no SDK has."""

import dataclasses
import json

import pydantic


class Event(pydantic.BaseModel):
    """What structured output is asked to be."""

    model_config = pydantic.ConfigDict(extra="forbid")

    name: str
    day: int
    guests: list[str]


PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "The city's name."},
        "days": {"type": "integer", "description": "How many days ahead."},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
DESCRIPTION = "The weather in a city."


@dataclasses.dataclass
class File:
    media_type: str
    data: bytes
    name: str


@dataclasses.dataclass
class Ask:
    """The first turn of a conversation."""

    text: str = "Say hello."
    system: str | None = None
    tools: bool = False
    forced: bool = False
    files: list = dataclasses.field(default_factory=list)
    schema: bool = False
    thinking: bool = False
    stop: list | None = None
    max_tokens: int = 4096
    # members of the dialect's own, put into the request as they are
    more: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Call:
    id: str
    name: str
    arguments: dict


@dataclasses.dataclass
class Told:
    """One answer."""

    text: str = ""
    calls: list = dataclasses.field(default_factory=list)
    thoughts: str = ""
    # end | tools | length | refusal
    stop: str = ""
    refusal: str = ""
    # input includes cached tokens
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    headers: dict = dataclasses.field(default_factory=dict)
    # how many pieces a stream came in
    pieces: int = 0
    # seconds from the first piece of text to the last
    spread: float = 0


class Sdk:
    """One SDK at one address. `open` begins a conversation, which goes on by itself."""

    # the dialect it speaks, by the names of the fakes
    dialect = ""
    # of its exception classes: rate limit, server error, bad request, any
    rate_limit = server_error = bad_request = any_error = Exception

    def __init__(self, url, key):
        raise NotImplementedError

    def open(self, model, ask, stream):
        raise NotImplementedError

    def status(self, error):
        return error.status_code

    def strict_stream(self, url, key, model, ask):
        """The events of a stream as they are on the wire, each checked against the SDK's types."""
        raise NotImplementedError


class Conversation:
    """`told` is the last answer; `results` sends what the tools said, in the order of the calls."""

    told: Told

    def results(self, texts):
        raise NotImplementedError


def object_of(text):
    value = json.loads(text)
    assert isinstance(value, dict), text
    return value
