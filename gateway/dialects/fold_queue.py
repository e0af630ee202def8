"""What was said and is not folded yet: blocks of events, and runs of events that differ in nothing but one text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.codec.sse import data_payloads

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from gateway.dialects.classifier import Assembler
    from gateway.model import Json


class Parsed(NamedTuple):
    """An event's JSON object as `jsontext.parse` gave it; for one who may change it."""

    body: Json
    is_plain: bool


class Slot(NamedTuple):
    """What stands before a value that differs from event to event, and how to get over that value."""

    before: bytes
    length: int  # of that
    over: Callable[[bytes, int], re.Match[bytes] | None]
    is_text: bool  # the value is what the event says


class ChunkTemplate(NamedTuple):
    """How events look that are like the one before."""

    pieces: tuple[Slot, ...] = ()
    back: bytes = b"\0"  # what stands behind the last value
    text: str | None = None  # the member of the delta that is all such events say; None: they say more

    def event(self, text: bytes) -> bytes:
        """Such an event that says this JSON string."""
        return b"".join([piece.before + (text if piece.is_text else b'""') for piece in self.pieces]) + self.back


NO_SHAPE = ChunkTemplate()  # no event has it


class _Run(NamedTuple):
    shape: ChunkTemplate
    texts: list[bytes]


class FoldQueue:
    """In order. Of a run, only the texts are kept and read: a tenth of what reading whole events costs."""

    __slots__ = ("_blocks", "count")

    def __init__(self) -> None:
        self._blocks: list[bytes | Parsed | _Run] = []
        self.count = 0  # of blocks, as they came

    def add(self, block: bytes | Parsed) -> None:
        """Whole events, or one that is parsed already."""
        self.count += 1
        self._blocks.append(block)

    def add_run(self, shape: ChunkTemplate, texts: list[bytes]) -> None:
        """Events of this shape, whose text is known by its name."""
        self.count += 1
        last = self._blocks[-1] if self._blocks else None
        if type(last) is _Run and last.shape is shape:
            last.texts.extend(texts)
        else:
            self._blocks.append(_Run(shape, texts))

    def fold_into(self, assembler: Assembler) -> None:
        blocks, self._blocks = self._blocks, []
        self.count = 0
        whole: list[bytes] = []
        for block in blocks:
            if type(block) is bytes:
                whole.append(block)
                continue
            if whole:
                assembler.feed(data_payloads(b"".join(whole)))
                whole = []
            if type(block) is Parsed:
                assembler.take(*block)
            else:
                assert type(block) is _Run
                _fold_run(block, assembler)
        if whole:
            assembler.feed(data_payloads(b"".join(whole)))


def _fold_run(run: _Run, assembler: Assembler) -> None:
    """The first event tells the assembler what the others are like; where it has more to say, each is read whole."""
    shape, texts = run
    assembler.feed(data_payloads(shape.event(texts[0])))
    rest = texts[1:]
    if rest and not (shape.text is not None and assembler.take_texts(shape.text, rest)):
        assembler.feed(data_payloads(b"".join(map(shape.event, rest))))
