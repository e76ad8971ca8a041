"""What is secret in a request is not in what policies, people and records are told; an approval is bound to it."""

import json

import pytest

from pep.core.model import digest_of
from pep.http import secrets
from pep.http.classify import ClassifySettings, Request, classify
from pep.http.messages import Fields, Length, NoBody, RequestHead
from pep.http.paths import normalise

SETTINGS = ClassifySettings(
    "https", frozenset({"x-api-key", "x-tenant"}), mcp_paths=("/mcp",), graphql_paths=("/graphql",), server="pay"
)


def classified(target: str, body: object = None, *fields: tuple[str, str]) -> Request:
    """A POST of JSON, or of a form where the body is text."""
    data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = "application/x-www-form-urlencoded" if isinstance(body, str) else "application/json"
    path, _, query = target.partition("?")
    said = Fields((("Content-Type", kind), *fields))
    framing = Length(len(data)) if data else NoBody()
    head = RequestHead("POST", target, path, query or None, "pay.example", 1, said, framing, keep_alive=True)
    return classify(head, normalise(path), data, SETTINGS)


def told(request: Request) -> str:
    return json.dumps(
        [[action.properties, action.statement.text, action.statement.parameters] for action in request.actions]
    )


@pytest.mark.parametrize(
    "name",
    [
        "password", "newPassword", "password_confirmation", "passwd", "passphrase", "secret", "client_secret",
        "clientSecret", "token", "access_token", "refreshToken", "id-token", "api_key", "apiKey", "X-Api-Key", "apikey",
        "aws_secret_access_key", "private_key", "credentials", "Authorization", "Cookie", "X-Amz-Signature", "sig",
        "user[password]", "DB_PASSWORD",
    ],
)  # fmt: skip
def test_a_name_says_that_there_is_a_secret(name):
    assert secrets.is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "key", "code", "author", "page_token", "nextPageToken", "progressToken", "max_tokens", "token_type",
        "session_id", "secret_name", "access_key_id", "password_policy", "secretary", "compass", "bypass", "monkey",
        "design", "message",
    ],
)  # fmt: skip
def test_a_name_of_something_else_says_none(name):
    assert not secrets.is_secret(name)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("see https://me:S3cret@db.example/x now", "see https://***@db.example/x now"),
        ("postgresql://me:S3cret@db.example", "postgresql://***@db.example"),
        ("host=db password=S3cret user=x", "host=db password=*** user=x"),
        (
            'mutation { login(user: "a", password: "S3cret \\u00e9") { ok } }',
            'mutation { login(user: "a", password: ***) { ok } }',
        ),
        ("https://a.example/?access_token=S3cret&b=1", "https://a.example/?access_token=***&b=1"),
        ("Bearer S3cretS3cret", "Bearer ***"),
        ("it is eyJhbGciOiJIUzI1NiJ9.S3.S3cret.", "it is ***."),
        ("-----BEGIN PRIVATE KEY-----\nS3cret\n-----END PRIVATE KEY-----\n", "***\n"),
        ('{"api_key": "S3cret"}', '{"api_key": ***}'),
        ("the secretary has a key: none", "the secretary has a key: none"),
    ],
)
def test_a_text_loses_what_looks_like_a_secret_and_nothing_else(text, kept):
    assert secrets.text(text) == kept


def test_what_has_no_secret_is_the_very_same_document():
    document = {"a": [1, {"b": "c"}], "max_tokens": 5, "key": "k"}
    assert secrets.hidden(document) is document


def test_all_below_a_secret_name_is_hidden_but_for_what_says_that_it_is_there():
    document = {
        "credentials": {"user": "me", "pins": [1, {"$int": "9007199254740993"}], "set": True, "old": None},
        "n": 1,
    }
    hidden = {"credentials": {"user": "***", "pins": ["***", "***"], "set": True, "old": None}, "n": 1}
    assert secrets.hidden(document) == hidden


@pytest.mark.parametrize("length", [1 << 18])
@pytest.mark.parametrize(
    "piece", ["password", 'password="', "://", "://a:", "bearer ", "-----BEGIN PRIVATE KEY", "eyJaaaaaaaa.", "eyJ"]
)
def test_the_search_is_linear_in_the_text(piece, length):
    assert secrets.text(piece * (length // len(piece)) + " password=S3cret").count("S3cret") == 0


GRAPHQL = {"query": 'mutation { login(password: "S3cret") { id } }', "variables": {"token": "S3cret"}}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {"password": "S3cret"}}}


@pytest.mark.parametrize(
    ("target", "body", "fields"),
    [
        ("/a?access_token=S3cret&b=1", None, ()),
        ("/a?next=https%3A%2F%2Fme%3AS3cret%40x.example", None, ()),
        ("/a", {"amount": 1, "password": "S3cret"}, ()),
        ("/a", [{"deep": {"client_secret": ["S3cret"]}}], ()),
        ("/a", "user=me&password=S3cret", ()),
        ("/a", "site=https%3A%2F%2Fme%3AS3cret%40x.example", ()),
        ("/graphql", GRAPHQL, ()),
        ("/mcp", CALL, ()),
        ("/mcp", {**CALL, "method": "prompts/get"}, ()),
        ("/a", None, (("X-Api-Key", "S3cret"),)),
    ],
)
def test_a_secret_is_in_nothing_that_is_told_and_an_approval_is_bound_to_it(target, body, fields):
    request = classified(target, body, *fields)
    assert "S3cret" not in told(request)
    assert "***" in told(request)
    other = json.loads(json.dumps([target, body, fields]).replace("S3cret", "0ther"))
    changed = classified(other[0], other[1], *map(tuple, other[2]))
    assert [digests(request), digests(classified(target, body, *fields))] == [digests(request)] * 2
    assert all(one != another for one, another in zip(digests(request), digests(changed), strict=True))
    if request.forward is not None:
        # The target gets all of it.
        assert b"S3cret" in request.forward


def digests(request: Request) -> list[bytes]:
    return [digest_of(action, "agent:a", "pay") for action in request.actions]
