"""Printing: rich without its markup, so that a text never acts on the terminal or on its layout.

Everything foreign is passed through `pdp.shown` before it gets here.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# For files and pipes, which have no width of their own: no id is broken there.
_WIDE: Final = 240

VERDICT_STYLES: Final = {"allow": "green", "mask": "cyan", "require_approval": "yellow", "deny": "red"}
VERDICT_WORDS: Final = {"require_approval": "needs approval"}


def console(*, stderr: bool = False) -> Console:
    """The screen, or the file or pipe in its place."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made = Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=_WIDE)
    return made


def line(screen: Console, text: str | Text, style: str = "") -> None:
    """One line, or several that the text holds; the terminal wraps them, so that not a space of them is lost."""
    screen.print(text if isinstance(text, Text) else Text(text, style), soft_wrap=True)


def show(screen: Console, what: RenderableType) -> None:
    """A table or a block. A file or a pipe is not filled up with the spaces that make its lines equally long."""
    if screen.is_terminal:
        screen.print(what)
        return
    with screen.capture() as captured:
        screen.print(what)
    for text in captured.get().splitlines():
        screen.out(text.rstrip(" "), highlight=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, whole: int = 1) -> Table:
    """A table whose first `whole` columns are never folded, so that an id can be copied. Without names, no heading."""
    named = any(headings)
    made = Table(box=None, pad_edge=False, show_header=named, header_style="bold", padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        made.add_column(Text(heading), no_wrap=index < whole, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def facts(pairs: Iterable[tuple[str, str | Text]]) -> RenderableType:
    """Names and what stands behind them, one a line."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(Text(name), value if isinstance(value, Text) else Text(value))
    return made


def span(length: datetime.timedelta) -> str:
    """A length of time for people: 12s, 3m 10s, 4h 5m, 2d 3h."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m {seconds}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes}m"
    return f"{hours // 24}d {hours % 24}h"


def clock(instant: datetime.datetime) -> str:
    """An instant, in UTC, as every record has it."""
    return instant.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
