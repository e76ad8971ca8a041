"""Data files: YAML that means one thing, and nothing that is lost."""

from pathlib import Path
from typing import Any

import pytest

from pdp.policies.data import item_lines, load_data
from pdp.policies.problems import PolicyError
from pdp.policies.snapshot import Source


def source(text: str | bytes, name: str = "owners/data.yaml") -> Source:
    return Source(name, Path("/repo") / name, text.encode() if isinstance(text, str) else text)


def owners(text: str) -> Any:
    return load_data([source(text)])["owners"]


def test_words_are_text_unless_they_are_json_s():
    text = "{a: NO, b: yes, c: on, d: 2026-11-24, e: 12:30, f: 010, g: 1_000, h: .inf, i: =}"
    found = owners(text)
    assert set(map(type, found.values())) == {str}
    assert found["a"] == "NO"


def test_json_s_values_are_json_s():
    assert owners("{a: true, b: null, c: -3, d: 1.5, e: 1e3, f: ~, g: , h: [x], 1: y, true: z}") == {
        "a": True,
        "b": None,
        "c": -3,
        "d": 1.5,
        "e": 1000.0,
        "f": None,
        "g": None,
        "h": ["x"],
        "1": "y",
        "true": "z",
    }


def test_files_meet_in_one_document_below_their_folders():
    found = load_data(
        [
            source("{a: 1}"),
            source('{"b": 2}', "owners/data.json"),
            source("{c: 3}", "owners/shop/data.yaml"),
            source("", "hours/data.yaml"),
            source("# nothing", "parameters/data.yaml"),
        ]
    )
    assert found == {"owners": {"a": 1, "b": 2, "shop": {"c": 3}}}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a stands here a second time"),
        ("a:\n  x: 1\n  'x': 2\n", 3, "x stands here a second time"),
        ("a: 1\n? [x]\n: 2\n", 2, "a key must be text"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "a key must be text"),
        ("a: 1\nb: !!python/name:os.system x\n", 2, "is not known"),
        ("a: 1\nb: !!int x\n", 2, "is not a number"),
        ("a: 1e999\n", 1, "beyond every number"),
        ("a: [\n", 2, "expected"),
        ("a: 1\n---\nb: 2\n", 2, "but found another document"),
        ("- x\n", 0, "owners is in /repo/owners/data.json as well"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_line(text: str, line: int, said: str):
    with pytest.raises(PolicyError) as caught:
        load_data([source('{"z": 1}', "owners/data.json"), source(text)])
    problem = caught.value.problems[0]
    assert (problem.line, said in problem.message) == (line, True), problem


def test_bytes_that_are_not_utf_8_are_refused_with_their_line():
    with pytest.raises(PolicyError, match=r"data\.yaml:2: is not UTF-8"):
        load_data([source(b"a: 1\nb: \xff\n")])


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', "{", "[" * 100_000, '{"a": %s}' % ("9" * 5000)])
def test_json_is_read_as_strictly(text: str):
    with pytest.raises(PolicyError):
        load_data([source(text, "owners/data.json")])


def test_one_thing_has_one_file():
    with pytest.raises(PolicyError, match=r"owners\.shop\.a is in /repo/owners/data\.yaml as well"):
        load_data([source("{shop: {a: 1}}"), source("{a: 2}", "owners/shop/data.yaml")])


def test_the_items_of_a_list_know_their_lines():
    assert item_lines(source("# first\n- a\n\n- {b: 1}\n")) == [2, 4]
