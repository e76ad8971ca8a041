"""How many statements one text may have: they are classified at once, while everybody else waits."""

import asyncio

from pep.postgres.parser import DEFAULT_LIMITS, STATEMENT_TOO_COMPLEX, ParserProcess, ParseTree, Unparsable, parse


def test_a_text_has_a_bounded_number_of_statements() -> None:
    most = DEFAULT_LIMITS.max_statements
    tree = parse("select 1;" * most)
    assert isinstance(tree, ParseTree)
    assert len(tree.statements) == most
    refused = parse("select 1;" * (most + 1))
    assert isinstance(refused, Unparsable)
    assert refused.sqlstate == STATEMENT_TOO_COMPLEX


def test_a_child_refuses_them_as_well() -> None:
    async def ask() -> ParseTree | Unparsable:
        process = ParserProcess()
        try:
            return await process.parse("select 1;" * 20_000)
        finally:
            await process.close()

    refused = asyncio.run(ask())
    assert isinstance(refused, Unparsable)
    assert refused.sqlstate == STATEMENT_TOO_COMPLEX
