"""A request is changed through `with_texts` and `with_model` alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gateway
from gateway.edge.http.bodies import parse_chat

GATEWAY = Path(gateway.__file__).parent
SAID = {"raw", "body"}


def test_a12_no_field_of_a_request_can_be_assigned() -> None:
    asked = parse_chat(b'{"model": "m", "messages": []}', 100)
    with pytest.raises(AttributeError):
        asked.raw = b"{}"  # type: ignore[misc]


def test_a12_nothing_but_the_request_itself_replaces_its_bytes_or_its_body() -> None:
    """A `replace(asked, raw=...)` elsewhere could change one and forget the other. `body` of a Call and of an
    Interaction, which have no second form, is not meant."""
    found = []
    for path in GATEWAY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "replace":
                names = {each.arg for each in node.keywords if each.arg}
                if "raw" in names or (names & SAID and ast.unparse(node.args[0]) in ("asked", "request")):
                    found.append(path.relative_to(GATEWAY).as_posix())
    assert found == ["model.py"]
