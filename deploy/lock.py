"""Writes the image's hash-pinned lock files from pyproject.toml; `--check` verifies that they match it.

Writing needs `uv` (pip install uv) and a package index; `--check` needs neither.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
PYPROJECT = HERE.parent / "pyproject.toml"
_STAMP = "# Made by `python deploy/lock.py`; do not edit. Fits the requirements with the digest "
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


@dataclass(slots=True)
class Pin:
    """One locked package."""

    version: str
    hashes: list[str] = field(default_factory=list)


def requirements(document: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """Requirements of each lock file: of the image at run time, and of the wheel's build."""
    return {
        "requirements.lock": document["project"]["dependencies"],
        "build.lock": document["build-system"]["requires"],
    }


def digest(wanted: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(wanted)).encode()).hexdigest()


def pins(text: str) -> dict[str, Pin]:
    found: dict[str, Pin] = {}
    current: Pin | None = None
    for line in text.splitlines():
        if match := _PIN.match(line):
            current = found.setdefault(canonicalize_name(match["name"]), Pin(match["version"]))
        if current is not None:
            current.hashes += _HASH.findall(line)
    return found


def faults(name: str, text: str, wanted: list[str]) -> list[str]:
    """Faults of a lock file, one sentence each."""
    found = [] if _STAMP + digest(wanted) in text else [f"{name} was made for other requirements than pyproject.toml's"]
    locked = pins(text)
    for requirement in map(Requirement, wanted):
        pin = locked.get(canonicalize_name(requirement.name))
        if pin is None:
            found.append(f"{name} lacks {requirement.name}")
        elif not requirement.specifier.contains(pin.version, prereleases=True):
            found.append(f"{name} pins {requirement.name} {pin.version}, pyproject.toml wants {requirement.specifier}")
    found += [f"{name} has no hash for {package}" for package, pin in locked.items() if not pin.hashes]
    if "://" in text or "--index" in text or "--extra-index" in text or "--find-links" in text:
        found.append(f"{name} names a package index; each machine configures its own")
    return found


def compiled(wanted: list[str], python: str) -> str:
    """The pins with hashes, for every platform, as uv resolves them now."""
    uv = shutil.which("uv") or sys.exit("lock: uv is missing; install it with `pip install uv`")
    options = [
        "--quiet",
        "--universal",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--python-version",
        python,
    ]
    done = subprocess.run(
        [uv, "pip", "compile", *options, "-"], input="\n".join(wanted), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"lock: uv failed:\n{done.stderr}")
    return f"{_STAMP}{digest(wanted)}\n{done.stdout}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a lock file does not match")
    arguments = parser.parse_args()
    document = tomllib.loads(PYPROJECT.read_text("utf-8"))
    found: list[str] = []
    for name, wanted in requirements(document).items():
        path = HERE / name
        if not arguments.check:
            path.write_text(compiled(wanted, document["project"]["requires-python"].removeprefix(">=")), "utf-8")
        found += faults(name, path.read_text("utf-8") if path.exists() else "", wanted)
    for fault in found:
        print(f"lock: {fault}", file=sys.stderr)
    if found:
        print("lock: run `python deploy/lock.py` and commit what it writes", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
