"""Work on a body that may be too much for the event loop at once: a generator that yields where others have to go on.

It yields `Pause` between pieces, and `Rewrite` for a document that belongs into another process. Pure: whoever carries
it out sends back what came of it, or throws CannotMask.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, TypeVar

from pep.http.masking import Rewriter

T = TypeVar("T")

# The largest document that is rewritten on the loop: that takes it some 5 ms, 15 where text is redacted.
LARGE: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class Pause:
    """So much has been done that others have their turn."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A document, or mere text, that the rewriter is to rewrite somewhere else; its counts have to follow."""

    rewriter: Rewriter
    data: bytes
    text: bool = False


Work = Generator[Pause | Rewrite, bytes | None, T]


def document(rewriter: Rewriter, data: bytes) -> Work[bytes]:
    """One whole document, rewritten. Raises CannotMask."""
    return (yield from _rewritten(Rewrite(rewriter, data)))


def text(rewriter: Rewriter, data: bytes) -> Work[bytes]:
    """Text without a structure, redacted. Raises CannotMask."""
    return (yield from _rewritten(Rewrite(rewriter, data, text=True)))


def _rewritten(wanted: Rewrite) -> Work[bytes]:
    if len(wanted.data) <= LARGE:
        return done(wanted)
    found = yield wanted
    assert found is not None, "what was rewritten is sent back"
    return found


def done(wanted: Rewrite) -> bytes:
    """What is wanted, done here."""
    return wanted.rewriter.redacted(wanted.data) if wanted.text else wanted.rewriter.document(wanted.data)


def at_once(work: Work[T]) -> T:
    """All of it here and now: for what is known to be small."""
    answer: bytes | None = None
    while True:
        try:
            wanted = work.send(answer)
        except StopIteration as end:
            found: T = end.value
            return found
        answer = done(wanted) if isinstance(wanted, Rewrite) else None
