"""The library's list of protocols is the schema's: one that it does not know would be denied whatever it says."""

import json

from .conftest import REGO

INPUT = json.loads((REGO / "schemas" / "input.json").read_text())
LIST = (REGO / "checkrein" / "protocols" / "protocols.rego").read_text()


def protocols() -> set[str]:
    """Whatever speaks of an action for a target; administration has no target, and the statement is what was said."""
    return set(INPUT["$defs"]["action"]["properties"]["properties"]["properties"]) - {"statement", "checkrein"}


def test_every_protocol_says_whether_it_was_understood_and_what_it_makes() -> None:
    assert protocols()
    for protocol in protocols():
        definition = INPUT["$defs"][protocol]
        assert definition["additionalProperties"] is False, protocol
        assert {"opaque", "mints_access"} <= set(definition["required"]), protocol
        assert definition["properties"]["opaque"]["anyOf"][0]["enum"] == [False], protocol
        assert definition["properties"]["mints_access"]["$ref"] == "#/$defs/names", protocol


def test_the_library_looks_at_every_protocol() -> None:
    for field in ("opaque", "mints_access"):
        for protocol in protocols():
            assert f'\n{field}["{protocol}"] := input.action.properties.{protocol}.{field}\n' in LIST
        assert LIST.count(f"\n{field}[") == len(protocols())
