"""`pdp policy`: tests, checks and builds a policy repository, exactly as the decision service would load it.

A sub-application for the command line. It needs no decision service and no configuration, only the files and OPA.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import structlog
import typer

from pdp.config import load_config
from pdp.input import Resource
from pdp.opa.program import OpaFailed, OpaMissing, find_opa
from pdp.policies.bindings import ADMINISTRATION
from pdp.policies.bundle import build as build_bundle
from pdp.policies.checks import Checks
from pdp.policies.problems import PolicyError
from pdp.policies.repository import PolicyRepository
from pdp.policies.repository import read as read_files
from pdp.policy_absent import Variant, variants, weaker
from pdp.v1.strict_yaml import ConfigError

if TYPE_CHECKING:
    from pdp.opa.engine import PolicyEngine

# Questions to one OPA at a time: more only wait in it.
_ABREAST: Final = 8

app = typer.Typer(
    name="policy",
    no_args_is_help=True,
    add_completion=False,
    help="Test, check and build policies. A policy repository is a folder with policies/NAME/NAME.rego and tests beside"
    " them, bindings/data.yaml, and data in classification/, owners/, hours/, parameters/, exceptions/.",
)

Dir = Annotated[Path, typer.Argument(help="The policy repository.", show_default="the current folder")]
OpaPath = Annotated[Path | None, typer.Option("--opa", help="The opa program; else $OPA, or the one on the PATH.")]
Absent = Annotated[
    bool,
    typer.Option(
        "--absent",
        help="Also ask every example of examples/*.json again with each field absent and null:"
        " no answer may become weaker.",
    ),
]


@app.command("test", epilog="Example: pdp policy test rego --absent")
def run_tests(
    directory: Dir = Path(),
    absent: Absent = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name every test.")] = False,
    opa: OpaPath = None,
) -> None:
    """Run the policies' own tests (`opa test`), with the library and the data of the repository."""
    with _told():
        status = asyncio.run(_test(find_opa(opa), directory, verbose=verbose))
        if status == 0 and absent:
            status = asyncio.run(_absent(find_opa(opa), directory))
    raise typer.Exit(status)


@app.command(epilog="Example: pdp policy check rego")
def check(directory: Dir = Path(), absent: Absent = False, opa: OpaPath = None) -> None:
    """Check everything that the decision service checks before it loads policies, and say where it is wrong."""
    with _told():
        asyncio.run(_check(find_opa(opa), directory))
        status = asyncio.run(_absent(find_opa(opa), directory)) if absent else 0
    raise typer.Exit(status)


@app.command(epilog="Example: pdp policy build rego -o bundle.tar.gz -c checkrein.yaml")
def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the bundle is written.")],
    directory: Dir = Path(),
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The configuration whose resources the bindings are expanded for."),
    ] = None,
    opa: OpaPath = None,
) -> None:
    """Check the policies and write one bundle (tar.gz) for an OPA elsewhere; tests are left out of it."""
    with _told():
        resources = _configured(config) if config else []
        if not resources:
            typer.echo("Without resources (--config) the bundle decides about administration only.", err=True)
        revision = asyncio.run(_build(find_opa(opa), directory, resources, output))
        typer.echo(f"{output}: {revision}")


@contextmanager
def _told() -> Iterator[None]:
    """Says what is wrong, one problem a line, and ends with status 1."""
    # The commands say what they find; the engine's log is for the service.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    try:
        yield
    except (PolicyError, OpaFailed, OpaMissing, ConfigError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    finally:
        structlog.reset_defaults()


def _configured(path: Path) -> list[Resource]:
    resources = load_config(path).pdp.resources
    return [Resource(name, each.type, each.labels, each.database or "") for name, each in resources.items()]


async def _test(opa: Path, directory: Path, *, verbose: bool) -> int:
    files = await asyncio.to_thread(read_files, directory, [])
    with tempfile.TemporaryDirectory(prefix="checkrein-") as folder:
        done = await Checks(opa, Path(folder)).test_output(files.snapshot, files.document, verbose=verbose)
    sys.stdout.write(done.out.decode(errors="replace"))
    sys.stderr.write(done.err.decode(errors="replace"))
    return 1 if done.status else 0


async def _check(opa: Path, directory: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="checkrein-") as folder:
        files, _ = await PolicyRepository(directory, [], Checks(opa, Path(folder))).check()
    own = [each for each in files.snapshot.policies if each.path.is_relative_to(directory)]
    policies = {each.path.parent for each in own if not each.is_test}
    typer.echo(f"{directory}: {len(policies)} policies, {sum(each.is_test for each in own)} with tests: in order")


async def _build(opa: Path, directory: Path, resources: Sequence[Resource], output: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="checkrein-") as folder:
        files, checked = await PolicyRepository(directory, resources, Checks(opa, Path(folder))).check()
    bundle = build_bundle(files.snapshot, files.data, files.bindings, checked, resources)
    await asyncio.to_thread(output.write_bytes, bundle.content)
    return bundle.revision


async def _absent(opa: Path, directory: Path) -> int:
    """Asks a real OPA about every variant of every example, as the decision service would; the number that is said."""
    examples = await asyncio.to_thread(_examples, directory)
    if not examples:
        raise PolicyError.at(directory / "examples", 0, "there are no examples, {name: {input, expected}} in *.json")
    found: list[str] = []
    asked = 0
    async with _engine(opa, directory, _resources(examples.values())) as engine:
        for name, document in examples.items():
            base = (await engine.evaluate(document)).document
            if base is None:
                found.append(f"{name}: the policies do not answer")
                continue
            changed = list(variants(document))
            asked += len(changed)
            answers = [answer async for answer in _answers(engine, changed)]
            found += [
                f"{name}: {why}: {variant}"
                for variant, answer in zip(changed, answers, strict=True)
                if (why := weaker(base, answer)) is not None
            ]
    for line in found:
        typer.echo(line, err=True)
    typer.echo(f"{len(examples)} examples, {asked} variants: {len(found) or 'none'} weaker")
    return 1 if found else 0


async def _answers(engine: PolicyEngine, changed: Sequence[Variant]) -> AsyncIterator[Any]:
    for start in range(0, len(changed), _ABREAST):
        some = changed[start : start + _ABREAST]
        for result in await asyncio.gather(*(engine.evaluate(variant.document) for variant in some)):
            yield result.document


@asynccontextmanager
async def _engine(opa: Path, directory: Path, resources: Sequence[Resource]) -> AsyncIterator[PolicyEngine]:
    # Imported here: the client of OPA takes longer to load than most commands of `pdp` to run.
    from pdp.opa.engine import PolicyEngine

    with tempfile.TemporaryDirectory(prefix="checkrein-") as folder:
        async with PolicyEngine(
            opa=opa, policies=directory, resources=resources, state=Path(folder), timeout=10.0, watch=False
        ) as engine:
            if not engine.ready:
                raise OpaFailed(engine.policy_error)
            yield engine


def _examples(directory: Path) -> dict[str, Mapping[str, Any]]:
    """The inputs of the repository's examples, by name. Raises PolicyError."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted((directory / "examples").glob("*.json")):
        try:
            found |= {name: example["input"] for name, example in json.loads(path.read_bytes()).items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PolicyError.at(path, 0, f"is not {{name: {{input, expected}}}} in JSON: {error}") from error
    return found


def _resources(documents: Iterable[Mapping[str, Any]]) -> list[Resource]:
    """The resources that the examples are about, so that the bindings are expanded for them."""
    found: dict[str, Resource] = {}
    for document in documents:
        resource = document["resource"]
        properties = resource["properties"]
        found[resource["id"]] = Resource(
            resource["id"], resource["type"], properties["labels"], properties.get("database", "")
        )
    found.pop(ADMINISTRATION.id, None)
    return list(found.values())
