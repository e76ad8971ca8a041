"""Text in a document that names a masked field with a value: tables, messages, forms, JSON in base64."""

import base64
import json

import pytest

from pep.http.mentions import Mentions, folded

SSN = "QZX7KV"
INNER = json.dumps({"id": 1, "ssn": SSN})


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"invalid ssn: {SSN}",
        f"the SSN : {SSN} is taken",
        f"ssn:\n  {SSN}",
        f"**SSN**: {SSN}",
        f"* **SSN:** {SSN}",
        f"`ssn`: `{SSN}`",
        f"- SSN - {SSN}",
        f"# SSN → {SSN}",
        f"id,name,ssn\n1,x,{SSN}",
        f"ssn\n{SSN}\n",
        f'"id";"ssn"\r\n1;{SSN}',
        f"id\tssn\n1\t{SSN}",
        f"| id | ssn |\n|----|-----|\n| 1 | {SSN} |",
        f"|ssn|{SSN}|\n|---|",
        f"| Field | Value |\n|---|---|\n| SSN | {SSN} |",
        f"field,value\nssn,{SSN}",
        f"INSERT INTO c (id, ssn) VALUES (1, '{SSN}')",
        f"insert into c(ssn)values('{SSN}')",
        f"INSERT INTO c (c.ssn, id) VALUES ('{SSN}', 1)",
        f'<input name="ssn" value="{SSN}">',
        f"<input name=ssn value={SSN}>",
        f"<tr><th>ssn</th><td>{SSN}</td></tr>",
        f"<dt> ssn </dt><dd>{SSN}</dd>",
        f"bad ssn '{SSN}'",
        f"bad ssn “{SSN}”",
        f"the ssn ({SSN}) is taken",
        f"Duplicate entry '{SSN}' for key 'users.ssn'",
        f"Cannot insert duplicate key row with unique index 'ix_ssn'. The duplicate key value is ({SSN}).",
        f"\\x22ssn\\x22:\\x22{SSN}\\x22",
        f"The customer's SSN is {SSN}.",
        f"the ssn of Bob Miller was {SSN}, as far as is known",
        "her city is Paris",
        f"SSN {SSN}",
        "SSN no. 583-27-9146",
        "**SSN** number 583-27-9146",
        f"ｓｓｎ: {SSN}",
        b64(INNER),
        b64(INNER).rstrip("="),
        b64(f"[{INNER}]"),
        b64('["ssn: 1"]'),
        f"cursor {b64(json.dumps({'next': b64(INNER)}))} follows",
        "eyJhbGciOiJub25lIn0." + base64.urlsafe_b64encode(INNER.encode()).decode().rstrip("=") + ".c2ln",
    ],
)
def test_a_value_is_named(text: str) -> None:
    assert Mentions({"ssn", "city"}).within(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "ssn", "the ssn", "an ssn is required", "ssn is missing, please ask",
        "the ssn of a person is not kept here",
        "the ssn, which is what matters", "the lesson is 5", "ssn or 5", "id,name,ssn", "see /ssn/format",
        "see ssn://a", "(id, ssn)", "issn: 1", "ssn-format: 1", "a lesson: ssn", b64('{"a": "b", "c": "d"}'),
        "eyJ not base64", "Duplicate entry '1' for key 'users.id'", "| a | b |\n| 1 | 2 |", "id,name,ssn\n",
    ],
)  # fmt: skip
def test_a_word_alone_is_no_value(text: str) -> None:
    assert not Mentions({"ssn"}).within(text)


@pytest.mark.parametrize(
    ("one", "other"), [("prénom", "pre\u0301nom"), ("SSN", "ssn"), ("ﬁeld", "FIELD"), ("straße", "STRASSE"), ("Å", "Å")]
)
def test_names_are_one_however_they_are_composed(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize(
    "piece",
    [
        "\t", " ", "\n", "\n\t ", ",", "|", '"', "ssn ", "ssn", "ssn]", "(", "<", ">", "= ", "e", "eyJ", "\\",
        "\\\\x41", "duplicate ", "&amp;", "%25", "*", "\n|-", "\nssn,", "| ssn",
    ],
)  # fmt: skip
def test_what_it_costs_grows_with_the_text_alone(piece: str) -> None:
    """What grew with its square would take minutes for so much, and not be done in the time that a test has."""
    Mentions({"ssn"}).within("ssn" + piece * (300_000 // len(piece)) + "x")
