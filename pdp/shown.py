"""Foreign text for people's eyes: the one function through which everything foreign is printed.

Foreign is what a client, an approver, a target or a file of somebody else wrote: statements, ids, reasons, comments,
results, log lines. Shown raw, such text hides its end behind two hundred spaces, moves the cursor, or turns letters
around; a person then approves what they did not see. Here nothing vanishes:

- what cannot be printed, has no width, or directs other characters becomes its code point, `⟨U+202E⟩`; the few control
  characters of everyday text become their pictures, `␊ ␍ ␉ ␛ ␀`;
- runs are counted, `⟨␠×200⟩`;
- a long text is cut in the middle, never at its end, and says its length and its digest;
- the signs used for this are themselves escaped when they are foreign, so an uncut text can be read back exactly.

The result is plain text: what prints it must not interpret markup. Letters that are written right to left stay as they
are, since names and data consist of them; a terminal that orders them orders only those.
"""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from typing import Final

DEFAULT_LIMIT: Final = 2000
# A run of more characters than this is counted. Shorter ones are legible as they are.
_RUN: Final = 3
# How far a line may be indented before its spaces are counted.
_INDENT: Final = 16
# Accents that may stand on one letter; more of them climb over other lines.
_MARKS: Final = 2
# The head of a text that is cut gets two thirds of the room: it says what the text is, the tail what it does.
_HEAD: Final = 2 / 3

_PICTURES: Final = {"\n": "␊", "\r": "␍", "\t": "␉", "\x1b": "␛", "\0": "␀"}
_OWN_SIGNS: Final = frozenset("⟨⟩␠␊␍␉␛␀")
# Characters that Unicode calls letters, marks or symbols and that nobody can see (its Default_Ignorable_Code_Point, as
# far as str.isprintable lets them pass, and the empty Braille cell).
_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0").union(
    map(chr, range(0xFE00, 0xFE10)), map(chr, range(0xE0100, 0xE01F0))
)


def shown(
    text: str | bytes, *, limit: int | None = DEFAULT_LIMIT, gutter: str | None = None, spaces: int = _RUN
) -> str:
    """The text, fit to be printed: printable characters and, with a gutter, line feeds of this function's own.

    Text of more than `limit` characters is cut in the middle (None: never). With a `gutter`, each line feed of the
    text ends a line here too, and every line begins with the gutter, so that no line can pass for one of the program's.
    Bytes are read as UTF-8; those that are not appear as code points U+DC80 to U+DCFF. A run of more than `spaces` is
    counted.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    breaks = gutter is not None
    if limit is None or len(text) <= limit:
        return _lines(_rendered(text, breaks, spaces), gutter)
    head = int(limit * _HEAD)
    tail = limit - head
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    parts = (
        _rendered(text[:head], breaks, spaces),
        f"⟨… {len(text) - limit:,} characters are not shown here …⟩",
        _rendered(text[len(text) - tail :], breaks, spaces),
        f"⟨{len(text):,} characters in all, sha256 {digest}⟩",
    )
    return _lines(("\n" if breaks else " ").join(parts), gutter)


def is_cut(text: str | bytes, limit: int = DEFAULT_LIMIT) -> bool:
    """Whether `shown` would leave something out of it."""
    return len(text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")) > limit


def _lines(rendered: str, gutter: str | None) -> str:
    if gutter is None:
        return rendered
    return "\n".join(gutter + line for line in rendered.split("\n"))


def _rendered(text: str, breaks: bool, spaces: int) -> str:
    """Every character, run by run. With `breaks`, a line of our own ends after each of the text's."""
    out: list[str] = []
    # What stands before, as far as it matters: a letter, or how many marks are on it already.
    marks = _MARKS
    line_start = True
    for character, group in itertools.groupby(text):
        count = sum(1 for _ in group)
        category = unicodedata.category(character)
        if category in ("Mn", "Me"):
            fits = _is_accent(character) and marks + count <= _MARKS
            out.append(character * count if fits else _code_point(character, count))
            marks = marks + count if fits else _MARKS
        else:
            if character == " ":
                out.append(_spaces(count, max(spaces, _INDENT) if breaks and line_start else spaces))
            else:
                out.append(_run(character, count, breaks))
            # A vowel sign beside its letter (Mc) is part of the syllable, which more marks may follow.
            if category != "Mc":
                marks = 0 if character.isalpha() and character not in _UNSEEN else _MARKS
        line_start = character == "\n"
    return "".join(out)


def _spaces(count: int, most: int) -> str:
    return " " * count if count <= most else f"⟨␠×{count}⟩"


def _run(character: str, count: int, breaks: bool) -> str:
    if (picture := _PICTURES.get(character)) is not None:
        written = picture * count if count <= _RUN else f"⟨{picture}×{count}⟩"
        return written + "\n" if breaks and character == "\n" else written
    if character in _OWN_SIGNS or character in _UNSEEN or not character.isprintable():
        return _code_point(character, count)
    return character * count


def _is_accent(character: str) -> bool:
    """A mark above or below a letter; not one that is drawn over or around it, which would cross the letter out."""
    overlays = unicodedata.combining(character) == 1 or unicodedata.category(character) == "Me"
    return not overlays and character not in _UNSEEN and character.isprintable()


def _code_point(character: str, count: int) -> str:
    name = f"U+{ord(character):04X}"
    return f"⟨{name}×{count}⟩" if count > _RUN else f"⟨{name}⟩" * count
