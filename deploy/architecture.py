"""Draws `gateway/architecture.svg`: the packages by layer, from the import contract and their docstrings.

`python deploy/architecture.py` writes the picture; `--check` exits with 1 when the one that is there is not current.
The numbers are the path of a streamed chat completion; `gateway/README.md` describes each step.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from html import escape
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "gateway" / "architecture.svg"

# The path of a streamed chat completion, as the packages that it visits in order.
PATH = (
    "edge",
    "identity",
    "exchange",
    "policy",
    "journal",
    "providers",
    "transport",
    "relay",
    "dialects",
    "shipping",
    "store",
)

WIDTH, MARGIN, GAP, LINE, LETTERS = 1180, 16, 12, 15, 6.1
STYLE = """
  .box { fill: #f6f8fa; stroke: #8c959f; }
  text { fill: #1f2328; font: 12px system-ui, sans-serif; }
  .name { font: 600 13px ui-monospace, monospace; }
  .path { fill: #0969da; } .number { fill: #ffffff; font-weight: 600; text-anchor: middle; }
  @media (prefers-color-scheme: dark) {
    .box { fill: #161b22; stroke: #6e7681; } text { fill: #e6edf3; } .path { fill: #1f6feb; }
  }
"""


def main() -> int:
    picture = draw(layers())
    if "--check" in sys.argv[1:]:
        if PICTURE.read_text() != picture:
            print("gateway/architecture.svg is not current: run python deploy/architecture.py")
            return 1
        return 0
    PICTURE.write_text(picture)
    return 0


def layers() -> list[list[str]]:
    """The packages and modules of each layer, top down, as the import contract in pyproject.toml names them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    contract = next(each for each in contracts if each["id"] == "layers")
    return [re.split(r"\s*[|:]\s*", layer.replace("(", "").replace(")", "")) for layer in contract["layers"]]


def description(name: str) -> str:
    """The first paragraph of a package's or module's docstring."""
    package = ROOT / "gateway" / name / "__init__.py"
    source = package if package.exists() else ROOT / "gateway" / f"{name}.py"
    paragraph = (ast.get_docstring(ast.parse(source.read_text())) or "").split("\n\n")[0]
    return paragraph.replace("\n", " ").replace("`", "")


def draw(rows: list[list[str]]) -> str:
    """The picture as SVG text."""
    parts: list[str] = []
    top = MARGIN
    for names in rows:
        width = (WIDTH - 2 * MARGIN - GAP * (len(names) - 1)) / len(names)
        texts = [wrap(description(name), max(12, int((width - 24) / LETTERS))) for name in names]
        height = 34 + LINE * max(len(lines) for lines in texts)
        for column, (name, lines) in enumerate(zip(names, texts, strict=True)):
            parts += box(name, lines, MARGIN + column * (width + GAP), top, width, height)
        top += height + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + MARGIN - GAP}" role="img" '
        f'aria-label="The packages of the gateway by layer">\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def box(name: str, lines: list[str], left: float, top: float, width: float, height: float) -> list[str]:
    """One package: a box with its name, its description, and its place on the path."""
    parts = [
        f'<rect class="box" x="{left:.0f}" y="{top}" width="{width:.0f}" height="{height}" rx="6"/>',
        f'<text class="name" x="{left + 12:.0f}" y="{top + 21}">{escape(name)}</text>',
    ]
    parts += [
        f'<text x="{left + 12:.0f}" y="{top + 39 + LINE * number}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    if name in PATH:
        x, y = left + width - 16, top + 16
        parts += [
            f'<circle class="path" cx="{x:.0f}" cy="{y}" r="10"/>',
            f'<text class="number" x="{x:.0f}" y="{y + 4}">{PATH.index(name) + 1}</text>',
        ]
    return parts


if __name__ == "__main__":
    sys.exit(main())
