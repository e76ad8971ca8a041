"""The README against what it speaks of: each key of the configuration, each command, each file and target it names."""

import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

from pdp.cli import app as pdp_app
from pdp.config import Config, Service, load_config
from pdp.v1.config_values import Secret
from pep.cli import app as pep_app
from pep.core.config import Decisions, read
from pep.protocols import MODELS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "README.md").read_text("utf-8")


def rows(begin: str, end: str) -> list[list[str]]:
    """The cells of the tables between two texts of the page, without headings."""
    part = PAGE.split(begin, 1)[1].split(end, 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|") and not re.match(r"\|[-| ]+\|$", line)]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0] not in ("key", "command", "what", "change")]


# --- the configuration ------------------------------------------------------------------------------------------------

# Each table of the reference: where it begins, and what its keys stand below.
TABLES = {
    "file": ("## Configuration", "**`pdp`: the decision service**"),
    "pdp": ("**`pdp`: the decision service**", "**`decisions`: how proxies"),
    "decisions": ("**`decisions`: how proxies", "**`proxies[]`: one for each target**"),
    "proxies": ("**`proxies[]`: one for each target**", "**`proxies[]` with `protocol: postgres`**"),
    "postgres": ("**`proxies[]` with `protocol: postgres`**", "**`proxies[]` with `protocol: http`**"),
    "http": ("**`proxies[]` with `protocol: http`**", "## How it works"),
}


def documented(table: str) -> set[str]:
    """The keys of a table: `a.b`, `.c` in one cell are `a.b` and `a.c`."""
    found = set()
    for row in rows(*TABLES[table]):
        names = [name.partition(":")[0] for name in re.findall(r"`([^`]+)`", row[0])]
        stem = names[0].rpartition(".")[0]
        found |= {stem + name if name.startswith(".") else name for name in names}
    return found


def keys(annotation: object, path: str = "") -> Iterator[str]:
    """Every key that may stand in a section, by its path; `[]` is an item of a list, `NAME` a name of one's own."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not issubclass(annotation, Secret):
        for name, field in annotation.model_fields.items():
            yield from keys(field.annotation, f"{path}.{field.alias or name}".lstrip("."))
    elif origin is tuple and _models(inner):
        yield from keys(inner[0], f"{path}[]")
    elif isinstance(origin, type) and issubclass(origin, Mapping) and _models(inner):
        yield from keys(inner[1], f"{path}.NAME")
    elif _models(inner):
        yield from {key for each in inner if each is not type(None) for key in keys(each, path)}
    else:
        yield path


def _models(inner: tuple[object, ...]) -> bool:
    """Whether a section stands somewhere within."""
    return any(
        (isinstance(each, type) and issubclass(each, BaseModel) and not issubclass(each, Secret))
        or _models(typing.get_args(each))
        for each in inner
    )


def test_the_reference_has_every_key_of_the_file_and_no_other():
    named = {key for key in keys(Config) if key.split(".")[0].rstrip("[]") not in ("pdp", "decisions", "proxies")}
    assert documented("file") == named


def test_the_reference_has_every_key_of_the_decision_service_and_no_other():
    assert documented("pdp") == set(keys(Service))


def test_the_reference_has_every_key_of_how_proxies_reach_it_and_no_other():
    assert documented("decisions") == set(keys(Decisions))


@pytest.mark.parametrize("protocol", sorted(MODELS))
def test_the_reference_has_every_key_of_a_proxy_and_no_other(protocol: str):
    accepted = {re.sub(r"^credentials\.NAME\b", "credentials", key) for key in keys(MODELS[protocol]())}
    named = {re.sub(r"^credentials\.(NAME|default)\b", "credentials", key) for key in documented(protocol)}
    assert accepted - named - documented("proxies") == set()
    assert named - accepted == set()
    assert documented("proxies") - accepted == set()


def test_the_file_for_a_database_of_ones_own_is_read(tmp_path: Path):
    (example,) = re.findall(r"```yaml\n(# checkrein\.yaml\n.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "checkrein.yaml"
    file.write_text(example)
    assert load_config(file).grants[0].resources == ("shop",)
    (proxy,) = read(file, MODELS).proxies
    assert proxy.resource == "shop"


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(program: str, command: Any) -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is None:
        yield program
        return
    for name, each in below.items():
        yield from commands(f"{program} {name}", each)


def test_the_table_of_commands_has_each_and_no_other():
    tree = {name: typer.main.get_command(app) for name, app in (("pdp", pdp_app), ("pep", pep_app))}
    real = {each for name, command in tree.items() for each in commands(name, command)}
    groups = {each.rpartition(" ")[0] for each in real}
    named = set()
    for row in rows("## Commands", "## Configuration"):
        before: list[str] = []
        for text in re.findall(r"`([^`]+)`", row[0]):
            words = [word for word in text.split() if re.fullmatch(r"[a-z]+", word)]
            if not words or text.startswith(("-", "[")):
                continue
            if words[0] in tree:
                before = words[:2] if " ".join(words[:2]) in groups else words[:1]
                words = words[len(before) :]
            named.add(" ".join([*before, words[0]]))
    assert named == real


# --- what it points to ------------------------------------------------------------------------------------------------


def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading():
    for page in [ROOT / "README.md", ROOT / "rego" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            name, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", name):
                continue
            file = page if not name else page.parent / name
            assert file.exists(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
                assert anchor in slugs, f"{page.name}: {target}"


def test_every_path_of_the_tree_that_it_names_is_there():
    named = re.findall(r"`((?:pdp|pep|rego|deploy|tests|bench|docs|proto)/[\w./-]*)`", PAGE)
    assert len(named) > 20
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_every_target_of_make_that_it_names_is_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", PAGE))
    assert {"demo", "test"} <= named
    assert named - targets == set()
