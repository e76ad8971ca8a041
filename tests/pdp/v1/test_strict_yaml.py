"""Every mistake in a configuration file is named with its key and line, and no value is repeated."""

import datetime
from pathlib import Path

import pytest
from pydantic import Field

from pdp.v1.addresses import Address, TcpAddress, UnixAddress
from pdp.v1.config_values import Duration, FilePath, Secret, Size
from pdp.v1.strict_yaml import ConfigError, StrictModel, load, parse


class Limits(StrictModel):
    sessions: int = 10
    statement_bytes: Size = 1024


class Upstream(StrictModel):
    name: str
    password: Secret | None = None
    wait: Duration = datetime.timedelta(seconds=1)


class File(StrictModel):
    version: int
    limits: Limits = Limits()
    upstreams: tuple[Upstream, ...] = ()
    named: dict[str, Upstream] = Field(default_factory=dict)
    listen: Address | None = None
    state: FilePath | None = None


def read(text: str) -> File:
    return parse(text, File, name="a.yaml", base=Path("/etc/x"))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        read(text)
    return str(error.value).split("\n")


def test_a_correct_file_is_read_with_its_types():
    got = read(
        "version: 1\nlimits: {sessions: 3, statement_bytes: 2MiB}\nlisten: unix:run/p.sock\nstate: .s\n"
        "upstreams:\n- {name: no, wait: 500ms}\n"
    )
    assert got.limits == Limits(sessions=3, statement_bytes=2 << 20)
    assert got.upstreams == (Upstream(name="no", wait=datetime.timedelta(milliseconds=500)),)
    assert got.listen == UnixAddress(Path("/etc/x/run/p.sock"))
    assert got.state == Path("/etc/x/.s")
    assert read("version: 1\nlisten: '[::1]:80'\n").listen == TcpAddress("::1", 80)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nlimts: {}\n", 'a.yaml:2: unknown key "limts"; did you mean "limits"?'),
        ("version: 1\nlimits:\n  sesions: 1\n", 'a.yaml:3: unknown key "sesions" in limits; did you mean "sessions"?'),
        ("version: 1\nlimits:\n  zzz: 1\n", 'a.yaml:3: unknown key "zzz" in limits; known: sessions, statement_bytes'),
        (
            "version: 1\nupstreams:\n- name: a\n- name: b\n  pasword: x\n",
            'a.yaml:5: unknown key "pasword" in upstreams[1]; did you mean "password"?',
        ),
        (
            "version: 1\nnamed:\n  a:\n    nam: b\n    name: c\n",
            'a.yaml:4: unknown key "nam" in named.a; did you mean "name"?',
        ),
        ("version: 1\nlimits: {sessions: '3'}\n", "a.yaml:2: limits.sessions: should be a valid integer"),
        ("version: 1\nlimits: {sessions: yes}\n", "a.yaml:2: limits.sessions: should be a valid integer"),
        ("version: 1\nversion: 2\n", 'a.yaml:2: "version" is already given in line 1'),
        ("upstreams: []\n", "a.yaml:1: version is missing"),
        ("version: 1\nupstreams:\n- wait: 1s\n", "a.yaml:3: upstreams[0].name is missing"),
        ("version: &x 1\nlimits: *x\n", "a.yaml:2: anchors and aliases are not read here"),
        ("version: !!python/name:os.system 1\n", "a.yaml:1: tags are not read here"),
        ("version: !x 1\n", "a.yaml:1: tags are not read here"),
        ("version: [\n", "a.yaml:2: not YAML: expected the node content, but found '<stream end>'"),
        ("version: 1\nlisten: 80\n", 'a.yaml:2: listen: must be "HOST:PORT" or "unix:PATH"'),
        (
            f"version: 1\nlisten: unix:{'x' * 120}\n",
            "a.yaml:2: listen: is a socket path of 127 bytes, and the system allows 107; choose a shorter folder",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, expected: str):
    assert problems(text) == [expected]


def test_all_mistakes_are_reported_in_the_order_of_the_file():
    got = problems("version: 1\nupstreams:\n- {name: 1, wait: 5}\nlimits: {statement_bytes: 5MB}\nx: 1\n")
    assert [line.split(":")[1] for line in got] == ["3", "3", "4", "5"]


def test_a_literal_secret_is_an_error_that_does_not_repeat_it():
    (got,) = problems("version: 1\nupstreams: [{name: a, password: hunter2}]\n")
    assert "a secret never stands in this file" in got
    assert "hunter2" not in got


@pytest.mark.parametrize("secret", ["{}", "{env: A, file: b}", "{env: A, ttl: 1s}", "{command: []}"])
def test_a_secret_is_exactly_one_reference(secret: str):
    assert len(problems(f"version: 1\nupstreams: [{{name: a, password: {secret}}}]\n")) == 1


def test_secrets_are_read_from_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "password").write_text("from file\n\n")
    (tmp_path / "a.yaml").write_text("version: 1\nupstreams: [{name: a, password: {file: password}}]\n")
    secret = load(tmp_path / "a.yaml", File).upstreams[0].password
    assert secret is not None
    assert secret.resolve() == "from file\n"
    monkeypatch.setenv("A_SECRET", "from env")
    assert Secret(env="A_SECRET").resolve() == "from env"
    command = Secret(command=("printf", "from%scommand", " "))
    assert command.resolve() == "from command"
    assert "from command" not in repr(command)


@pytest.mark.parametrize(
    "secret",
    [
        Secret(env="NOT_SET_AT_ALL"),
        Secret(file=Path("/nonexistent")),
        Secret(command=("false",)),
        Secret(command=("/x",)),
    ],
)
def test_a_secret_that_is_not_there_says_so(secret: Secret):
    with pytest.raises(ConfigError):
        secret.resolve()


def test_the_answer_of_a_command_is_kept_for_its_time(tmp_path: Path):
    script = ("sh", "-c", f"echo x >> {tmp_path}/runs; wc -l < {tmp_path}/runs")
    kept = Secret(command=script)
    assert kept.resolve() == kept.resolve()
    asked_again = Secret(command=script, ttl=datetime.timedelta(0))
    assert asked_again.resolve() != asked_again.resolve()


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read it: No such file"):
        load(tmp_path / "none.yaml", File)
