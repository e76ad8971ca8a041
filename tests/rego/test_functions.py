"""The policy's list of functions that only compute, beside what the classifier says of each."""

import re

from pep.postgres.functions import Effect, effect

from .conftest import REGO


def names() -> set[str]:
    text = (REGO / "checkrein" / "functions" / "functions.rego").read_text()
    return set(re.findall(r'"(\w+)"', text[text.index("_names := {") :]))


def test_what_only_computes_does_nothing_else_to_the_classifier() -> None:
    found = names()
    assert len(found) > 1500
    harmless = {Effect.HARMLESS, Effect.COLLECTING}
    # SHOW says what current_setting says; the last gives back locks that this session holds.
    assert {name for name in found if effect(name) not in harmless} == {"current_setting", "pg_advisory_unlock_all"}
