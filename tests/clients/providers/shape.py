"""Is a JSON value what an SDK's type says, and nothing more? Owns the comparison; the types are the SDKs' own.

pydantic's TypeAdapter will not do: it skips unknown members of a TypedDict and checks an `Iterable[..]` only when somebody iterates.
"""

import datetime
import functools
import types
import typing

import pydantic
import typing_extensions

UNIONS = (typing.Union, types.UnionType)


def faults(value, hint, at="$"):
    """What is wrong with `value`, as lines that begin with its path. An empty list: nothing."""
    hint = plain(hint)
    origin = typing.get_origin(hint)
    if hint in (typing.Any, object):
        return []
    if hint is None or hint is type(None):
        return [] if value is None else [f"{at}: not null"]
    if origin in UNIONS:
        return union(value, hint, at)
    if origin is typing.Literal:
        known = value in typing.get_args(hint) and not isinstance(value, (dict, list))
        return [] if known else [f"{at}: {value!r} is none of {typing.get_args(hint)}"]
    if typing_extensions.is_typeddict(hint):
        return struct(value, *typed_dict(hint), at)
    if isinstance(hint, type) and issubclass(hint, pydantic.BaseModel):
        return struct(value, *model(hint), at)
    if hint is dict or origin is not None and isinstance(origin, type) and issubclass(origin, typing.Mapping):
        if not isinstance(value, dict):
            return [f"{at}: not an object"]
        inner = (typing.get_args(hint) or (str, object))[1]
        return [fault for name, member in value.items() for fault in faults(member, inner, f"{at}.{name}")]
    if hint is list or origin is not None and isinstance(origin, type) and issubclass(origin, typing.Iterable):
        if not isinstance(value, list):
            return [f"{at}: not an array"]
        inner = (typing.get_args(hint) or (object,))[0]
        return [fault for i, member in enumerate(value) for fault in faults(member, inner, f"{at}[{i}]")]
    return scalar(value, hint, at)


def scalar(value, hint, at):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float:
        return [] if number else [f"{at}: not a number"]
    if hint is int:
        return [] if number and value == int(value) else [f"{at}: not an integer"]
    if hint in (datetime.datetime, bytes) or not isinstance(hint, type):
        return [] if isinstance(value, str) else [f"{at}: not a string"]
    if hint in (str, bool):
        return [] if isinstance(value, hint) else [f"{at}: {value!r} is not a {hint.__name__}"]
    if hasattr(hint, "__members__"):  # an enum
        known = [member.value for member in hint]
        return [] if value in known else [f"{at}: {value!r} is none of {known}"]
    return [f"{at}: {value!r} is not a {hint.__name__}"]


def union(value, hint, at):
    """Of several kinds of object the one is meant whose literal members (`type`, `role`) agree."""
    kinds = alternatives(hint)
    if any(typing_extensions.is_typeddict(kind) for kind in kinds):
        # the SDKs take their own reply objects too; on the wire those look like the dictionaries, or are wrong
        kinds = [kind for kind in kinds if not (isinstance(kind, type) and issubclass(kind, pydantic.BaseModel))]
    best = None
    for kind in kinds:
        found = faults(value, kind, at)
        if not found:
            return []
        rank = (not meant(value, kind), len(found))
        if best is None or rank < best[0]:
            best = (rank, found)
    return best[1]


def alternatives(hint):
    """All of them, those of unions inside of unions too."""
    kinds = (plain(kind) for kind in typing.get_args(hint))
    return [k for kind in kinds for k in (alternatives(kind) if typing.get_origin(kind) in UNIONS else [kind])]


def meant(value, kind):
    if not isinstance(value, dict):
        return isinstance(value, list) and typing.get_origin(kind) is not None and typing.get_origin(kind) not in UNIONS
    if typing_extensions.is_typeddict(kind):
        members = typed_dict(kind)[0]
    elif isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        members = model(kind)[0]
    else:
        return False
    tags = {n: typing.get_args(h) for n, h in members.items() if typing.get_origin(h) is typing.Literal and n in value}
    return bool(tags) and all(value[name] in known for name, known in tags.items())


def struct(value, members, required, is_open, at):
    if not isinstance(value, dict):
        return [f"{at}: not an object"]
    out = [f"{at}.{name}: missing" for name in sorted(required - value.keys())]
    for name, member in value.items():
        if name in members:
            out += faults(member, members[name], f"{at}.{name}")
        elif not is_open:
            out.append(f"{at}.{name}: unknown member")
    return out


@functools.cache
def typed_dict(hint):
    hints = typing.get_type_hints(hint, include_extras=True)
    members, names = {}, {}
    for name, kind in hints.items():
        wire = next((a for a in (getattr(m, "alias", None) for m in marks(kind)) if a), name)
        members[wire], names[name] = plain(kind), wire
    # of annotations that are strings, `__required_keys__` does not see the marks
    marked = {name: typing.get_origin(kind) for name, kind in hints.items()}
    required = {
        wire
        for name, wire in names.items()
        if marked[name] in (typing.Required, typing_extensions.Required)
        or name in hint.__required_keys__
        and marked[name] not in (typing.NotRequired, typing_extensions.NotRequired)
    }
    extra = getattr(hint, "__extra_items__", None)
    return members, required, extra not in (None, typing_extensions.NoExtraItems, typing_extensions.Never)


@functools.cache
def model(hint):
    members, required = {}, set()
    for name, field in hint.model_fields.items():
        wire = field.alias or next((a for a in (getattr(m, "alias", None) for m in field.metadata) if a), name)
        members[wire] = plain(field.annotation)
        if field.is_required():
            required.add(wire)
    return members, required, False


def marks(hint):
    while typing.get_origin(hint) in (typing_extensions.Required, typing_extensions.NotRequired, typing.Required):
        hint = typing.get_args(hint)[0]
    return typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()


def plain(hint):
    """Without `Annotated`, `Required`, aliases."""
    wrappers = (
        typing.Annotated,
        typing.Required,
        typing.NotRequired,
        typing_extensions.Required,
        typing_extensions.NotRequired,
    )
    while True:
        if typing.get_origin(hint) in wrappers:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing_extensions.TypeAliasType):
            hint = hint.__value__
        else:
            return hint
