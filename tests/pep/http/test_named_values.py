"""Masked fields whose names are values of the document: tables, changes, pairs."""

import json

import pytest

from pep.core.model import FieldMask, NullMask
from pep.http.masking import Rewriter, Rule

M = "QZX7KV"


def shown(document: object, field: str = "$..ssn") -> object:
    rewriter = Rewriter(Rule((FieldMask("", field, NullMask()),)))
    out = json.loads(rewriter.document(json.dumps(document).encode()))
    assert rewriter.masked == (out != document)
    return out


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"columns": ["id", "ssn"], "rows": [[1, M]]}, {"columns": ["id", "ssn"], "rows": [[1, None]]}),
        (
            {"meta": [{"name": "SSN", "type": "String"}], "data": [[M]], "n": 1},
            {"meta": [{"name": "SSN", "type": "String"}], "data": [[None]], "n": 1},
        ),
        ({"rows": [[1, M]], "fields": ["id", "u.ssn"]}, {"rows": [[1, None]], "fields": ["id", "u.ssn"]}),
        ({"field": "ssn", "value": M, "id": 7}, {"field": "ssn", "value": None, "id": 7}),
        (
            [{"op": "replace", "path": "/a/ssn", "value": {"x": M}}],
            [{"op": "replace", "path": "/a/ssn", "value": None}],
        ),
        ({"column": "c.ssn", "old": M, "by": "x"}, {"column": "c.ssn", "old": None, "by": "x"}),
        ([["id", 1], ["ssn", M]], [["id", 1], ["ssn", None]]),
        ({"entries": [["ssn", [M]]]}, {"entries": [["ssn", None]]}),
        ({"log": json.dumps([["ssn", M]])}, {"log": json.dumps([["ssn", None]], separators=(",", ":"))}),
    ],
)
def test_what_such_a_name_stands_for_is_masked(document: object, expected: object) -> None:
    assert shown(document) == expected


@pytest.mark.parametrize(
    "document",
    [
        {"columns": ["id", "ssn"], "rows": [[1], [1, 2, 3]]},
        {"columns": ["id", "name"], "rows": [[1, "x"]]},
        {"required": ["ssn", "name"]},
        {"name": "ssn", "type": "string", "description": "a number"},
        {"value": "ssn", "label": "Number"},
        {"field": "city", "value": "x"},
        [["ssn", "Ssn"], [1, 2]],
        {"path": "/ssn", "value": None},
    ],
)
def test_a_name_alone_masks_nothing(document: object) -> None:
    assert shown(document) == document
