"""Foreign text is shown whole, without any power over the terminal or the reader."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.shown import is_cut, shown

# Every kind of character, the dangerous ones often, in runs as an attacker would use them.
_DANGEROUS = (
    "\x1b\r\n\t\0\x07\x9b \u00a0\u200b\u200d\u202e\u2066\ufeff\u3164\u2800\ufe0f\u0301\u0336\u20dd⟨⟩␠␊×[]\\\ud800"
)
_RUNS = st.builds(
    lambda character, count: character * count,
    st.one_of(st.sampled_from(_DANGEROUS), st.characters(exclude_categories=())),
    st.one_of(st.just(1), st.integers(1, 300)),
)
FOREIGN = st.lists(_RUNS, max_size=20).map("".join)

LANGUAGES = ("Zürich", "Žluťoučký kůň", "ký tự", "हिन्दी कु", "ภาษาไทย", "กินน้ำ", "한국어", "日本語", "עברית", "π ≤ 3")
_PICTURES = {"␊": "\n", "␍": "\r", "␉": "\t", "␛": "\x1b", "␀": "\0", "␠": " "}
_SIGN = re.compile(r"⟨(?:U\+([0-9A-F]+)|([␠␊␍␉␛␀]))(?:×([0-9]+))?⟩|([␊␍␉␛␀])|(.)", re.DOTALL)


def read_back(text: str) -> str:
    """The text of which `shown` made this, as its documentation lets a reader understand it."""

    def one(found: re.Match[str]) -> str:
        point, picture, count, alone, itself = found.groups()
        if itself is not None:
            assert itself not in "⟨⟩␠", text
            return itself
        character = chr(int(point, 16)) if point else _PICTURES[picture or alone]
        return character * int(count or 1)

    return _SIGN.sub(one, text)


@given(FOREIGN)
def test_only_printable_characters_come_out(text: str):
    assert shown(text).isprintable()
    assert shown(text, limit=50).isprintable()


@given(FOREIGN)
def test_with_a_gutter_only_its_own_line_feeds_come_out_and_every_line_has_the_gutter(text: str):
    lines = shown(text, gutter="| ").split("\n")
    assert all(line.isprintable() and line.startswith("| ") for line in lines)


@given(FOREIGN)
def test_nothing_vanishes_and_nothing_is_added(text: str):
    assert read_back(shown(text, limit=None)) == text


@given(FOREIGN)
def test_the_gutter_adds_nothing_but_itself(text: str):
    lines = shown(text, limit=None, gutter="| ").split("\n")
    assert read_back("".join(line.removeprefix("| ") for line in lines)) == text


@given(FOREIGN, FOREIGN)
def test_different_texts_look_different(one: str, other: str):
    assert (shown(one, limit=None) == shown(other, limit=None)) is (one == other)


@given(FOREIGN, st.integers(3, 400), st.sampled_from([None, "| "]))
def test_a_long_text_keeps_its_head_and_its_tail_and_says_what_is_missing(text: str, limit: int, gutter: str | None):
    out = shown(text, limit=limit, gutter=gutter)
    if not is_cut(text, limit):
        assert out == shown(text, limit=None, gutter=gutter)
        return
    assert f"{len(text) - limit:,} characters are not shown" in out
    assert re.search(rf"⟨{len(text):,} characters in all, sha256 [0-9a-f]{{16}}⟩$", out)
    flat = "".join(line.removeprefix(gutter) for line in out.split("\n")) if gutter else out
    head, tail = re.split(r" ?⟨… [0-9,]+ characters are not shown here …⟩ ?", flat, maxsplit=1)
    assert text.startswith(read_back(head))
    ending = re.split(r" ?⟨[0-9,]+ characters in all", tail)[0]
    # A space beside our own sign may be the text's or ours; everything else must be the text's.
    assert text.rstrip(" ").endswith(read_back(ending).strip(" "))
    assert len(read_back(ending)) >= limit - int(limit * 2 / 3) - 1


@given(FOREIGN)
def test_nothing_that_directs_or_has_no_width_comes_out(text: str):
    for character in shown(text, gutter=""):
        assert unicodedata.category(character) not in {"Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert character not in "\u3164\u2800\ufe0f\u034f"


@given(FOREIGN)
def test_no_run_of_spaces_pushes_anything_out_of_sight(text: str):
    assert "    " not in shown(text, limit=None)


def test_what_was_tried_against_approvers():
    assert shown("a[b] = 1 and tags[red]") == "a[b] = 1 and tags[red]"
    assert shown("[black on black]OR true[/]") == "[black on black]OR true[/]"
    assert shown("where id = 1" + " " * 200 + "or true") == "where id = 1⟨␠×200⟩or true"
    assert shown("where id = 1\rselect 1 ") == "where id = 1␍select 1 "
    assert shown("\x1b[2K\x1b[1A") == "␛[2K␛[1A"
    assert shown("user:ana\u202eelor") == "user:ana⟨U+202E⟩elor"
    assert shown("1\n\n\n\n\n\nor true", gutter="  ") == "  1⟨␊×6⟩\n  or true"
    assert shown("s\u0336e\u0336cret") == "s⟨U+0336⟩e⟨U+0336⟩cret"
    assert shown(b"\xff\x00ok") == "⟨U+DCFF⟩␀ok"


@pytest.mark.parametrize("text", LANGUAGES)
def test_words_of_all_languages_stay_words(text: str):
    assert shown(text) == text
    assert shown(unicodedata.normalize("NFD", text)) == unicodedata.normalize("NFD", text)


def test_a_statement_keeps_its_indentation():
    statement = "select id,\n       total\n  from orders"
    assert shown(statement, gutter="│ ") == "│ select id,␊\n│        total␊\n│   from orders"
