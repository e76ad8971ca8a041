"""`pdp token`, `pdp certificate`, `pdp status`, and the command line as such."""

import asyncio
import datetime
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from cryptography import x509

from pdp.certificates import Authority
from pdp.cli import app
from pdp.identity.authenticator import Authenticator
from pdp.identity.subject import Party
from pdp.identity.tokens import open_issuer
from tests.pdp.commanding import OWNER, as_, pdp
from tests.pdp.serving import Script, configure, folder, result, serving

CLAIMS = ("graph", "node", "run", "thread", "task")
CLAIMED = ("support", "read_orders", "r-17", "t-1", "k")
NODE = [part for name, value in zip(CLAIMS, CLAIMED, strict=True) for part in (f"--{name}", value)]
BOT = ("token", "--subject", "agent:support:bot", "--group", "agents", "--group", "bots", "--audience", "shop")
ANA = ("--on-behalf-of", "user:ana", "--behalf-group", "support")


def test_a_token_made_here_is_alone_on_the_output_and_says_what_was_asked():
    with folder() as path:
        config = configure(path)
        done = asyncio.run(pdp(*BOT, *NODE, *ANA, "--ttl", "5m", "-c", str(path / "checkrein.yaml")))
        assert (done.status, done.err, done.out.count("\n")) == (0, "", 1)
        made = asyncio.run(Authenticator(config.pdp.identity, open_issuer(config)).bearer(done.out.strip(), "shop"))
        subject = made.subject
        assert (subject.type, subject.id, subject.groups) == ("agent", "support:bot", ("agents", "bots"))
        assert subject.on_behalf_of == Party("user", "ana", ("support",))
        assert subject.workflow == dict(zip(CLAIMS, CLAIMED, strict=True))
        assert "minted_by" not in subject.behind
        left = made.expires_at - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(minutes=4) < left <= datetime.timedelta(minutes=5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--subject", "robot:x", "--audience", "shop"), "--subject robot:x: must be agent:NAME"),
        (("--subject", "agent", "--audience", "shop"), "--subject agent: must be"),
        (("--subject", "agent:", "--audience", "shop"), "1 to 255 characters"),
        (("--subject", "agent:a\x1b[1A", "--audience", "shop"), "printable"),
        (("--subject", "agent:a", "--audience", "shp"), "no resource is named shp; known: shop, pay, checkrein"),
        (("--subject", "agent:a", "--audience", "shop", "--ttl", "5"), '"30s"'),
        (("--subject", "agent:a", "--audience", "shop", "--ttl", "2d"), "--ttl: a token lives between"),
        (("--subject", "agent:a", "--audience", "shop", "--behalf-group", "g"), "goes with --on-behalf-of"),
    ],
)
def test_a_token_that_would_not_be_accepted_is_not_made(arguments, said: str, capsys, monkeypatch):
    with folder() as path:
        configure(path)
        status = here(["token", *arguments, "-c", str(path / "checkrein.yaml")], monkeypatch)
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert said in err
    assert "\x1b" not in err


def here(arguments: list[str], monkeypatch) -> int:
    """The command in this process: quicker, for what needs no service."""
    from pdp import cli

    monkeypatch.setattr("sys.argv", ["pdp", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_elsewhere_the_service_makes_the_token_and_names_who_asked():
    def policy(document):
        return result("deny" if document["subject"]["id"] == "eve" else "allow")

    async def scenario():
        with folder() as path:
            async with serving(path, Script(policy=policy)) as service:
                address = ("--address", str(service.config.listen))
                made, refused, other = await asyncio.gather(
                    as_(service, OWNER, *BOT, *NODE, *address),
                    as_(service, Party("user", "eve"), *BOT, *address),
                    as_(service, OWNER, "token", "--subject", "user:ana", "--audience", "shop", *address),
                )
                assert made.status == 0, made.err
                authenticator = Authenticator(service.config.pdp.identity, open_issuer(service.config))
                subject = (await authenticator.bearer(made.out.strip(), "shop")).subject
                assert (subject.id, subject.behind) == ("support:bot", ("olga",))
                assert (refused.status, refused.out) == (4, "")
                assert "token.mint on checkrein is denied" in refused.err
                assert other.status == 4
                assert "speaks for no other person" in other.err

    asyncio.run(scenario())


def test_a_command_that_is_told_everything_needs_no_configuration():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                certificate = service.authority.command_line()
                token = path / "token"
                token.write_text(service.token(OWNER, audience="checkrein") + "\n")
                files = {"cert": certificate.certificate, "key": certificate.key, "ca": certificate.authority}
                options = [part for name, file in files.items() for part in (f"--{name}", str(file))]
                reach = ["--address", str(service.config.listen), "--server-name", "pdp.checkrein.internal"]
                done = await pdp("status", *reach, *options, "--token-file", str(token), cwd=path / "state")
                assert done.status == 0, done.err
                half = await pdp("status", *reach, *options[:2])
                assert (half.status, half.err) == (2, "pdp: --cert, --key and --ca go together\n")

    asyncio.run(scenario())


def test_a_certificate_is_issued_to_be_taken_away(monkeypatch, capsys):
    with folder() as path:
        config = configure(path, more="  proxies: [{certificate: far, resources: [shop]}]")
        arguments = ["certificate", "issue", "far", "--out", str(path / "out"), "-c", str(path / "checkrein.yaml")]
        assert here(arguments, monkeypatch) == 0
        out, err = capsys.readouterr()
        assert err == ""
        for file in ("far.crt", "far.key", "ca.crt"):
            assert str(path / "out" / file) in out
        assert stat.S_IMODE((path / "out" / "far.key").stat().st_mode) == 0o600
        made = x509.load_pem_x509_certificate((path / "out" / "far.crt").read_bytes())
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [each.value for each in names] == ["spiffe://checkrein/pep/far"]
        authority = x509.load_pem_x509_certificate((path / "out" / "ca.crt").read_bytes())
        made.verify_directly_issued_by(authority)
        assert Authority.open(config.state).issue("far").certificate.read_bytes() == (path / "out/far.crt").read_bytes()
        assert here(["certificate", "issue", "nobody", "-c", str(path / "checkrein.yaml")], monkeypatch) == 0
        assert "No resource is served by it yet" in capsys.readouterr().err


def test_status_says_what_is_in_force_and_what_is_wrong():
    async def scenario():
        with folder() as path:
            engine = Script(revision="sha256:abc")
            async with serving(path, engine) as service:
                plain = await pdp("status", "-c", str(path / "checkrein.yaml"))
                assert plain.status == 0
                assert "decides" in plain.out
                whole = await as_(service, OWNER, "status", "--wait", "--timeout", "5s")
                assert whole.status == 0, whole.err
                for said in ("sha256:abc", "in force everywhere", "0 open", "0 pending", "answers"):
                    assert said in whole.out
                engine.changes = [True]
                assert "have just changed" in (await as_(service, OWNER, "status")).out
                engine.changes = [True, True]
                assert "in force everywhere" in (await as_(service, OWNER, "status", "--wait", "--timeout", "5s")).out
                assert engine.changes == []
                engine.policy_error = "policies/p.rego:3: no \x1b[red]such rule\npolicies/q.rego:9: nor this"
                wrong = await as_(service, OWNER, "status", "--wait", "--timeout", "5m")
                assert wrong.status == 1
                assert "  policies/p.rego:3: no ␛[red]such rule␊\n  policies/q.rego:9: nor this" in wrong.out
                engine.policy_error, engine.ready = "", False
                unready = await as_(service, OWNER, "status")
                assert unready.status == 1
                assert "does not answer" in unready.out

    asyncio.run(scenario())


def commands(command: Any, *names: str) -> Iterator[list[str]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield list(names)
        return
    for name, each in below.items():
        yield from commands(each, *names, name)


@pytest.mark.parametrize("command", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_explains_itself(command: list[str], monkeypatch, capsys):
    assert here([*command, "--help"], monkeypatch) == 0
    out = capsys.readouterr().out
    assert f"Usage: pdp {' '.join(command)}" in out
    assert "Example" in out


def test_a_mistake_in_the_file_is_said_with_its_line_and_a_wrong_word_with_the_usage(
    monkeypatch, capsys, tmp_path: Path
):
    file = tmp_path / "c.yaml"
    file.write_text("version: 1\nstate: s\npdp:\n  policies: {dir: p}\n  resorces: {}\n")
    assert here(["token", "--subject", "agent:a", "--audience", "x", "-c", str(file)], monkeypatch) == 1
    assert f'{file}:5: unknown key "resorces" in pdp; did you mean "resources"?' in capsys.readouterr().err
    assert here(["approvals", "aprove"], monkeypatch) == 2
    assert here(["sessions", "kill", "s-1"], monkeypatch) == 2
