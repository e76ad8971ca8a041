"""SQLAlchemy on psycopg and on asyncpg, and LangChain's SQLDatabase, under a policy that allows everything."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from langchain_community.utilities import SQLDatabase
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tests.fix_postgres import PostgresServer
from tests.pep.postgres.compared import Both, both

# A composite type is nothing that SQLAlchemy reflects, with a proxy or without.
pytestmark = pytest.mark.filterwarnings("ignore:Did not recognize type:sqlalchemy.exc.SAWarning")

DRIVERS = ["psycopg", "asyncpg"]


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="author", order_by="Book.title")


class Book(Base):
    __tablename__ = "books"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("authors.id"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


@pytest.fixture(scope="module")
def pair(postgres18: PostgresServer) -> Iterator[Both]:
    with both(postgres18, "clients_sqlalchemy") as running:
        yield running


def _same(pair: Both, driver: str, scenario: Callable[[sa.Connection], Any]) -> Any:
    """The scenario on a connection of this driver, directly and through the proxy."""

    async def over_asyncpg(url: str) -> Any:
        engine = create_async_engine(url, poolclass=NullPool)
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(scenario)
        finally:
            await engine.dispose()

    def run(url: str) -> Any:
        url = url.replace("postgresql://", f"postgresql+{driver}://")
        if driver == "asyncpg":
            return asyncio.run(over_asyncpg(url))
        engine = sa.create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            return scenario(connection)

    return pair.same_url(run)


@pytest.mark.parametrize("driver", DRIVERS)
def test_reflection_of_everything(pair: Both, driver: str) -> None:
    def scenario(connection: sa.Connection) -> Any:
        metadata = sa.MetaData()
        metadata.reflect(connection, views=True)
        return {
            table.name: [
                (column.name, str(column.type), column.nullable, column.primary_key, str(column.foreign_keys))
                for column in table.columns
            ]
            for table in metadata.tables.values()
        }

    tables = _same(pair, driver, scenario)
    assert set(tables) >= {"people", "orders", "big", "copied"}
    assert [column[0] for column in tables["orders"]] == ["id", "person", "amount"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_inspector(pair: Both, driver: str) -> None:
    def scenario(connection: sa.Connection) -> Any:
        inspector: Any = sa.inspect(connection)
        return {
            name: repr(found)
            for name, found in {
                "schemas": inspector.get_schema_names(),
                "tables": inspector.get_table_names(),
                "views": inspector.get_view_names(),
                "materialized": inspector.get_materialized_view_names(),
                "temporary": inspector.get_temp_table_names(),
                "sequences": inspector.get_sequence_names(),
                "definition": inspector.get_view_definition("big"),
                "columns": [(c["name"], str(c["type"]), c["default"]) for c in inspector.get_columns("people")],
                "of a view": [(c["name"], str(c["type"])) for c in inspector.get_columns("big")],
                "key": inspector.get_pk_constraint("people"),
                "foreign": inspector.get_foreign_keys("orders"),
                "indexes": inspector.get_indexes("orders"),
                "unique": inspector.get_unique_constraints("people"),
                "checks": inspector.get_check_constraints("orders"),
                "comment": inspector.get_table_comment("people"),
                "options": inspector.get_table_options("people"),
                "enums": inspector.get_enums(),
                "domains": inspector.get_domains(),
                "has": (inspector.has_table("people"), inspector.has_table("nowhere"), inspector.has_table("big")),
            }.items()
        }

    found = _same(pair, driver, scenario)
    assert found["has"] == "(True, False, True)"
    assert "amount > 0" in found["checks"]
    assert "'who'" in found["comment"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_orm(pair: Both, driver: str) -> None:
    def scenario(connection: sa.Connection) -> Any:
        saw: list[Any] = []
        Base.metadata.create_all(connection)
        connection.commit()
        with orm.Session(connection) as session:
            authors = [
                Author(name=f"author {number}", books=[Book(title=f"book {number}.{each}") for each in range(3)])
                for number in range(50)
            ]
            session.add_all(authors)
            session.commit()
            query = sa.select(Author).where(Author.name.like("author 1%")).order_by(Author.name)
            loaded = session.scalars(query.options(orm.selectinload(Author.books))).all()
            saw.append([(author.name, [book.title for book in author.books]) for author in loaded])
            joined = sa.select(Author.name, sa.func.count()).join(Book).group_by(Author.name).order_by(Author.name)
            saw.append([tuple(row) for row in session.execute(joined.limit(3))])
            session.execute(sa.update(Book).where(Book.title.like("%.0")).values(title=Book.title + "!"))
            saw.append(session.scalar(sa.select(sa.func.count()).where(Book.title.like("%!"))))
            session.rollback()
            session.add(Author(name="author 1"))
            with pytest.raises(sa.exc.IntegrityError) as caught:
                session.flush()
            saw.append(getattr(caught.value.orig, "sqlstate", None))
            session.rollback()
            with session.begin_nested():
                session.add(Author(name="nested"))
            saw.append(session.scalar(sa.select(sa.func.count()).select_from(Author)))
            session.execute(sa.delete(Book))
            session.commit()
            saw.append(session.scalar(sa.select(sa.func.count()).select_from(Book)))
            session.commit()
        Base.metadata.drop_all(connection)
        connection.commit()
        return saw

    saw = _same(pair, driver, scenario)
    assert len(saw[0]) == 11
    assert saw[2:] == [50, "23505", 51, 0]


@pytest.mark.parametrize("driver", DRIVERS)
def test_core_statements(pair: Both, driver: str) -> None:
    def scenario(connection: sa.Connection) -> Any:
        saw: list[Any] = []
        people = sa.Table("people", sa.MetaData(), autoload_with=connection, include_columns=["id", "name", "size"])
        query = sa.select(people).where(people.c.id.in_([1, 3]))
        saw += [[tuple(row) for row in connection.execute(query)] for _ in range(7)]
        result = connection.execute(sa.text("select generate_series(1, 35)"))
        saw.append([len(list(part)) for part in result.partitions(10)])
        connection.execute(people.insert(), [{"id": number, "name": f"p{number}"} for number in range(10, 60)])
        saw.append(connection.scalar(sa.select(sa.func.count()).select_from(people)))
        connection.rollback()
        with pytest.raises(sa.exc.ProgrammingError):
            connection.execute(sa.text("select * from nowhere"))
        connection.rollback()
        connection.execution_options(isolation_level="AUTOCOMMIT")
        saw.append(connection.scalar(sa.text("select count(*) from people")))
        return saw

    saw = _same(pair, driver, scenario)
    assert saw[7:] == [[10, 10, 10, 5], 53, 3]


def test_langchains_database(pair: Both) -> None:
    def scenario(url: str) -> Any:
        database = SQLDatabase.from_uri(url.replace("postgresql://", "postgresql+psycopg://"), view_support=True)
        try:
            return (
                sorted(database.get_usable_table_names()),
                database.get_table_info(["people", "orders", "big"]),
                database.run("select name from people order by id"),
                database.run_no_throw("select * from nowhere"),
                database.get_context()["table_names"],
            )
        finally:
            database._engine.dispose()

    names, info, rows, failed, _ = pair.same_url(scenario)
    assert {"people", "orders", "big"} <= set(names)
    assert "CREATE TABLE orders" in info
    assert "Ada" in rows
    assert "does not exist" in failed
