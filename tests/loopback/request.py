"""One request as an upstream saw it, and what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Request:
    """Times are `time.monotonic()`, which is one clock for all processes of a machine."""

    number: int
    connection: int  # requests with the same number came over the same connection
    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    head_at: float
    received_at: float | None = None  # the last byte of its body
    body: bytes = b""  # up to the server's `keep_body_bytes`
    body_size: int = 0
    body_sha256: str = ""
    keep_alive: bool = True
    said: list[bytes] = field(default_factory=list)
    bytes_written: int = 0  # handed to the connection for this answer, framing and all
    finished_at: float | None = None  # the script's last step is done
    closed_at: float | None = None  # the client's side was seen closed; None if it never was, or we closed first

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def said_bytes(self) -> bytes:
        """Everything the client can have got of the answer's body (it may have got less)."""
        return b"".join(self.said)

    def header(self, name: str) -> str | None:
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)

    def json(self) -> Any:
        return json.loads(self.body)
