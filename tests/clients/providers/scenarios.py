"""What each scenario answers, whatever the provider. The scenario is the part of the model's name behind the last `--`
(`claude-sonnet-4-5--tools`), or the whole name.

A request that is not what its scenario is about (no tools in `tools`, a signature that did not come back in `thinking`) is
refused like an invalid one: the reason stands in the record and in the error the client sees.
"""

import base64
import json
import re

from .words import Answer, Call, Fault, Refusal, Refused, Text, Thinking, Usage

PARIS = '{"city":"Paris","days":2}'
ROME = '{"city":"Rome","days":3}'
THOUGHT = "The user wants the weather. I have a tool for that."
UNICODE = "Grüße 東京 👩‍👩‍👧‍👦 é 𝔘𝔫𝔦 مرحبا \u2028 “q” \\n \u0000.".replace("\u0000", "\t")
CACHED = Usage(input=10, output=7, cache_read=100, cache_write_5m=30, cache_write_1h=20)


def name_of(model):
    return model.rsplit("--", 1)[-1].rsplit("/", 1)[-1]


def answer(seen, provider):
    """An `Answer` or a `Fault`."""
    scenario = name_of(seen.model)
    play = PLAYS.get(scenario)
    if play is None:
        raise Refused(f"model: the fake has no scenario {scenario!r}")
    return play(seen, provider)


# === plays ===


def text(seen, provider):
    system = f" [system: {seen.system}]" if seen.system else ""
    return Answer([Text(f"Hello from {provider}: {seen.text}{system}")])


def tools(seen, provider):
    if seen.results:
        return told(seen, 1)
    need_tool(seen)
    return Answer([Text("I will look."), Call("", "get_weather", PARIS)], "tools")


def parallel(seen, provider):
    if seen.results:
        return told(seen, 2)
    need_tool(seen)
    return Answer([Call("", "get_weather", PARIS), Call("", "get_weather", ROME)], "tools")


def noargs(seen, provider):
    if seen.results:
        return told(seen, 1)
    return Answer([Call("", seen.tools[0] if seen.tools else "none", "{}")], "tools")


def thinking(seen, provider):
    if not seen.thinking:
        raise Refused("thinking was not asked for")
    usage = Usage(reasoning=6)
    if seen.results:
        if provider in SEALING and SEALS[provider] not in seen.seals:
            raise Refused(f"the signature did not come back; these did: {seen.seals}")
        # Anthropic's signs the words; Google's and OpenAI's hold them
        if provider in ("anthropic", "bedrock") and THOUGHT not in seen.thoughts:
            raise Refused(f"the signature came back without its words: {seen.thoughts}")
        # only cohere and some chat vendors let thoughts come back unsigned, and none demands it
        out = told(seen, 1)
        out.blocks.insert(0, Thinking("Now I know.", SEALS.get(provider)))
        out.usage = usage
        return out
    if seen.tools:
        return Answer([Thinking(THOUGHT, SEALS.get(provider)), Call("", "get_weather", PARIS)], "tools", usage)
    return Answer([Thinking(THOUGHT, SEALS.get(provider)), Text("Thought and said.")], usage=usage)


def redacted(seen, provider):
    if not seen.thinking:
        raise Refused("thinking was not asked for")
    if seen.results:
        if REDACTED not in seen.seals:
            raise Refused(f"the redacted thought did not come back; these did: {seen.seals}")
        return told(seen, 1)
    need_tool(seen)
    return Answer([Thinking("", REDACTED, redacted=True), Call("", "get_weather", PARIS)], "tools")


def vision(seen, provider):
    if not seen.media:
        raise Refused("no image and no document arrived")
    return Answer([Text("\n".join(media.line() for media in seen.media))])


def schema(seen, provider):
    if seen.schema:
        return Answer([Text(json.dumps(example(seen.schema)))])
    if seen.forced:
        name = seen.tools[0] if seen.forced == "*" else seen.forced
        return Answer([Call("", name, json.dumps(example(seen.parameters)))], "tools")
    if seen.schema == {} or "guests" in seen.prompt:
        return Answer([Text(json.dumps(EVENT))])
    raise Refused("structured output was asked for in no form: neither natively, nor by a forced tool, nor in words")


def cache(seen, provider):
    return Answer([Text("Some of it was cached.")], usage=CACHED)


def refusal(seen, provider):
    return Answer([Refusal("I cannot help with that.")], "refusal")


def length(seen, provider):
    return Answer([Text("This sentence has no")], "length")


def unicode(seen, provider):
    return Answer([Text(UNICODE, pieces=list(UNICODE))], bytewise=True)


def slow(seen, provider):
    return Answer([Text("one two three four five", pieces=["one ", "two ", "three ", "four ", "five"])], pause=0.2)


def error_stream(seen, provider):
    fault = Fault("overloaded", "The provider fell over in the middle.")
    if not seen.stream:
        return fault
    return Answer([Text("This is only the beginning")], broken=fault)


def error_first(seen, provider):
    """A stream that begins, and has nothing to say but this."""
    fault = Fault("overloaded", "The provider fell over at once.")
    return Answer([], broken=fault) if seen.stream else fault


def agent(seen, provider):
    """One turn of a command-line agent: its own tool reads the file named in the prompt, then the result is told."""
    thoughts = [Thinking("The user names a file.", SEALS.get(provider))] if seen.thinking else []
    if seen.results:
        if thoughts and provider in SEALING and SEALS[provider] not in seen.seals:
            raise Refused(f"the signature did not come back; these did: {seen.seals}")
        return Answer(
            [*thoughts, Text("The file says: " + " / ".join(words_of(result.text) for result in seen.results))]
        )
    found = re.search(r"/\S+?\.txt", seen.text)
    call = found and agent_call(seen.tools, found.group())
    # agents ask for more than the conversation (titles, topics): those get any text
    return Answer([*thoughts, Text("Let me look."), call], "tools") if call else Answer([Text("Reading a file")])


def agent_call(names, file):
    shapes = {
        "Bash": {"command": f"cat {file}", "description": "Show the file"},
        "exec_command": {"cmd": f"cat {file}"},
        "shell_command": {"command": f"cat {file}"},
        "shell": {"command": ["cat", file]},
        "local_shell": {"command": ["cat", file]},
    }
    for name, arguments in shapes.items():
        if name in names:
            return Call("", name, json.dumps(arguments))
    return None


# === what the plays share ===


def told(seen, wanted):
    if len(seen.results) != wanted:
        raise Refused(f"{len(seen.results)} tool results, not {wanted}")
    return Answer([Text("The tool said: " + " | ".join(words_of(result.text) for result in seen.results))])


def words_of(text):
    """A result read as a model would: Google's are objects whose members are the caller's choice, and stay that on their way."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    for name in ("output", "result", "content", "error"):
        if isinstance(value, dict) and isinstance(value.get(name), str):
            return value[name]
    return text


def need_tool(seen):
    if "get_weather" not in seen.tools:
        raise Refused(f"the tool get_weather did not arrive, but {seen.tools}")


EVENT = {"name": "Launch", "day": 12, "guests": ["Ada", "Grace"]}


def example(schema):
    """A value that follows a schema; well-known members have well-known values."""
    if "$ref" in schema or "anyOf" in schema:
        raise Refused("schema: the fake reads no references and no alternatives")
    kind = str(schema.get("type", "object")).lower()
    if kind == "object":
        return {
            name: EVENT.get(name, example(member)) if name != "guests" else EVENT["guests"]
            for name, member in schema.get("properties", {}).items()
        }
    return {"array": [], "string": "text", "integer": 1, "number": 1.5, "boolean": True}.get(kind)


# Signatures as long as real ones are not needed; the alphabets are: standard base64 at Anthropic and Google, URL-safe at OpenAI.
SEALS = {
    "anthropic": base64.b64encode(b"\x12\xa4\x01\nH\x08\x01 a fake signature of Anthropic's \xfb\xef\xff").decode(),
    "bedrock": base64.b64encode(b"\x12\xc8\x04\nd\x08\x0f a fake signature of Claude at Bedrock \xfb\xef\xff").decode(),
    "gemini": base64.b64encode(b"\n\"\x01\xbe>\xf6\xfb a fake signature of Gemini's \xfb\xef\xff\xfe").decode(),
    "responses": base64.urlsafe_b64encode(
        b"\x80\x00\x00\x00\x00 fake encrypted reasoning of OpenAI's \xfb\xef\xff"
    ).decode(),
}
SEALING = frozenset(SEALS)
REDACTED = base64.b64encode(b"\x12\x8c\x07\nF\x08\t a fake hidden thought \xfb\xef\xff").decode()


def failing(kind, message, retry_after=None):
    return lambda seen, provider: Fault(kind, message, retry_after)


PLAYS = {
    "text": text,
    "tools": tools,
    "parallel": parallel,
    "noargs": noargs,
    "thinking": thinking,
    "redacted": redacted,
    "vision": vision,
    "schema": schema,
    "cache": cache,
    "refusal": refusal,
    "length": length,
    "unicode": unicode,
    "slow": slow,
    "agent": agent,
    "error_429": failing("rate_limit", "Too many requests for today.", 7),
    "error_500": failing("internal", "Something broke inside."),
    "error_529": failing("overloaded", "We are overloaded."),
    "error_503": failing("overloaded", "We are overloaded."),
    "error_401": failing("auth", "The key sk-upstream-secret-0000 is not valid."),
    "error_context": failing("context", "too long"),
    "error_stream": error_stream,
    "error_first": error_first,
}
