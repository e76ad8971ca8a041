"""Lists of tools in what a target sends: where one may be, what it holds, and the same with some tools left out.

An answer to tools/list need not come where it was asked for: another call's stream, one that is taken up again and a
batch bring it as well, and what brings it may be JSON or events. So everything that an endpoint of MCP sends is looked
at, whatever it answers: what is a JSON-RPC response whose result has tools is a list of them. JSON-RPC 2.0; the HTML
standard, section 9.2.5. Pure.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pep.http import documents
from pep.http.coding import CannotMask
from pep.http.documents import Number, Value
from pep.http.mcp_fields import Mirrored, mirrored
from pep.http.media import Kind, media_type
from pep.http.messages import Fields

# A list of tools is read on the loop, which takes some 75 ms for so much.
MOST: Final = 1 << 20

# Line ends of an event stream; the blank line ends an event (the HTML standard, section 9.2.5).
_LINE: Final = re.compile(r"\r\n|\r|\n")
_BLANK: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_DATA: Final = re.compile(rb"(?:^|[\r\n])data:? ?([^\r\n]*)")
_COMMENT: Final = re.compile(rb":[^\r\n]*(?:\r\n|\n|\r(?=[^\n]))")
# The name as a whole string; any of its letters may be written as an escape.
_NAME: Final = re.compile(
    b'"' + b"".join(b"(?:%c|\\\\u00(?i:%02x))" % (ord(letter), ord(letter)) for letter in "tools") + b'"'
)


def is_stream(fields: Fields) -> bool:
    """Whether the response is an event stream. Raises CannotMask for one that is encoded."""
    return _is(fields, "text/event-stream")


def is_json(fields: Fields) -> bool:
    """Whether it may be taken for JSON: also without a type. Raises CannotMask for what is encoded."""
    return _is(fields, "json") or not fields.all("Content-Type")


def _is(fields: Fields, word: str) -> bool:
    if not any(word in value.lower() for value in fields.all("Content-Type")):
        return False
    if any(coding != "identity" for coding in fields.tokens("Content-Encoding")):
        raise CannotMask("an answer of MCP that is encoded cannot be looked at")
    return True


def may_list(document: bytes) -> bool:
    """Whether it may be JSON with a list of tools. A zero between the letters is UTF-16, which is refused later on."""
    return _NAME.search(document.replace(b"\0", b"")) is not None


def event_may_list(event: bytes) -> bool:
    """The same of an event's data."""
    if b"\0" in event:
        return may_list(event)
    if b"tools" not in event and b"\\u" not in event:
        return False
    return may_list(b"\n".join(_DATA.findall(event.removeprefix(codecs.BOM_UTF8))))


class Events:
    """The events of one stream, whole, in whatever pieces they come; comments between them at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        held = self._held
        held += data
        begin = 0
        for blank in _BLANK.finditer(held, self._searched):
            yield bytes(held[begin : blank.end()])
            begin = blank.end()
        # What keeps an idle stream alive may be a comment that no blank line ends.
        while comment := _COMMENT.match(held, begin):
            yield comment[0]
            begin = comment.end()
        del held[:begin]
        # A blank line is at most four bytes, of which three may be there.
        self._searched = max(0, len(held) - 3)
        if len(held) > self._limit:
            raise CannotMask("an event of the response is larger than what is looked at")

    def rest(self) -> bytes:
        """What no blank line has ended, which is no event; nothing where it may hold a list."""
        return b"" if event_may_list(bytes(self._held)) else bytes(self._held)


def tools(result: Value) -> list[Mapping[str, Value]] | None:
    """The tools in the result of tools/list, or in none; None where they are not understood."""
    if not isinstance(result, dict) or "tools" not in result:
        return []
    listed = result["tools"]
    if not isinstance(listed, list):
        return None
    found: list[Mapping[str, Value]] = []
    for tool in listed:
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(tool, dict) or not isinstance(name, str) or isinstance(name, Number) or not name:
            return None
        found.append(tool)
    return found


def filtered(result: Value, allowed: Collection[str]) -> Value:
    """The result with the tools that are allowed, and everything else that it holds."""
    if not isinstance(result, dict) or not isinstance(listed := result.get("tools"), list):
        return result
    kept: list[Value] = [tool for tool in listed if isinstance(tool, dict) and tool.get("name") in allowed]
    return result | {"tools": kept}


@dataclass(frozen=True, slots=True)
class Listing:
    """JSON, or events, with lists of tools; messages may be others too.

    `tools` are the names, each with the arguments that fields have to repeat (see `mcp_fields`).
    """

    tools: Mapping[str, Mirrored]
    _messages: tuple[Value, ...]
    # The lines of each event but those of its data, and the position of the data among the messages.
    _events: tuple[tuple[tuple[str, ...], int | None], ...] | None = field(default=None)

    @classmethod
    def read(cls, body: bytes, content_type: str) -> Listing | None:
        """None where it is not understood. Raises CannotMask for JSON that can be read in two ways."""
        if b"\0" in body:
            raise CannotMask("a list of tools with zeros in it, perhaps UTF-16, cannot be filtered")
        kind = media_type(Fields((("Content-Type", content_type),))).kind
        events = None
        match kind:
            case Kind.JSON:
                found: list[Value] = [documents.read(body)]
            case Kind.EVENTS:
                found, events = _events(body)
            case _:
                return None
        listed: dict[str, Mirrored] = {}
        for message in _each(found):
            some = tools(message.get("result")) if isinstance(message, dict) else None
            if some is None:
                return None
            listed |= {str(tool["name"]): mirrored(tool) for tool in some}
        return cls(listed, tuple(found), events)

    def write(self, allowed: Collection[str]) -> bytes:
        """The answer with no other tools than these."""
        written = [_written(_kept(message, allowed)) for message in self._messages]
        if self._events is None:
            return documents.encoded(written[0])
        lines: list[str] = []
        for other, at in self._events:
            lines += [*other, *(() if at is None else (f"data: {written[at]}",)), ""]
        return documents.encoded("".join(f"{line}\n" for line in lines))


def _events(body: bytes) -> tuple[list[Value], tuple[tuple[tuple[str, ...], int | None], ...]]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CannotMask("an event stream that is not UTF-8 cannot be filtered") from None
    found: list[Value] = []
    events: list[tuple[tuple[str, ...], int | None]] = []
    other: list[str] = []
    data: list[str] = []
    for line in _LINE.split(text):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif line:
            other.append(line)
        elif other or data:
            whole = "\n".join(data)
            events.append((tuple(other), len(found) if whole else None))
            if whole:
                found.append(documents.read_text(whole))
            elif data:
                # An event without content still carries an id from which the stream can be resumed.
                events[-1] = ((*other, "data:"), None)
            other, data = [], []
    # What follows the last blank line is no event: a client does not see it, and it is left out.
    return found, tuple(events)


def _each(found: Iterable[Value]) -> Iterable[Value]:
    for message in found:
        if isinstance(message, list):
            yield from message
        else:
            yield message


def _kept(message: Value, allowed: Collection[str]) -> Value:
    if isinstance(message, list):
        return [_kept(each, allowed) for each in message]
    if isinstance(message, dict) and "result" in message:
        return message | {"result": filtered(message["result"], allowed)}
    return message


def _written(value: Value) -> str:
    match value:
        case dict():
            return "{" + ",".join(f"{documents.string(name)}:{_written(each)}" for name, each in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case Number():
            return str(value)
        case str():
            return documents.string(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
