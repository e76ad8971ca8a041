"""How much of what came back is kept: policy's word, one response's bound, one session's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.core.keeping import RESPONSE_BYTES, SAMPLE_BYTES, Keeping, strongest
from pep.core.model import LimitRows, ReadOnly, RecordLevel, RecordSession

NOTHING = RecordSession(RecordLevel.NONE)
TWO = RecordSession(RecordLevel.ROWS, 2)
NINE = RecordSession(RecordLevel.ROWS, 9)
EVERYTHING = RecordSession(RecordLevel.EVERYTHING)


@pytest.mark.parametrize(
    ("duties", "wanted"),
    [
        ((), None),
        ((ReadOnly(), LimitRows(5)), None),
        ((NOTHING,), NOTHING),
        ((NOTHING, TWO, ReadOnly()), TWO),
        ((NINE, TWO), NINE),
        ((TWO, EVERYTHING, NOTHING), EVERYTHING),
    ],
)
def test_the_strongest_counts(duties: tuple[object, ...], wanted: RecordSession | None) -> None:
    assert strongest(duties) == wanted  # type: ignore[arg-type]


def test_a_commands_own_word_is_added_to_the_sessions() -> None:
    assert not Keeping((NOTHING,)).begin().row(1)
    assert Keeping((NOTHING,)).begin((TWO,)).row(1)


def test_without_a_word_the_beginning_is_kept() -> None:
    kept = Keeping().begin()
    assert kept.room(SAMPLE_BYTES - 10) == SAMPLE_BYTES - 10
    assert kept.facts() == {}
    assert not kept.row(11)
    assert kept.facts() == {"truncated": "response"}
    # Once there was no room there is none: what is kept has no holes.
    assert not kept.row(1)
    assert kept.full


def test_nothing_is_nothing_and_not_said_to_be_cut() -> None:
    kept = Keeping((NOTHING,)).begin()
    assert (kept.row(1), kept.room(5), kept.lines(b"a\n")) == (False, 0, b"")
    assert kept.facts() == {"kept": "none"}


def test_so_many_rows_are_kept_and_then_no_more() -> None:
    kept = Keeping((TWO,)).begin()
    assert [kept.row(10) for _ in range(4)] == [True, True, False, False]
    assert kept.facts() == {"kept": "2 rows", "truncated": "rows"}
    whole = Keeping((TWO,)).begin()
    assert [whole.row(10) for _ in range(2)] == [True, True]
    assert whole.facts() == {"kept": "2 rows"}


def test_everything_is_as_much_as_one_response_may_take() -> None:
    kept = Keeping((EVERYTHING,)).begin()
    assert kept.room(RESPONSE_BYTES + 5) == RESPONSE_BYTES
    assert kept.facts() == {"kept": "everything", "truncated": "response"}


def test_a_session_takes_so_much_in_all() -> None:
    keeping = Keeping((EVERYTHING,), left=100)
    first, second, third = keeping.begin(), keeping.begin(), keeping.begin()
    assert first.room(60) == 60
    assert second.row(40)
    assert (second.facts(), keeping.left) == ({"kept": "everything"}, 0)
    assert not third.row(1)
    assert third.facts() == {"kept": "everything", "truncated": "session"}


def test_a_line_of_a_text_is_a_row_and_a_long_one_is_no_way_around() -> None:
    kept = Keeping((TWO,)).begin()
    assert kept.lines(b'{"a": 1}\n{"a"') == b'{"a": 1}\n{"a"'
    assert kept.lines(b": 2}\n{") == b": 2}\n"
    assert kept.lines(b"3}") == b""
    assert kept.facts()["truncated"] == "rows"
    long = Keeping((TWO,)).begin()
    assert len(long.lines(b"x" * (2 * SAMPLE_BYTES))) == SAMPLE_BYTES


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 200), st.sampled_from([(), (TWO,), (EVERYTHING,)]))
def test_what_is_kept_never_exceeds_what_is_left(
    sizes: list[int], left: int, duties: tuple[RecordSession, ...]
) -> None:
    keeping = Keeping(duties, left=left)
    taken = 0
    for number, size in enumerate(sizes):
        kept = keeping.begin()
        taken += size if number % 2 and kept.row(size) else kept.room(size) if not number % 2 else 0
    assert taken + keeping.left == left
    assert keeping.left >= 0
