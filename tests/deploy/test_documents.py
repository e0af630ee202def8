"""The documents: their links lead somewhere, what they name exists, and the README stays short."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = ROOT / "deploy/docs"
NOT_OURS = {"node_modules", "dist", "build", "var"}
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(
    r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|(?:src|srcset|href)=\"([^\"]+)\"|^\[[^\]]+\]: *(\S+)", re.MULTILINE
)


def documents() -> Iterator[Path]:
    """Every Markdown file of the repository; the folders of tools have a dot in front."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in NOT_OURS)
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".md"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """The text without its blocks of code."""
    return _FENCE.sub("", path.read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


def broken_links(path: Path, root: Path = ROOT) -> list[str]:
    """Each relative link of a document that leads to no file of the repository, or to no heading of it."""
    broken = []
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    for link in (next(filter(None, groups)) for groups in _LINK.findall(text)):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", link):
            continue
        target, _, anchor = unquote(link).partition("#")
        file = (path.parent / target).resolve() if target else path
        is_there = file.exists() and file.is_relative_to(root)
        if not is_there or (anchor and (file.suffix != ".md" or anchor not in anchors(file))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", list(documents()), ids=name_of)
def test_relative_links_and_anchors_exist(path: Path) -> None:
    assert broken_links(path) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `thing`, twice\n\n# One thing, twice\n```\n# none\n```\n", "utf-8")
    page = tmp_path / "page.md"
    whole = "[a](other.md) [b](other.md#one-thing-twice) [c](other.md#one-thing-twice-1) `[x](no.md)`\n"
    page.write_text(whole + "```\n[y](no.md)\n```\n[out](https://example.com/no.md)\n", "utf-8")
    assert broken_links(page, tmp_path) == []
    bad = '[a](no.md) [b](other.md#none) [c](#none) [d](../page.md) <img src="no.png">\n\n[e]: no.md\n'
    page.write_text(bad, "utf-8")
    assert broken_links(page, tmp_path) == ["no.md", "other.md#none", "#none", "../page.md", "no.png", "no.md"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def test_the_readme_links_every_chapter() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    missing = [path.name for path in CHAPTERS.glob("*.md") if f"](deploy/docs/{path.name})" not in readme]
    assert missing == []


def test_every_log_event_of_the_chapter_is_logged_somewhere() -> None:
    _, head, rest = (CHAPTERS / "watching.md").read_text("utf-8").partition("| event | meaning |\n|---|---|\n")
    table = rest.partition("\n\n")[0]
    events = [event for row in table.splitlines() for event in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert head
    assert len(events) > 10
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    assert [event for event in events if f'"{event}"' not in sources] == []
