"""Writes the properties of the public request types, one object a line, names only.

    pip install openai anthropic && python3 extract.py > extract.txt

A list is `[]`, a map `.*`; where an object is one of several, the words that tell it apart stand in braces. A type within
itself is followed once.
"""

import importlib
import importlib.metadata
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import types as builtin

import typing_extensions
from typing_extensions import NotRequired, Required, is_typeddict

APIS = [
    ("chat", "openai.types.chat.completion_create_params", "CompletionCreateParams"),
    ("completions", "openai.types.completion_create_params", "CompletionCreateParams"),
    ("responses", "openai.types.responses.response_create_params", "ResponseCreateParams"),
    ("embeddings", "openai.types.embedding_create_params", "EmbeddingCreateParams"),
    ("messages", "anthropic.types.message_create_params", "MessageCreateParams"),
    ("count_tokens", "anthropic.types.message_count_tokens_params", "MessageCountTokensParams"),
]
TAGS = ("role", "type")


def unwrap(kind):
    """Without the marks around a type."""
    while get_origin(kind) in (Required, NotRequired, Annotated, typing.Required, typing.NotRequired):
        kind = get_args(kind)[0]
    return kind


def words(hints, tag):
    """The words of a tag, if it is one of a closed list."""
    kind = unwrap(hints.get(tag))
    return [word for word in get_args(kind) if isinstance(word, str)] if get_origin(kind) is Literal else []


def walk(kind, at, within, found):
    kind = unwrap(kind)
    if get_origin(kind) in (Union, builtin.UnionType):
        for part in get_args(kind):
            walk(part, at, within, found)
    elif is_typeddict(kind):
        if within.count(kind) < 1:
            fields(kind, at, within + [kind], found)
    elif get_args(kind) and get_origin(kind) is not Literal:
        is_map = len(get_args(kind)) == 2
        walk(get_args(kind)[-1], at + (".*" if is_map else "[]"), within, found)


def fields(kind, at, within, found):
    hints = typing_extensions.get_type_hints(kind, include_extras=True)
    told = [(tag, words(hints, tag)) for tag in TAGS if words(hints, tag)]
    here = at + (f"{{{told[0][0]}={'|'.join(told[0][1])}}}" if told else "")
    for key, value in hints.items():
        path = f"{here}.{key}" if here else key
        found.add(path)
        walk(value, path, within, found)


def main():
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("openai", "anthropic")]
    print(f"# Names of properties, out of the request types of {' and '.join(versions)} (PyPI). Made by extract.py.")
    for api, module, name in APIS:
        found, objects = set(), {}
        walk(getattr(importlib.import_module(module), name), "", [], found)
        for path in found:
            parent, _, key = path.rpartition(".")
            objects.setdefault(parent, []).append(key)
        for parent, keys in sorted(objects.items()):
            if parent.count(".") < DEEPEST:
                print(f"{api} {parent}: {' '.join(sorted(keys))}")


# Objects within so many others; an object that is not taken is refused with all that is in it.
DEEPEST = 3

main()
