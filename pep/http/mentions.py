"""Whether text that is no JSON names a masked field with a value behind it, and how names of fields compare.

Text in a document (a log's line, a table, a message of a database, what a tool says to a model) holds fields as well,
and where they begin and end is not known: a string that names one in a way that values follow is not shown. What names
none in such a way stays, also where the word stands in it. Pure.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Collection
from typing import Final

from pep.http import documents

# What is said of a field and is not what it holds.
_NO_VALUE: Final = (
    "a|absent|already|also|always|an|at|available|being|by|confidential|correct|empty|encrypted|for|given|hidden|how|in"
    "|incorrect|invalid|kept|known|mandatory|masked|missing|needed|never|no|none|not|now|null|on|only|optional|present"
    "|private|redacted|removed|required|sensitive|set|stored|the|to|too|unavailable|unique|unknown|unset|used|valid"
    "|verified|what|when|where|wrong"
)

# Each with the names in the place of {}. No repetition stands inside another one: what it costs grows with the text.
_FORMS: Final = (
    r"""["'](?:{})\\*["']\s*(?::|=>?)""",  # JSON, and what is like it
    r"(?:^|[\n{{,\[(])[ \t]*(?:[-#>•][ \t]+)?(?:{})\s*:",  # JavaScript, YAML, header fields, lists
    r"(?<![\w-])(?:{})[ \t]*:(?:[^\s/:]|\s+\S)",  # messages; how Go and Ruby show what they hold
    r"(?:^|\n)[ \t]*(?:[-#>•][ \t]+)?(?:{})[ \t]+(?:-+>?|–|—|→)[ \t]*\S",  # lists for people
    r"</?(?:[\w.-]{{1,64}}:)?(?:{})[\s/>]",  # XML
    r"=[ \t]*\\*[\"']?(?:{})\\*[\"'\s/>]",  # a form of HTML, whose fields have names
    r">[ \t\r\n]*(?:{})[ \t\r\n]*</",  # a table of HTML
    r"\|[ \t]{{0,16}}(?:{})[ \t]{{0,16}}\|[ \t]{{0,16}}[^\s|:-]",  # a table with a field on each line
    r"\n[ \"']{{0,4}}(?:{})[ \"']{{0,4}}[,;\t]\s*\S",
    r"(?<![\w-])(?:{})[\])]*\s*=",  # addresses, logs, attributes, a database's words
    r"(?<![\w-])(?:{})[ \t]+\\*[\"'“‘«(\[<]\\*[\w+-]",  # messages with the value in quotes
    # What a tool says to a model: the ssn is 1, the ssn of Bob was X; SSN 1.
    r"(?<![\w-])(?:{})(?:[ \t]+(?:of|for)[ \t]+[^\n.;:]{{1,60}}?)?[ \t]+(?:is|was|are|were|equals|reads)[ \t]+"
    r"(?!(?:" + _NO_VALUE + r")\b)\S",
    r"(?<![\w-])(?:{})(?:[ \t]+(?:no\.?|number))?[ \t]+#?[^\W\d]{{0,16}}\d",
)
# A cell of a table in text. It has a value behind it where there is a second line, or where SQL's VALUES follow.
_CELL: Final = r"(?:^|[\n,;\t|(])[ \"']{{0,16}}(?:\w{{1,64}}\.)?(?:{})[ \"']{{0,16}}(?:\r?\n|[,;\t|)])"
_ROWS: Final = re.compile(r"\n[^\n]*[^\s|:-]|\bvalues\b", re.IGNORECASE)
# Databases say which key a value is double for, in whatever order.
_DOUBLE: Final = "duplicate"

# What begins like JSON in base64: {" and [{ and [" and so on, also with white space.
_BEGINNINGS: Final = ("eyJ", "eyA", "ewo", "ew0", "ewk", "W3s", "W1s", "WyJ", "WyA", "Wwo", "Ww0", "Wwk")
_PACKED: Final = re.compile(rf"(?<![A-Za-z0-9+/_-])(?:{'|'.join(_BEGINNINGS)})[A-Za-z0-9+/_-]{{9,}}")
_MOST_PACKED: Final = 3  # one in the other
_URL_SAFE: Final = str.maketrans("-_", "+/")
_MARKS: Final = str.maketrans("", "", "*`")
_HEX: Final = re.compile(r"\\{1,8}x([0-7][0-9A-Fa-f])")


def folded(name: str) -> str:
    """The name as names are compared: readers differ about case, and an accent may be a character of its own."""
    return (name if name.isascii() else unicodedata.normalize("NFKC", name)).casefold()


class Mentions:
    """Of fields with these names, folded."""

    def __init__(self, names: Collection[str]) -> None:
        each = "|".join(sorted(map(re.escape, names)))
        self._any = re.compile(each, re.IGNORECASE)
        self._form = re.compile("|".join(form.format(each) for form in _FORMS), re.IGNORECASE)
        self._cell = re.compile(_CELL.format(each), re.IGNORECASE)

    def within(self, text: str) -> bool:
        """Whether the text names one of them with a value; escapes in it are undone, and so is JSON in base64."""
        return self._within(text, _MOST_PACKED)

    def _within(self, text: str, depth: int) -> bool:
        plain = documents.unescaped(text)
        if "\\x" in plain:
            plain = _HEX.sub(lambda found: chr(int(found[1], 16)), plain)
        if not plain.isascii():
            plain = unicodedata.normalize("NFKC", plain)
        if self._any.search(plain) is not None and self._named(plain.translate(_MARKS)):
            return True
        if depth == 0 or not any(map(plain.__contains__, _BEGINNINGS)):
            return False
        return any(self._within(_unpacked(packed), depth - 1) for packed in _PACKED.findall(plain))

    def _named(self, text: str) -> bool:
        if self._form.search(text) is not None or _DOUBLE in text.casefold():
            return True
        cell = self._cell.search(text)
        return cell is not None and _ROWS.search(text, cell.end() - 1) is not None


def _unpacked(packed: str) -> str:
    whole = packed.translate(_URL_SAFE)
    return base64.b64decode(whole[: len(whole) // 4 * 4]).decode("utf-8", "replace") + _last(whole)


def _last(whole: str) -> str:
    """What the last, incomplete group of characters stands for: at most two bytes."""
    left = len(whole) % 4
    return base64.b64decode(whole[-left:] + "=" * (4 - left)).decode("utf-8", "replace") if left > 1 else ""
