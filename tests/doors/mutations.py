"""Takes each check at the doors away, one at a time, and sees that a test misses it. A developers' tool: `make doors`.

Each mutation is a text of one file that is replaced in a copy of the tree, and the test that has to fail then, which
passes in the copy as it is. A check that nobody would miss is found like that, and so is a test that holds nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREES = ("pdp", "pep", "rego", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Mutation:
    """`old` stands exactly once in `file`."""

    line: str
    file: str
    old: str
    new: str
    test: str


TOKENS = "tests/doors/test_tokens.py::"
ROTATION = "tests/doors/test_rotation.py::"
REVOCATION = "tests/doors/test_revocation.py::"
SESSIONS = "tests/doors/test_session_tokens.py::"
SERVICE = "tests/pdp/test_decision_service.py::"
AUTHENTICATOR = "tests/pdp/identity/test_authenticator.py::"
KEY_SETS = "tests/pdp/identity/test_key_sets.py::"
OTHER_PROXY = f"{SERVICE}test_a_token_of_one_proxy_is_refused_from_another_on_each_call"
CERTIFICATE = f"{ROTATION}test_a_certificate_is_refused_that_is"

AUTHENTICATE = "pdp/identity/authenticator.py"
STRICT = "pdp/identity/strict_tokens.py"
PEERS = "pdp/service/peers.py"
DOORS = "pdp/service/doors.py"
KEYS = "pdp/service/session_tokens.py"
LIVE = "pdp/service/sessions.py"

MUTATIONS = (
    Mutation("a caller shows a certificate", "pdp/certificates.py", "require_client_authentication=True",
             "require_client_authentication=False", f"{SERVICE}test_a_caller_without_a_certificate_gets_no_connection"),
    Mutation("only configured proxies call", PEERS, "or presented.uris[0] not in self._grants:",
             "or (self._grants.setdefault(presented.uris[0], ('*',)) is None):", CERTIFICATE),
    Mutation("one name", PEERS, "len(presented.uris) == 1 else None", "presented.uris else None", CERTIFICATE),
    Mutation("the name is a URI, not a host's", PEERS,
             "tuple(names.get_values_for_type(x509.UniformResourceIdentifier))",
             "tuple(each.value for each in names if isinstance(each.value, str))", CERTIFICATE),
    Mutation("a certificate has an end", PEERS, "if presented.ends <= self._now():", "if False:",
             f"{ROTATION}test_a_certificate_that_runs_out_is_refused_on_the_connection_that_it_made"),
    Mutation("an authority may go", PEERS, "if not self._authorities.trust(presented):", "if False:",
             f"{ROTATION}test_the_authority_of_proxies_changes_while_the_service_runs"),
    Mutation("the listener reads its files again", "pdp/certificates.py", "if state == self._read:",
             "if self._read:", f"{ROTATION}test_the_authority_of_proxies_changes_while_the_service_runs"),
    Mutation("a proxy may be revoked", PEERS, '(("proxy", uri), ("certificate", presented.fingerprint))', "()",
             f"{REVOCATION}test_a_revoked_proxy_makes_no_call_and_its_open_streams_end"),
    Mutation("calls move to the new certificate", "pep/core/decision_client.py",
             "old, self._connections = self._connections, fresh", "old = fresh",
             f"{ROTATION}test_a_proxys_certificate_changes_under_a_load_of_statements_and_its_streams_move_over"),
    Mutation("streams move to the new certificate", "pep/core/decision_client.py", "        old.retired.set()\n", "",
             f"{ROTATION}test_a_proxys_certificate_changes_under_a_load_of_statements_and_its_streams_move_over"),
    Mutation("a new certificate is tried out", "pep/core/decision_client.py",
             "await fresh.try_out(self._open_timeout)", "await asyncio.sleep(0)",
             f"{ROTATION}test_a_certificate_that_does_not_work_is_not_taken"),
    Mutation("a session is of a resource that is granted", "pdp/service/decision_service.py",
             "if not peer.serves(request.resource) or request.resource", "if request.resource",
             f"{SERVICE}test_a_proxy_opens_sessions_on_its_own_resource_only"),
    Mutation("a session's token is of one proxy", LIVE,
             "if claims.proxy != peer.uri or not peer.serves(claims.resource):", "if False:", OTHER_PROXY),
    Mutation("only its own proxy keeps a session", "pdp/store/sessions.py",
             "_t.proxy == proxy, _t.state == SessionState.OPEN.value)", "_t.state == SessionState.OPEN.value)",
             OTHER_PROXY),
    Mutation("only its own proxy records a session", "pdp/service/audit_service.py",
             "session.proxy == peer.uri", "session is not None", OTHER_PROXY),
    Mutation("a session's token is of its kind", KEYS, 'or header.get("typ") != TOKEN_TYPE', "",
             f"{SESSIONS}test_an_unsigned_token_and_one_of_another_key_are_refused"),
    Mutation("a session's token is signed", KEYS, "options: jwt.types.Options = {",
             'options: jwt.types.Options = {"verify_signature": False, ',
             f"{SESSIONS}test_a_token_is_signed_with_ed25519_and_nothing_of_it_can_be_changed"),
    Mutation("a session's token ends", KEYS, "if claims.expires_at + grace <= self._now():", "if False:",
             f"{SESSIONS}test_a_token_ends_by_itself_though_it_verified_before"),
    Mutation("a session ends with its credential", KEYS, "min(now + self._life, not_after)", "now + self._life",
             f"{SESSIONS}test_a_token_does_not_outlive_the_clients_credential"),
    Mutation("a key that is gone verifies nothing", KEYS, "            self._verified.clear()\n", "            pass\n",
             f"{SESSIONS}test_a_key_that_is_gone_verifies_no_more_though_its_token_verified_before"),
    Mutation("a new key waits for the replicas", KEYS, "if each.signs_from <= now), known[-1])",
             "if True), known[-1])", f"{SESSIONS}test_keys_come_by_age_and_go_when_nothing_they_signed_is_good"),
    Mutation("algorithms are pinned", AUTHENTICATE, "if algorithm not in issuer.algorithms:", "if algorithm is None:",
             f"{TOKENS}test_a_key_of_another_curve_is_no_key_of_the_algorithm"),
    Mutation("a key serves its own algorithm", "pdp/identity/key_sets.py",
             "if key.algorithm_name == algorithm]", "]",
             f"{TOKENS}test_a_key_serves_the_algorithm_that_the_set_names_for_it"),
    Mutation("two keys of one id are none", "pdp/identity/key_sets.py",
             "return fitting[0] if len(fitting) == 1 else None", "return fitting[0] if fitting else None",
             f"{TOKENS}test_two_keys_of_one_id_are_none"),
    Mutation("unknown key ids do not hammer an issuer", "pdp/identity/key_sets.py",
             "if wanted and (self._tried is None or now - self._tried >= pause):", "if wanted:",
             f"{KEY_SETS}test_a_new_key_is_found_but_unknown_ids_do_not_hammer_the_issuer"),
    Mutation("old keys are not used for ever", "pdp/identity/key_sets.py",
             "if age is None or age >= self._issuer.jwks.stale.total_seconds():", "if age is None:",
             f"{KEY_SETS}test_keys_are_used_while_the_issuer_is_away_but_not_for_ever"),
    Mutation("a member once", STRICT, "if len(found) != len(members):", "if False:",
             f"{TOKENS}test_a_claim_that_is_given_twice_is_refused"),
    Mutation("no token in a token", STRICT, 'if "cty" in header:', "if False:",
             f"{TOKENS}test_a_token_inside_a_token_is_refused"),
    Mutation("one kind", STRICT, "if not isinstance(kind, str) or kind", "if isinstance(kind, str) and '+x' in kind",
             f"{TOKENS}test_a_token_of_another_kind_by_the_same_issuer_is_refused"),
    Mutation("a key id has a length", STRICT, "if len(key_id) > _LONGEST_KEY_ID:", "if False:",
             f"{TOKENS}test_a_huge_key_id_and_a_huge_token_are_refused_before_anything_is_looked_up"),
    Mutation("a token has a length", STRICT, "if len(token) > LONGEST:", "if False:",
             f"{TOKENS}test_a_huge_key_id_and_a_huge_token_are_refused_before_anything_is_looked_up"),
    Mutation("an audience is one resource", AUTHENTICATE, "if _audiences(claims) != [resource]:", "if False:",
             f"{AUTHENTICATOR}test_claims_that_do_not_fit_are_refused"),
    Mutation("an end", AUTHENTICATE, 'if _instant(claims["exp"]) + self._skew <= now:', "if False:",
             f"{AUTHENTICATOR}test_claims_that_do_not_fit_are_refused"),
    Mutation("a beginning", AUTHENTICATE, "if any(start - self._skew > now for start in starts):", "if False:",
             f"{AUTHENTICATOR}test_claims_that_do_not_fit_are_refused"),
    Mutation("clocks may differ a little", AUTHENTICATE, "if any(start - self._skew > now for start in starts):",
             "if any(start > now for start in starts):", f"{AUTHENTICATOR}test_clocks_may_differ_a_little"),
    Mutation("one use is one", AUTHENTICATE, "not await self._doors.spend(who.once, use)", "False",
             f"{TOKENS}test_a_token_for_one_use_has_one"),
    Mutation("one use is one, on all replicas", DOORS, "return has == mine", "return True",
             "tests/doors/test_one_time.py::test_of_two_replicas_one_lets_it_in"),
    Mutation("whoever is revoked is not let in", AUTHENTICATE, "(why := self._doors.revoked(who)) is not None",
             "(why := None) is not None",
             f"{REVOCATION}test_a_revoked_subject_is_cut_off_and_does_not_come_back"),
    Mutation("what is open of them ends", DOORS,
             "await self._sessions.end(session.id, SessionState.KILLED, why)", "pass",
             f"{REVOCATION}test_a_revoked_subject_is_cut_off_and_does_not_come_back"),
    Mutation("what they wait for does not happen", DOORS, "await self._approvals.cancel(approval, why)", "pass",
             f"{REVOCATION}test_a_question_without_an_open_session_is_cancelled_too"),
    Mutation("a root takes its agents along", "pdp/identity/revocation.py",
             '    yield "subject", _subject(subject.root.type, subject.root.id)\n', "",
             f"{REVOCATION}test_a_revoked_subject_is_cut_off_and_does_not_come_back"),
    Mutation("another spelling is the same subject", "pdp/identity/revocation.py",
             'return f"{type}:{same_person(id)}"', 'return f"{type}:{id}"',
             f"{REVOCATION}test_a_revoked_subject_is_cut_off_and_does_not_come_back"),
    Mutation("what others revoke is in force here", "pdp/server.py",
             "background.create_task(every(LOOK, parts.cutter.look)),", "",
             f"{REVOCATION}test_what_another_replica_revokes_is_in_force_here_by_itself"),
    Mutation("a proxy that was away is told", "pdp/service/decision_service.py",
             "for each in ended],", "for each in ended[:0]],",
             f"{REVOCATION}test_a_revocation_reaches_a_proxy_that_was_away"),
    Mutation("unread revocations let nobody in", DOORS,
             "if self._read_at is None or self._monotonic() - self._read_at > _TRUSTED:", "if False:",
             f"{REVOCATION}test_nobody_is_let_in_while_it_is_not_known_who_is_revoked"),
    Mutation("revoking is decided", "pdp/service/people.py",
             'if answer.decision.WhichOneof("verdict") != "allow" or answer.decision.allow.obligations:', "if False:",
             f"{REVOCATION}test_revoking_is_decided_and_recorded"),
    Mutation("decisions a second", "pdp/service/rates.py", "if bucket.left < 1:", "if False:",
             "tests/doors/test_rates.py::test_over_the_limit_is_a_denial_that_says_so_and_a_neighbour_is_answered"),
    Mutation("sessions of a subject", LIVE,
             "if stored.count_open(connection, root) >= self._limits.sessions_per_subject:", "if False:",
             f"{SERVICE}test_sessions_that_open_at_once_do_not_each_find_the_share_free"),
)  # fmt: skip


def survives(mutation: Mutation, tree: Path) -> str:
    """Why the check is not held by its test, or ""."""
    file = tree / mutation.file
    text = file.read_text("utf-8")
    if (found := text.count(mutation.old)) != 1:
        return f"the text stands {found} times in {mutation.file}"
    file.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    try:
        ran = _run(tree, [mutation.test])
        # 1: tests failed. A file that is no Python any more, or a test that is not there, says nothing.
        return "" if ran.returncode == 1 else f"the test passes (status {ran.returncode})\n{ran.stdout[-600:]}"
    finally:
        file.write_text(text, "utf-8")


def _run(tree: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", "timeout=120", *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("words", nargs="*", help="only mutations whose line has one of these words")
    words = options.parse_args().words
    chosen = [each for each in MUTATIONS if not words or any(word in each.line for word in words)]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="doors-") as folder:
        tree = Path(folder)
        for each in TREES:
            source = ROOT / each
            (shutil.copytree if source.is_dir() else shutil.copy)(source, tree / each)
        for mutation in chosen:
            why = survives(mutation, tree)
            failed += bool(why)
            sys.stdout.write(f"{'NOT HELD' if why else 'held    '}  {mutation.line}  {why}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - failed} of {len(chosen)} checks are held by their tests\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
