"""Damaged versions of a file: its bytes, or the values of a JSON document."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

PATTERNS = (
    b"\0",
    b"\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\n",
    b"\r",
    b'"',
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes, edits: int = 4) -> bytes:
    """`content` with up to `edits` of its bytes overwritten, cut, inserted or repeated."""
    for _ in range(draw(st.integers(1, edits))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        kind = draw(st.sampled_from(("flip", "pattern", "cut", "truncate", "insert", "repeat")))
        length = draw(st.integers(1, 64))
        if kind == "flip":
            new, length = bytes([draw(st.integers(0, 255))]), 1
        elif kind == "pattern":
            new = draw(st.sampled_from(PATTERNS))
            length = len(new)
        elif kind == "insert":
            new, length = draw(st.binary(min_size=1, max_size=16)), 0
        else:
            new = content[place : place + length] * 2 if kind == "repeat" else b""
            length = len(content) if kind == "truncate" else length
        content = content[:place] + new + content[place + length :]
    return content


def deep(depth: int) -> bytes:
    """Lists in lists."""
    return b"[" * depth + b"]" * depth


ODD = (
    None, True, False, 0, -1, 10**30, 1.5, 1e308, float("nan"), float("inf"), "", " ", "0", "x", "..", "/", "a\0b",
    "\ud800", "a" * 5000, "é\n\n. b", "$1/0", "@nowhere", "%nowhere", "a.nii.gz", [], {}, [[]], [{}], {"": None},
    [None, 1], {"image": 3}, {"image": []}, {"image": [None]}, {"image": "a.nii.gz", "label": {}}, [0.5, "a"],
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document, itself first."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


@st.composite
def changed(draw: st.DrawFn, document: Any, edits: int = 3) -> Any:
    """A JSON document with values replaced by odd ones, keys removed or added."""
    odd = st.one_of(
        st.sampled_from(ODD), st.recursive(st.none() | st.integers() | st.text(max_size=9), grown, max_leaves=9)
    ).map(copy.deepcopy)
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, edits))):
        path = draw(st.sampled_from(list(places(document))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(odd)
            continue
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        kind = draw(st.sampled_from(("replace", "replace", "remove", "add")))
        if kind == "remove":
            del parent[path[-1]]
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(st.sampled_from(("", "x", "image", "_target_", "a. b")))] = draw(odd)
        else:
            parent[path[-1]] = draw(odd)
    return document


def grown(leaves: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Lists and objects of them."""
    return st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=5), leaves, max_size=3)


def documents(document: Any) -> SearchStrategy[bytes]:
    """A JSON file, damaged in its values, its bytes or its encoding."""
    whole = json.dumps(document).encode()
    twice = whole[:-1] + b", " + whole[1:] if whole.startswith(b"{") else whole * 2  # every key a second time
    others = (
        b"", b"\xef\xbb\xbf" + whole, whole.decode().encode("utf-16"), twice, deep(100_000), b'{"training":' * 50_000,
        whole.replace(b'"', b"'"), whole + b"\0", b"NaN", b"9" * 5000, b'{"training": [' + deep(900) + b"]}",
    )  # fmt: skip
    values = changed(document).map(lambda value: json.dumps(value).encode())
    return st.one_of(values, values, values, damaged(whole), st.sampled_from(others))
