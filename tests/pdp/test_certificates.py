"""The local authority: made once, kept private, certificates renewed in time."""

import datetime
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

import pdp.certificates
from pdp.certificates import Authority, Certificate
from pdp.v1.strict_yaml import ConfigError


def load(certificate: Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate.certificate.read_bytes())


def test_a_proxy_is_named_by_one_uri(tmp_path: Path):
    authority = Authority.open(tmp_path / "state")
    certificate = authority.issue("shop")
    loaded = load(certificate)
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://checkrein/pep/shop"]
    loaded.verify_directly_issued_by(x509.load_pem_x509_certificate(certificate.authority.read_bytes()))
    assert loaded.not_valid_after_utc - datetime.datetime.now(datetime.UTC) < datetime.timedelta(days=91)


def test_nothing_can_be_read_by_others(tmp_path: Path):
    authority = Authority.open(tmp_path / "state")
    authority.issue("shop")
    authority.server()
    authority.command_line()
    files = list((tmp_path / "state").rglob("*"))
    assert len(files) > 8
    for path in [tmp_path / "state", *files]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path):
    (tmp_path / "state").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="run: chmod 700"):
        Authority.open(tmp_path / "state")


def test_certificates_are_kept_until_they_near_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    authority = Authority.open(tmp_path / "state")
    first = load(authority.issue("shop"))
    assert load(Authority.open(tmp_path / "state").issue("shop")) == first
    monkeypatch.setattr(pdp.certificates, "_RENEW_BEFORE", datetime.timedelta(days=91))
    assert load(authority.issue("shop")) != first


@pytest.mark.parametrize("name", ["", "../shop", "a/b", "a b", "x" * 64, "-a", "a\n"])
def test_a_name_that_is_none_gets_no_certificate(tmp_path: Path, name: str):
    with pytest.raises(ConfigError):
        Authority.open(tmp_path / "state").issue(name)


def test_a_half_written_pair_is_replaced(tmp_path: Path):
    authority = Authority.open(tmp_path / "state")
    certificate = authority.issue("shop")
    certificate.key.write_bytes(authority.issue("pay").key.read_bytes())
    before = load(certificate)
    assert load(authority.issue("shop")) != before


def test_processes_that_start_at_once_agree_on_one_authority(tmp_path: Path):
    script = (
        "import sys, pathlib; from pdp.certificates import Authority; state = pathlib.Path(sys.argv[1]);"
        "c = Authority.open(state).issue('shop'); print(c.certificate.read_text() + (state / 'ca.crt').read_text())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path / "state"], stdout=subprocess.PIPE) for _ in range(3)
    ]
    printed = {each.communicate()[0] for each in started}
    assert [each.returncode for each in started] == [0, 0, 0]
    assert len(printed) == 1
