"""What is secret in a request is not in what policies, people and records are told; an approval is bound to it."""

import base64
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
        "user[password]", "DB_PASSWORD", "user[pass]", "user[0][otp]", "login.pwd[0]", "password2", "refresh_tokens",
        "apiKeyAndroid", "password_valid", "bearer", "db_pass", "otp_code", "recoveryCodes", "pa\u017f\u017fword",
        "ａｐｉ＿ｋｅｙ", "to\u212aen", "x-vault-token", "data.attributes.clientSecret",
    ],
)  # fmt: skip
def test_a_name_says_that_there_is_a_secret(name):
    assert secrets.is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "key", "code", "author", "page_token", "nextPageToken", "progressToken", "max_tokens", "token_type",
        "session_id", "secret_name", "access_key_id", "password_policy", "secretary", "compass", "bypass", "monkey",
        "design", "message", "tokens", "tokenCount", "credentialType", "secretNames", "boarding_pass", "tokens[0]",
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
        ('{"api_key": "S3cret"}', '{"api_key": "***"}'),
        ('{"a": "{\\"b\\": \\"{\\\\\\"pass\\\\\\\\u0077ord\\\\\\": \\\\\\"S3cret\\\\\\"}\\"}"}', None),
        ('log: {\\"password\\": \\"S3cret\\"} end', 'log: {\\"password\\": ***} end'),
        ("https://me:S3@cret@db.example/x", "https://***@db.example/x"),
        ("https://S3cretS3cretS3cret@git.example/x", "https://***@git.example/x"),
        ("ssh://git@git.example/x", "ssh://git@git.example/x"),
        (
            "https://s3.example/a?X-Amz-Date=1&X-Amz-Signature=S3cret",
            "https://s3.example/a?X-Amz-Date=1&X-Amz-Signature=***",
        ),
        ("https://blob.example/a?sv=1&sig=S3cret&se=2", "https://blob.example/a?sv=1&sig=***&se=2"),
        ("next=https%3A%2F%2Fme%3AS3cret%40x.example", "next=https://***@x.example"),
        ("u=1&pass%77ord=S3cret", "u=1&password=***"),
        ("drop table a -- pass%77ord=S3cret", "drop table a -- password=***"),
        ("password: S3cret; rm -rf /", "password: ***; rm -rf /"),
        ("authorization: Token S3cret; rm -rf /", "authorization: ***; rm -rf /"),
        ("cookie: a=S3cret; b=S3cret; rm -rf /", "cookie: ***; rm -rf /"),
        ("was {&quot;password&quot;: &quot;S3cret&quot;}", None),
        ("Server=x;User Id=sa;Pwd=S3cret;Timeout=3", "Server=x;User Id=sa;Pwd=***;Timeout=3"),
        ("AccountName=a;AccountKey=S3cret==;", "AccountName=a;AccountKey=***;"),
        ("curl -u me:S3cret https://x.example", "curl -u *** https://x.example"),
        ("mysql -h db --password S3cret -e 'select 1'", "mysql -h db --password *** -e 'select 1'"),
        ("curl -H 'Authorization: Token S3cret' https://x.example", "curl -H 'Authorization: ***' https://x.example"),
        ("GET / HTTP/1.1\r\nCookie: a=S3cret; b=S3cret\r\nHost: x", "GET / HTTP/1.1\r\nCookie: ***\r\nHost: x"),
        ("ALTER ROLE a PASSWORD 'S3''cret'; select 1", "ALTER ROLE a PASSWORD ***; select 1"),
        ("CREATE USER a IDENTIFIED BY 'S3cret'", "CREATE USER a IDENTIFIED BY ***"),
        ('{ login(password: """S3"cret""", user: "a") }', '{ login(password: ***, user: "a") }'),
        ('{ login(password: "S3\\"cret", user: "a") }', '{ login(password: ***, user: "a") }'),
        ('{ login(passwords: ["S3cret", "S3cret"]) { id } }', "{ login(passwords: ***) { id } }"),
        ('{ login(credentials: {user: "a", pin: "S3cret"}) { id } }', "{ login(credentials: ***) { id } }"),
        ('query ($password: String! = "S3cret") { a }', "query ($password: ***) { a }"),
        (
            "<user><ns:password type='x'>S3cret</ns:password><id>1</id></user>",
            "<user><ns:password type='x'>***</ns:password><id>1</id></user>",
        ),
        ("<password><![CDATA[S3<cret]]></password>", "<password>***</password>"),
        ("user: me\npassword: S3cret S3cret, S3cret\nport: 1", "user: me\npassword: ***\nport: 1"),
        ("password: |\n  S3cret\n  S3cret\nport: 1", "password: ***port: 1"),
        ("export DB_PASSWORD=S3cret; ls", "export DB_PASSWORD=***; ls"),
        ("x" * 70 + "_password=S3cret ok", "x" * 70 + "_password=*** ok"),
        ("cursor " + base64.b64encode(b'{"password": "S3cret"}').decode(), 'cursor {"password": "***"}'),
        ("ｐａｓｓｗｏｒｄ=S3cret", None),
        ("see https://x.example:80/a?b=c@d and page_token=1", "see https://x.example:80/a?b=c@d and page_token=1"),
        (
            "cursor " + base64.b64encode(b'{"id": 1, "after": 2}').decode(),
            "cursor " + base64.b64encode(b'{"id": 1, "after": 2}').decode(),
        ),
        ("the secretary has a key: none", "the secretary has a key: none"),
    ],
)
def test_a_text_loses_what_looks_like_a_secret_and_nothing_else(text, kept):
    found = secrets.text(text)
    assert "S3" not in found
    assert kept is None or found == kept


@pytest.mark.parametrize(
    "text",
    ['password="$(rm -rf /)"', "password='`rm -rf /`'", 'mysql --password "$(cat /etc/passwd)"'],
)
def test_what_a_shell_would_run_is_shown(text):
    assert secrets.text(text) == text


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


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ([{"name": "DB_PASSWORD", "value": "S3cret"}], [{"name": "DB_PASSWORD", "value": "***"}]),
        ([{"op": "replace", "path": "/users/1/password", "value": "S3cret"}], None),
        ({"name": "password", "value": "drop table a"}, {"name": "password", "value": "drop table a"}),
        (["password", "drop table a"], ["password", "drop table a"]),
        ([{"name": "password", "text": "drop table a"}], [{"name": "password", "text": "drop table a"}]),
        ({"args": ["-u", "me", "--password", "S3cret"]}, {"args": ["-u", "me", "--password", "***"]}),
        ([["Authorization", "S3cret"], ["Accept", "x"]], [["Authorization", "***"], ["Accept", "x"]]),
        ({"api_keys": {"sk_live_S3cret": {"ok": True}}}, {"api_keys": {"***": {"ok": True}}}),
        ({"https://me:S3cret@x.example": 1, "https://me:S3crets@x.example": 2}, None),
        ({"query": "mutation($p: String) { login(password: $p, user: $u) }", "variables": {"p": "S3cret", "u": "a"}},
         {"query": "mutation($p: String) { login(password: ***, user: $u) }", "variables": {"p": "***", "u": "a"}}),
        ({"payload": '{"a": [1, {"token": "S3cret"}]}'}, {"payload": '{"a": [1, {"token": "***"}]}'}),
        ({"title": "Your password", "text": "Click here"}, {"title": "Your password", "text": "Click here"}),
    ],
)  # fmt: skip
def test_a_value_whose_name_stands_beside_it_is_hidden(document, shown):
    found = secrets.hidden(document)
    assert "S3cret" not in json.dumps(found)
    assert shown is None or found == shown


@pytest.mark.parametrize("length", [1 << 18])
@pytest.mark.parametrize(
    "piece",
    [
        "password",
        'password="',
        "://",
        "://a:",
        "bearer ",
        "-----BEGIN PRIVATE KEY",
        "eyJaaaaaaaa.",
        "eyJ",
        "a: ",
        "a=[",
        "password: [",
        "password\\",
        "<a ",
        "<password>",
        "--a ",
        "\n a:",
        "a.",
        "$",
        "password: |\n ",
        "&amp;",
        "%25",
        "{",
        '["',
        "authorization: ",
        "-u a:",
        "identified by ",
        "a[b]",
        "@a:",
    ],
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
