"""Prints the n-th fenced block of the README, which must be one line: `python3 .ci/readme_block.py 1`."""

import re
import sys
from pathlib import Path

readme = Path(__file__).resolve().parent.parent / "README.md"
blocks = re.findall(r"^```\w*\n(.*?)^```$", readme.read_text("utf-8"), re.MULTILINE | re.DOTALL)
number = int(sys.argv[1])
if len(blocks) < number:
    sys.exit(f"README has {len(blocks)} fenced blocks, so none with the number {number}")
lines = blocks[number - 1].strip().splitlines()
if len(lines) != 1:
    sys.exit(f"README's block {number} has {len(lines)} lines, not one")
print(lines[0])
