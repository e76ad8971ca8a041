"""Rarer corners of the grammar: each of them is understood, so that no ordinary statement is refused for its form."""

from pathlib import Path

from pep.postgres.classify import classify
from pep.postgres.parser import ParseTree, parse
from tests.fix_classify import INPUT, Classifier


def test_the_corners_of_the_grammar_are_understood(of: Classifier) -> None:
    for name in ("c", "x"):
        of.hold(name, "SELECT id FROM orders")
    opaque = {}
    count = 0
    for line in (Path(__file__).parent / "grammar.sql").read_text().splitlines():
        tree = parse(line)
        assert isinstance(tree, ParseTree), (tree, line)
        for statement in tree.statements:
            found = classify(statement, of.catalog, of.facts, of.names)
            INPUT.validate(found.properties)
            count += 1
            if found.opaque:
                opaque[statement.text] = found.opaque
    assert opaque == {}
    assert count > 120
