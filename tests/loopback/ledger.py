"""An upstream's ledger on disk: one JSON line for each request received and for each answer's end, written at once."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.loopback.request import Request


class Ledger:
    """Lines are `{"event": "received", …}` and `{"event": "ended", …}`, joined by `number`; times are Unix time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def received(self, request: Request) -> None:
        self._write(
            event="received",
            number=request.number,
            method=request.method,
            target=request.target,
            headers=[[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers],
            body_size=request.body_size,
            body_sha256=request.body_sha256,
            **_text("body", request.body),
        )

    def ended(self, request: Request) -> None:
        """`said` is everything that the client can have got; `whole` tells whether the script was played to its end."""
        whole = request.finished_at is not None
        client_left = request.closed_at is not None
        said = _text("said", request.said_bytes)
        self._write(event="ended", number=request.number, whole=whole, client_left=client_left, **said)

    def _write(self, **line: Any) -> None:
        self._file.write(json.dumps({"at": time.time(), **line}).encode() + b"\n")


def _text(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
