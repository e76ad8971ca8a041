import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep.postgres.parser import ParserLimits, ParserProcess, ParseTree, Unparsable, fits_in_process, parse
from pep.postgres.parser_child import answer, reduce_constants

T = TypeVar("T")
IN_PROCESS = 32 << 10


def in_child(*texts: str, limits: ParserLimits | None = None) -> list[ParseTree | Unparsable]:
    """Each text after the other, through one ParserProcess with a single child."""

    async def conversation() -> list[ParseTree | Unparsable]:
        parser = ParserProcess(limits or ParserLimits(), children=1)
        try:
            return [await parser.parse(text) for text in texts]
        finally:
            await parser.close()

    return asyncio.run(conversation())


def tree(found: ParseTree | Unparsable) -> ParseTree:
    assert isinstance(found, ParseTree), found
    return found


def refusal(found: ParseTree | Unparsable) -> Unparsable:
    assert isinstance(found, Unparsable), found
    return found


# --- in process -----------------------------------------------------------------------------------------------------


def test_statements_come_with_their_exact_text_and_offset_in_bytes() -> None:
    found = tree(parse("select 'é' ; /* c */ delete from t;;\n update t set a = 1"))
    assert [(s.text, s.location, next(iter(s.node))) for s in found.statements] == [
        ("select 'é' ", 0, "SelectStmt"),
        ("delete from t", 22, "DeleteStmt"),
        ("update t set a = 1", 39, "UpdateStmt"),
    ]
    assert found.redacted == "select 'é' ; /* c */ delete from t;;\n update t set a = 1"


@pytest.mark.parametrize("text", ["", ";", " -- nothing\n", "/* a */;;"])
def test_an_empty_statement_is_a_tree_without_statements(text: str) -> None:
    assert tree(parse(text)).statements == ()


def test_a_syntax_error_says_where_and_repeats_nothing_outside_the_message() -> None:
    found = refusal(parse("select 'é' form form 'S3cret'"))
    assert (found.sqlstate, found.position) == ("42601", 17)
    assert found.message == 'syntax error at or near "form"'
    assert found.reason == "syntax error"
    assert found.redacted == "select ? form form ?"


def test_a_misspelt_statement_leaves_its_words_for_the_record() -> None:
    found = refusal(parse("alter role x pasword 'S3cret'"))
    assert found.message == 'unrecognized role option "pasword"'
    assert (found.reason, found.redacted) == ("unrecognized role option", "alter role x pasword ?")


def test_an_open_quote_leaves_nothing_for_the_record() -> None:
    found = refusal(parse("select 'S3cret"))
    assert "S3cret" in found.message
    assert (found.reason, found.redacted) == ("unterminated quoted string", "")


@pytest.mark.parametrize("text", ["select 1\0; drop table t", "\0", "select '\ud800'", "select 1;\0" + " " * 50_000])
def test_a_nul_or_what_is_not_utf8_is_refused(text: str) -> None:
    assert refusal(parse(text)).sqlstate == "22021"


def test_a_secret_is_hidden_in_the_whole_text_and_in_the_statement() -> None:
    found = tree(parse("select 1; alter role x password 'S3cret'; select set_config('a.token', $2, true)"))
    assert "S3cret" not in found.redacted
    assert found.statements[1].redacted == "alter role x password '***'"
    assert found.statements[2].hidden_parameters == (2,)


def fill(start: str, middle: str, end: str = "", size: int = IN_PROCESS) -> str:
    return start + middle * ((size - len(start) - len(end)) // len(middle)) + end


def nest(start: str, left: str, inner: str, right: str, size: int = IN_PROCESS) -> str:
    times = (size - len(start) - len(inner)) // (len(left) + len(right))
    return start + left * times + inner + right * times


# 32 KiB of each, parsed in process: (text, what comes of it: "" for a tree, else the reason). On two cores, idle, the
# slowest take about 25 ms (wide lists, which become many objects), deep ones up to 15 ms.
HARD = {
    "plus": (fill("select 1", "+1"), "the statement is nested too deeply"),
    "concat": (fill("select ''", "||''"), "the statement is nested too deeply"),
    "parentheses": (nest("select ", "(", "1", ")"), "memory exhausted"),
    "union": (fill("table a", " union all table a"), "the statement is nested too deeply"),
    "cast": (fill("select 1", "::int"), "the statement is nested too deeply"),
    "collate": (fill("select a", " collate b"), "the statement is nested too deeply"),
    "is null": (fill("select a", " is null"), "the statement is nested too deeply"),
    "isnull": (fill("select a", " isnull"), "the statement is nested too deeply"),
    "cross join": (fill("select from a", " cross join a"), "the statement is nested too deeply"),
    "natural join": (fill("select from a", " natural join a"), "the statement is nested too deeply"),
    "case": (nest("select ", "case when ", "a", " then a end"), "the statement is nested too deeply"),
    "subqueries": (nest("", "select(", "select 1", ")"), "memory exhausted"),
    "derived tables": (nest("", "select from(", "select 1", ")a"), "memory exhausted"),
    "exists": (nest("select ", "exists(select ", "1", ")"), "the statement is nested too deeply"),
    "wide": (fill("select a", ",a"), ""),
    "rows": (fill("insert into t values (1)", ",(1)"), ""),
    "parameters": (fill("select $1", ",$1"), ""),
    "with": (nest("", "with a as(", "select 1", ")select 1"), "memory exhausted"),
    "not": (fill("select ", "not ", "a"), "the statement is nested too deeply"),
    "calls": (nest("select ", "f(", "1", ")"), "memory exhausted"),
    "arrays": (nest("select ", "array[", "1", "]"), "the statement is nested too deeply"),
    "time zones": (fill("select a", " at time zone a"), "the statement is nested too deeply"),
    "prefix operators": (fill("select ", "@ ", "1"), "memory exhausted"),
    "grouping sets": (
        nest("select from a group by ", "grouping sets(", "a", ")"),
        "the statement is nested too deeply",
    ),
    "one long operator": (fill("select ", "@", " 1", size=900), "operator too long"),
    "and": (fill("select a", " and a"), ""),
    "subscripts": (fill("select a", "[1]"), ""),
    "fields": (fill("select (a)", ".b"), ""),
    "long names": (fill("select " + "a" * 70, "," + "a" * 70), ""),
    "statements": (fill("", "select;"), "a query has at most 500 statements here; send them in several"),
    "dashes": (fill("select 1--", "-", size=900), ""),
    "stars": (fill("/*", "*", "*/", size=900), ""),
    "digits": (fill("select 1", "1"), ""),
    "strings": (fill("select 'a'", "\n'a'"), ""),
    "quotes": (fill("select ", "'"), "unterminated quoted string"),
    "dollars": (fill("select $a$", "$b"), "unterminated dollar-quoted string"),
    "backslashes": (fill("select ''", ",'\\'", size=IN_PROCESS // 2), ""),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.untraced
def test_what_is_hard_for_the_parser_is_answered_in_process_and_in_time(name: str) -> None:
    text, reason = HARD[name]
    began = time.thread_time()
    # Without the bound on tokens: not even what goes to a child for their number may end this process.
    found = parse(text, ParserLimits(in_process_tokens=IN_PROCESS))
    assert time.thread_time() - began < 2
    if reason:
        assert refusal(found).reason == reason
        assert "'" not in refusal(found).redacted
    else:
        tree(found)


@pytest.mark.parametrize(
    "text",
    [
        fill("select ", "+", "1"),
        nest("select ", "/*", "", "*/") + " 1",
        fill("select 1", "*/"),
        fill("", "/**/", "select 1"),
        fill("select 1", "/*"),
    ],
)
@pytest.mark.untraced
def test_a_run_of_operator_characters_costs_its_square_and_does_not_reach_the_scanner(text: str) -> None:
    assert not fits_in_process(text)
    began = time.thread_time()
    refused = refusal(parse(text))
    assert refused.sqlstate in ("54000", "54001")
    assert time.thread_time() - began < 2


@pytest.mark.parametrize("ruler", ["-" * 900, "=" * 900, "/" + "*" * 900 + "/"])
def test_a_ruler_in_a_comment_is_parsed_in_process(ruler: str) -> None:
    text = f"/* {ruler} */ select 1" if ruler[0] != "/" else f"{ruler} select 1"
    assert fits_in_process(text)
    assert len(tree(parse(text)).statements) == 1


def test_too_long_a_text_is_refused_before_it_is_looked_at() -> None:
    found = refusal(parse("select 1" + " " * (1 << 20)))
    assert (found.sqlstate, found.redacted) == ("54000", "")
    assert refusal(parse("select '" + "é" * (1 << 19) + "'")).sqlstate == "54000"


def test_in_process_a_long_text_is_refused_rather_than_parsed() -> None:
    assert refusal(parse("select 1" + " " * IN_PROCESS)).reason == "the statement is too long to be parsed in process"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="select 1+-*/()'\"$;,.:=[]@aAéU&Ex\\\n\0", max_size=200))
def test_any_text_at_all_gives_an_answer(text: str) -> None:
    match parse(text):
        case ParseTree(statements):
            assert all(statement.text in text for statement in statements)
        case Unparsable(reason, redacted):
            assert reason
            assert "'" not in redacted


# --- in a child -----------------------------------------------------------------------------------------------------


def test_a_child_answers_as_the_process_does() -> None:
    text = "select 'é', a from t where b = $1 ; alter role x password 'S3cret'; select set_config('a.token', $2, true)"
    here = tree(parse(text))
    (there,) = in_child(text, limits=ParserLimits(in_process_bytes=0))
    assert there == here
    bad = "select 'é' form form 'S3cret'"
    assert in_child(bad, limits=ParserLimits(in_process_bytes=0)) == [parse(bad)]


def test_what_kills_the_parser_kills_a_child_and_the_next_statement_is_answered() -> None:
    dead, alive = in_child("select 1" + "+1" * 100_000, "select 1 " + " " * 40_000)
    assert refusal(dead).reason == "the parser did not survive the statement"
    assert len(tree(alive).statements) == 1


def test_a_child_that_uses_up_its_processor_time_is_an_answer() -> None:
    text = "insert into t values " + ",".join("(1,2,3)" for _ in range(100_000))
    (found,) = in_child(text, limits=ParserLimits(child_cpu_seconds=-1))
    assert refusal(found).reason == "the parser did not survive the statement"


def test_a_child_that_uses_up_its_memory_is_an_answer() -> None:
    text = "select a" + ",a" * 200_000
    found, after = in_child(text, "select 1" + " " * 40_000, limits=ParserLimits(child_memory=160 << 20))
    assert isinstance(found, Unparsable)
    tree(after)


def test_a_child_that_takes_too_long_is_ended() -> None:
    (found,) = in_child("select 1" + " " * 40_000, limits=ParserLimits(timeout=0.0))
    assert refusal(found).reason == "the statement took too long to parse"


def test_more_statements_than_children_all_get_their_own_answer() -> None:
    async def conversation() -> list[ParseTree | Unparsable]:
        parser = ParserProcess(ParserLimits(in_process_bytes=0), children=2)
        try:
            return await asyncio.gather(*(parser.parse(f"select {n}") for n in range(20)))
        finally:
            await parser.close()

    assert [tree(found).statements[0].text for found in asyncio.run(conversation())] == [
        f"select {n}" for n in range(20)
    ]


def test_a_caller_that_gives_up_leaves_no_answer_behind_for_the_next() -> None:
    async def conversation() -> ParseTree | Unparsable:
        parser = ParserProcess(ParserLimits(in_process_bytes=0), children=1)
        try:
            first = asyncio.ensure_future(parser.parse("insert into t values " + ",".join(["(1, 2)"] * 50_000)))
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            return await parser.parse("select 2")
        finally:
            await parser.close()

    assert tree(asyncio.run(conversation())).statements[0].text == "select 2"


def lag_while(work: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """The result, and the longest time in seconds for which the event loop was kept from a ticking coroutine.

    Measured in this thread's processor time, so that a busy machine does not count.
    """

    async def conversation() -> tuple[T, float]:
        worst = 0.0
        before = time.thread_time()

        async def tick() -> None:
            nonlocal worst, before
            while True:
                before = time.thread_time()
                await asyncio.sleep(0)
                worst = max(worst, time.thread_time() - before)

        ticker = asyncio.ensure_future(tick())
        result = await work
        ticker.cancel()
        return result, worst

    return asyncio.run(conversation())


@pytest.mark.alone
def test_neither_a_chain_of_operators_nor_a_bulk_insert_holds_the_event_loop_up() -> None:
    rows = ",".join(f"({n}, 'customer number {n}', {n}.25, '2020-01-01'::date)" for n in range(17_000))
    insert = f"insert into t (a, b, c, d) values {rows}"
    assert 850_000 < len(insert) < 1 << 20

    async def work() -> tuple[ParseTree | Unparsable, ParseTree | Unparsable]:
        # What the child may take is no matter here, and the machine may be busy.
        parser = ParserProcess(ParserLimits(timeout=120.0))
        try:
            return await parser.parse("select 1" + "+1" * 100_000), await parser.parse(insert)
        finally:
            await parser.close()

    (chain, bulk), lag = lag_while(work())
    assert refusal(chain).reason == "the parser did not survive the statement"
    assert tree(bulk).statements[0].reduced
    assert lag < 0.05  # 5 to 13 ms were measured; the largest piece decoded at once takes about 20 ms


# --- reduction ------------------------------------------------------------------------------------------------------


def reduced(text: str) -> tuple[dict[str, Any], bool]:
    node = tree(parse(text)).statements[0].node
    return node, reduce_constants(node)


def test_rows_of_constants_are_reduced_to_a_few_of_each_shape() -> None:
    rows = "(1, 'a', $1), (2, 'b', $2)," * 20 + "(default, 'c', $3), (3, now(), 'd'), (4, f(x), 'e')"
    node, changed = reduced(f"insert into t values {rows}")
    kept = node["InsertStmt"]["selectStmt"]["SelectStmt"]["valuesLists"]
    assert changed
    assert len(kept) == 3 + 1 + 2
    assert [("FuncCall" in row["List"]["items"][1]) for row in kept] == [False] * 4 + [True] * 2


def test_elements_of_in_and_array_are_reduced_and_references_kept() -> None:
    node, changed = reduced(f"select 1 from t where a in ({'1,' * 50} b) and c = any(array[{'2,' * 50} d])")
    assert changed
    text = str(node)
    assert "'b'" in text
    assert "'d'" in text
    assert text.count("'ival': {'ival': 2}") == 3


@pytest.mark.parametrize(
    "text",
    [
        f"select f({','.join(['1'] * 50)})",  # another number of arguments is another function
        f"select {','.join(['1'] * 50)}",
        f"insert into t values {','.join(['(a.b)'] * 50)}",
        f"select * from t where a in ({','.join(['b'] * 50)})",
        "insert into t values " + ",".join(f"('t{n}'::regclass)" for n in range(50)),
        "insert into t values " + ",".join(f"('t{n}'::regclass[])" for n in range(50)),
        "insert into t values " + ",".join(f"('t{n}'::some_type)" for n in range(50)),
        "select row(" + ",".join(["1"] * 50) + ")",
        "insert into t values (1), (2), (3)",
    ],
)
def test_whatever_could_reference_something_is_kept(text: str) -> None:
    node, changed = reduced(text)
    assert not changed
    assert node == tree(parse(text)).statements[0].node


def test_a_plain_type_counts_by_its_name_as_written() -> None:
    casts = ",".join([*("('1'::int4)",) * 10, *("('1'::evil.int4)",) * 10, *("('1'::int)",) * 10])
    node, _ = reduced(f"insert into t values {casts}")
    names = [
        str(row["List"]["items"][0]["TypeCast"]["typeName"]["names"])
        for row in node["InsertStmt"]["selectStmt"]["SelectStmt"]["valuesLists"]
    ]
    assert sorted(set(names)) == sorted(names[::3])
    assert len(names) == 9


def test_a_tree_that_is_still_too_large_is_refused() -> None:
    text = "insert into t values " + ",".join(["(now())"] * 10_000)
    (head,) = answer(text, ParserLimits())
    assert b"a statement has too many parts" in head
    many = ";".join(["select a, b, c from t"] * 15_000)
    (head,) = answer(many, ParserLimits(max_statements=15_000))
    assert b"the statements have too many parts" in head
    (head,) = answer("select 1, 2", ParserLimits(max_tokens=3))
    assert b"too many tokens" in head
