"""deploy/words.py finds what it is there to find."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[2]


def words() -> Any:
    spec = importlib.util.spec_from_file_location("words", ROOT / "deploy" / "words.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_word_of_the_old_language_is_found_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gateway"
    package.mkdir()
    (package / "relay.py").write_text('"""Who hears of it."""\n\nclass Talk:\n    """A class."""\n\n# it is told so\n')
    (package / "other.py").write_text('"""A module."""\n\nclass Same:\n    pass\n')
    (package / "third.py").write_text('"""A module."""\n\nclass Same:\n    pass\n')
    checker = words()
    monkeypatch.setattr(checker, "ROOT", tmp_path)
    found = {rule: places for (rule, _), places in checker.findings().items() if places}
    assert found["Talk: write RequestContext"] == ["gateway/relay.py:3"]
    assert found["class Same twice"] == ["gateway/other.py:3", "gateway/third.py:3"]
    assert found['"told"'] == ["gateway/relay.py:6"]
    assert found["a docstring that begins with What or Who"] == ["gateway/relay.py:1"]


def test_a_good_file_has_no_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gateway"
    package.mkdir()
    (package / "relay.py").write_text('"""Relays events."""\n\nclass Relay:\n    """Relays one stream."""\n')
    checker = words()
    monkeypatch.setattr(checker, "ROOT", tmp_path)
    assert not any(checker.findings().values())
