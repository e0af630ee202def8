"""Checks the project's words: names and sentences that a newcomer would have to look up or read twice.

`python deploy/words.py` prints each finding over its limit and exits with 1; `--list` prints all findings.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("gateway/**/*.py", "deploy/*.py", "static/scripts/**/*.mjs")

# Names that say less than the field's term beside them. No module, class or public function may bear one.
NAMES = {
    "Talk": "RequestContext",
    "Account": "Recording",
    "Counted": "an observer",
    "Terms": "ExchangeOptions",
    "Passage": "PassthroughSink",
    "WholeBody": "BufferSink",
    "Whole": "BufferedAnswer",
    "Care": "EventClassifier",
    "judge": "classify",
    "Step": "EventAction",
    "Shape": "ChunkTemplate",
    "Piece": "Slot",
    "Unfolded": "FoldQueue",
    "pulse": "ticker",
    "Pulse": "Ticker",
    "beat": "tick",
    "Living": "Ticking",
    "marks": "fingerprints",
    "likeliest": "best_parent",
    "elsewhere": "peer_answers",
    "siblings": "peers",
    "Siblings": "Peers",
    "Seat": "WorkerIdentity",
    "Live": "InFlight",
    "Story": "RunningAnswer",
    "underway": "snapshot",
    "joining": "resume",
    "Room": "MemoryBudget",
    "heads": "response_head",
    "fields": "params",
    "guard": "origin_check",
    "Guard": "OriginCheck",
    "vitals": "gauges",
    "Vitals": "Gauges",
    "lag": "loop_lag",
    "upkeep": "maintenance",
    "Upkeep": "Maintenance",
    "shipped": "resources",
    "told": "to_wire",
    "furnish": "wire_up",
    "house": "system",
    "Keeper": "Sink",
    "Feed": "Subscription",
    "lanes": "ordering",
    "Lanes": "Ordering",
    "letters": "spool",
    "Letter": "SpooledSubmission",
    "Waiting": "RetrySpool",
    "bury": "dead-letter",
    "set_aside": "quarantine",
    "pace": "circuit_breaker",
    "Pace": "CircuitBreaker",
    "knock": "probe",
    "visit": "retry",
    "stragglers": "compaction",
    "owner": "lock",
    "adopt": "take_over",
    "syncing": "group_commit",
    "sync_queue": "aio_fdsync",
    "unwritten": "memory_fallback",
    "Unwritten": "MemoryFallback",
    "blame": "set_fault",
    "absolve": "clear_fault",
    "Patience": "Timeouts",
    "Wire": "Connection",
    "WirePool": "ConnectionPool",
    "AWAY": "CONNECTION_ERRORS",
    "is_away": "is_down",
    "Mark": "PageCursor",
    "hold": "to_jsonb",
    "Held": "JsonbValue",
    "arrivals": "change_feed",
    "watchers": "live_tail",
    "office": "key_service",
    "Office": "KeyService",
    "Reception": "IdentityModes",
    "ring": "key_cache",
    "watch": "key_refresh",
    "evidence": "credentials",
    "Evidence": "Credentials",
    "forms": "readers",
    "Form": "Reader",
    "passing": "passthrough",
}


class Pattern:
    """A pattern of sentences, and how often it may occur in docstrings and comments."""

    def __init__(self, name: str, regex: str, at_most: int) -> None:
        self.name = name
        self.regex = re.compile(regex)
        self.at_most = at_most


SENTENCES = (
    Pattern("a docstring that begins with What or Who", r"\A(What|Who|Whoever|Whose)\b", 10),
    Pattern('"told"', r"\b[Tt]old\b", 5),
    Pattern('"is none", "is no" for "is not"', r"\bis none\b|\bare none\b", 5),
    Pattern('"the house"', r"\b[Tt]he house\b", 0),
)


def main() -> int:
    found = findings()
    is_listing = "--list" in sys.argv[1:]
    bad = 0
    for (rule, at_most), places in sorted(found.items()):
        is_over = len(places) > at_most
        bad += is_over
        if is_over or is_listing:
            print(f"{rule}: {len(places)}, at most {at_most}")
            print("".join(f"  {place}\n" for place in places), end="")
    return 1 if bad else 0


def findings() -> dict[tuple[str, int], list[str]]:
    """All findings by rule and limit, each as `file:line`."""
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    classes: dict[str, list[str]] = defaultdict(list)
    for path in sorted(each for pattern in SOURCES for each in ROOT.glob(pattern)):
        place = str(path.relative_to(ROOT))
        if path == Path(__file__).resolve() or "__pycache__" in place:
            continue
        text = path.read_text()
        for line, sentence, is_first in python_texts(text) if path.suffix == ".py" else script_texts(text):
            for pattern in SENTENCES:
                if pattern.regex.pattern.startswith(r"\A") and not is_first:
                    continue
                found[pattern.name, pattern.at_most] += [f"{place}:{line}"] * len(pattern.regex.findall(sentence))
        if path.suffix == ".py":
            for line, name, is_class in public_names(path, text):
                if name in NAMES:
                    found[f"{name}: write {NAMES[name]}", 0].append(f"{place}:{line}")
                if is_class:
                    classes[name].append(f"{place}:{line}")
    for name, places in classes.items():
        if len(places) > 1:
            found[f"class {name} twice", 0] += places
    return found


def python_texts(text: str) -> list[tuple[int, str, bool]]:
    """Docstrings and comments as (line, text, whether it is the beginning of a docstring)."""
    texts = [
        (token.start[0], token.string, False)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                texts.append((node.body[0].lineno, docstring, True))
    return texts


def script_texts(text: str) -> list[tuple[int, str, bool]]:
    """Comments of a JavaScript module, one a line."""
    texts = []
    for number, line in enumerate(text.splitlines(), 1):
        comment = re.search(r"(?:^|\s)//\s?(.*)|/\*\*?\s?(.*)|^\s*\*\s?(.*)", line)
        if comment:
            texts.append((number, next(part for part in comment.groups() if part is not None), False))
    return texts


def public_names(path: Path, text: str) -> list[tuple[int, str, bool]]:
    """The module, its classes, and public functions and methods, as (line, name, whether it is a public class)."""
    names = [(1, path.stem, False)]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            names.append((node.lineno, node.name, not node.name.startswith("_")))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.append((node.lineno, node.name.removeprefix("_"), False))
    return names


if __name__ == "__main__":
    sys.exit(main())
