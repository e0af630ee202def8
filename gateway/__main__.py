"""`python -m gateway`, and the `llm-gateway` command: the only reader of sys.argv and os.environ."""

from __future__ import annotations

import os
import sys

from gateway.cli.main import run


def main() -> None:
    sys.exit(run(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
