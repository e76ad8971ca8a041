"""What a policy repository may hold, held against a real OPA: every mistake is refused with file and line."""

import asyncio
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pdp.input import Resource
from pdp.library import library_dir
from pdp.opa.program import WITHHELD
from pdp.policies.bundle import Bundle, keep, last_good
from pdp.policies.checks import Checks
from pdp.policies.problems import PolicyError
from pdp.policies.reads import on_demand
from pdp.policies.repository import PolicyRepository
from tests.fix_policies import SHOP, Repository

Load = Callable[..., Bundle]


@pytest.fixture
def load(opa_path: Path, tmp_path: Path) -> Load:
    def run(repository: Repository, *resources: Resource) -> Bundle:
        checks = Checks(opa_path, tmp_path)
        return asyncio.run(PolicyRepository(repository.root, resources or (SHOP,), checks).bundle())

    return run


@pytest.fixture
def refusal(load: Load) -> Callable[[Repository], str]:
    """All problems, one a line, paths relative to the repository."""

    def run(repository: Repository) -> str:
        with pytest.raises(PolicyError) as caught:
            load(repository)
        return str(caught.value).replace(f"{repository.root}/", "")

    return run


def unpack(bundle: Bundle) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(bundle.content), mode="r:gz") as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}


GUARD = "policies/guard/guard.rego"

# Rules that would be loaded and do nothing, each in a policy of its own, and what is said of them.
FORMS = {
    "complete": ('deny if input.subject.id == "bad"', "deny must be a set"),
    "value": ('deny := "no" if input.subject.id == "bad"', "deny must be a set"),
    "default": ("default mask := false", "mask must be a set"),
    "object": ('deny["x"] := true', "deny must be a set"),
    "nested": ("deny.x contains 1", "deny must be a set"),
    "function": ("deny(x) := x", "deny must be a set"),
    "misspelt": ('dney contains {"code": "x"} if input.subject.id == "bad"', "did you mean deny?"),
    "public": ('helps if input.subject.id == "x"', "starts with _"),
    "field": ('deny contains {"code": "x"} if input.subject.idd == "bad"', "known here: id, properties"),
}


def test_a_rule_that_would_do_nothing_is_refused_with_its_line(repository, refusal):
    for name, (text, _) in FORMS.items():
        repository.write(f"policies/{name}/{name}.rego", f"package policies.{name}\n\n{text}\n")
    problems = refusal(repository).splitlines()
    assert len(problems) == len(FORMS)
    for problem, (name, (_, said)) in zip(problems, sorted(FORMS.items()), strict=True):
        assert problem.startswith(f"policies/{name}/{name}.rego:3: "), problem
        assert said in problem, problem


# The compiler ends at the first step that finds anything, so each has a load of its own.
UNCOMPILED = {
    "an unsafe variable": ('deny contains {"code": x}', 3, "unsafe"),
    "a syntax error": ("deny contains {", 4, "eof"),
    "an unused import": ("import data.checkrein.subject", 3, "unused"),
    "calls that reach out": (
        """
_http if http.send({"method": "get", "url": input.subject.id}).status_code == 200
_environment := opa.runtime().env
_lookup := net.lookup_ip_addr(input.subject.id)
_sign := io.jwt.encode_sign({}, {}, {})
_raw := io.jwt.encode_sign_raw("", "{}", "{}")""",
        4,
        "http.send",
    ),
}


@pytest.mark.parametrize("case", UNCOMPILED)
def test_what_does_not_compile_is_refused_with_its_line(repository, refusal, case):
    text, line, said = UNCOMPILED[case]
    repository.write(GUARD, f"package policies.guard\n\n{text}\n")
    problems = refusal(repository).splitlines()
    assert any(each.startswith(f"{GUARD}:{line}: ") and said in each for each in problems), problems
    for withheld in WITHHELD if said in WITHHELD else ():
        assert any(withheld in each for each in problems), withheld


def test_a_withheld_builtin_can_be_granted_by_name(repository, opa_path, tmp_path):
    repository.write(GUARD, "package policies.guard\n\n_environment := opa.runtime().env\n")
    checks = Checks(opa_path, tmp_path, granted=["opa.runtime"])
    assert asyncio.run(PolicyRepository(repository.root, [SHOP], checks).bundle()).revision


def test_a_file_defines_the_package_of_its_folder_and_no_other(repository, refusal):
    wrong = {
        "policies/guard/a.rego": "policies.open",  # a second owner
        "policies/guard/b.rego": "checkrein.subject",  # the library, opened again
        "policies/guard/c.rego": "checkrein.decision",
        "policies/guard/d.rego": "system.authz",
        "policies/guard/e.rego": "policies.guard.deeper",
        "policies/guard/f.rego": "policies",
        "policies/guard/g_test.rego": "policies.guard",
        "policies/guard/h_test.rego": "policies.guard_test",
        "policies/guard/i_test.rego": "checkrein.decision_test",
    }
    for name, package in wrong.items():
        repository.write(name, f"package {package}\n\n_x := 1\n")
    problems = refusal(repository).splitlines()
    assert [each.split(";")[0] for each in problems] == [
        f"{name}:1: defines the package {package}" for name, package in sorted(wrong.items())
    ]


def test_two_files_may_share_the_folder_s_package(repository, load):
    repository.write("policies/guard/more.rego", 'package policies.guard\n\nhint contains {"message": "x"}\n')
    assert "policies/guard/more.rego" in unpack(load(repository))


MISPLACED = {
    "Rego beside the policies": ("extra.rego", "package extra\n", "policies/NAME/ only"),
    "Rego in a data folder": ("owners/owners.rego", "package owners\n", "policies/NAME/ only"),
    "Rego too deep": ("policies/guard/deep/x.rego", "package policies.guard\n", "policies/NAME/ only"),
    "a policy called like a test": ("policies/x_test/x.rego", "package policies.x_test\n", "no name for a policy"),
    "contributions as data": ("policies/guard/data.yaml", "deny: []\n", "data is loaded from"),
    "a misspelt data folder": ("clasification/data.yaml", "{}\n", "did you mean classification/?"),
    "data at the top": ("data.json", "{}", "data is loaded from"),
    "a data file of another name": ("owners/shop.yaml", "{}\n", "called data.yaml"),
    "an addition to the library": ("checkrein/subject/more.rego", "package checkrein.subject\n", "comes with the"),
}


@pytest.mark.parametrize("case", MISPLACED)
def test_a_file_that_would_not_be_loaded_as_it_looks_is_refused(repository, refusal, case):
    name, text, said = MISPLACED[case]
    repository.write(name, text)
    problems = refusal(repository)
    assert problems.startswith(f"{name}: ")
    assert said in problems


def test_the_library_itself_may_lie_in_the_folder(repository, load, refusal):
    shutil.copytree(library_dir() / "checkrein", repository.root / "checkrein")
    assert load(repository).revision
    repository.write("checkrein/decision/decision.rego", "package checkrein.decision\n")
    assert refusal(repository).startswith("checkrein/decision/decision.rego: belongs to checkrein")


BINDINGS = {
    "an unknown policy": ("\n- {policy: gaurd, match: {id: shop}}", 2, "did you mean guard?"),
    "an unknown key": ("- {policy: guard, mach: {id: shop}, match: {id: x}}", 1, "did you mean match?"),
    "an unknown key of match": ("- {policy: guard, match: {label: {env: prod}}}", 1, "did you mean labels?"),
    "no match": ("- {policy: guard}", 1, "has a match"),
    "an empty match": ("- {policy: guard, match: {}}", 1, "has a match"),
    "an empty list of names": ("- {policy: guard, match: {id: []}}", 1, "match.id"),
    "an unknown mode": ("- {policy: guard, match: {id: x}, mode: enfroce}", 1, "mode is enforce, or left out"),
    "a mode that is no text": ("- {policy: guard, match: {id: x}, mode: null}", 1, "mode is enforce, or left out"),
    "a shadow": ("\n\n- {policy: guard, match: {id: x}, mode: shadow}", 3, "mode: shadow is not there yet"),
    "an object": ("guard: {id: x}", 1, "must be a list"),
    "a key twice": ("- {policy: guard, match: {id: x}, policy: open}", 1, "policy stands here a second time"),
    "not YAML": ("- {policy: guard", 1, "expected"),
}


@pytest.mark.parametrize("case", BINDINGS)
def test_a_binding_that_would_bind_nothing_is_refused_with_its_line(repository, refusal, case):
    text, line, said = BINDINGS[case]
    repository.write("bindings/data.yaml", text + "\n")
    problems = refusal(repository)
    assert problems.startswith("bindings/data.yaml:")
    assert f":{line}: " in problems or case == "not YAML"
    assert said in problems


def test_bindings_are_expanded_for_each_resource_and_for_administration(repository, load):
    repository.write(
        "bindings/data.yaml",
        """
        - {policy: open, match: {id: "*"}, mode: enforce}
        - {policy: guard, match: {type: [postgres, mongodb], labels: {env: prod}}}
        - {policy: guard, match: {id: [web-*, pay, shop]}}
        - {policy: open, match: {type: checkrein}}
        """,
    )
    web = Resource("web-1", "ssh", {"env": "prod"})
    test = Resource("test", "postgres", {"env": "test"})
    bundle = load(repository, SHOP, web, test)
    bound = {resource: [each["policy"] for each in here] for resource, here in bundle.bindings.items()}
    assert bound == {"checkrein": ["open"], "shop": ["open", "guard"], "web-1": ["open", "guard"], "test": ["open"]}
    assert {each["mode"] for here in bundle.bindings.values() for each in here} == {"enforce"}
    assert json.loads(unpack(bundle)["data.json"])["bindings"] == bundle.bindings


def test_what_is_in_exceptions_is_there_for_policies_to_read(repository, load):
    repository.write("exceptions/data.yaml", "break_glass: {people: [ana], until: 2026-12-01T00:00:00Z}\n")
    repository.write(GUARD, 'package policies.guard\n\ndeny contains {"code": "x", "message": "y"} if '
                            'not input.subject.id in data.exceptions.break_glass.people\n')  # fmt: skip
    bundle = load(repository)
    data = json.loads(unpack(bundle)["data.json"])
    # An instant stays text, as it was written.
    assert data["exceptions"] == {"break_glass": {"people": ["ana"], "until": "2026-12-01T00:00:00Z"}}
    assert "exceptions" in json.loads(unpack(bundle)[".manifest"])["roots"]


def test_a_policy_that_ships_may_be_bound_and_a_repository_s_own_takes_its_place(repository, load):
    repository.bind("open", "guard", "baseline")
    shipped = unpack(load(repository))["policies/baseline/baseline.rego"]
    assert shipped == (library_dir() / "policies/baseline/baseline.rego").read_bytes()
    repository.write("policies/baseline/baseline.rego", "package policies.baseline\n")
    assert unpack(load(repository))["policies/baseline/baseline.rego"] == b"package policies.baseline\n"


def test_a_bundle_holds_no_tests_and_nothing_of_the_testing_library(repository, load):
    repository.write("policies/guard/guard_test.rego", "package guard_test\n\ntest_x if true\n")
    bundle = load(repository)
    files = unpack(bundle)
    assert not [name for name in files if name.endswith("_test.rego") or "testing" in name]
    assert "checkrein/decision/decision.rego" in files
    manifest = json.loads(files[".manifest"])
    assert manifest["revision"] == bundle.revision
    assert {"checkrein", "policies", "bindings", "classification"} <= set(manifest["roots"])
    assert "system" not in manifest["roots"]
    built = json.loads(files["data.json"])["checkrein"]["built"]
    assert (built["revision"], built["version"]) == (bundle.revision, bundle.version)


def test_the_same_files_give_the_same_bundle_and_any_change_another_revision(repository, load):
    first = load(repository)
    assert load(repository) == first
    revisions = {first.revision}
    repository.write("owners/data.yaml", 'shop: {public.orders: ["group:sales"]}\n')
    revisions.add(load(repository).revision)
    repository.write(GUARD, "package policies.guard\n")
    revisions.add(load(repository).revision)
    repository.bind("open")
    revisions.add(load(repository).revision)
    revisions.add(load(repository, Resource("other", "postgres")).revision)
    assert len(revisions) == 5


def test_a_test_that_fails_is_named_with_its_line(repository, refusal):
    repository.write("policies/guard/guard_test.rego", "package guard_test\n\ntest_it if 1 == 2\n")
    assert refusal(repository) == "policies/guard/guard_test.rego:3: test_it fails"


def test_a_test_may_use_the_testing_library(repository, load):
    repository.write(
        "policies/guard/guard_test.rego",
        """
        package guard_test

        import data.checkrein.testing

        test_bad_is_denied if _answer.verdict == "deny"

        _answer := testing.decide(testing.connect(testing.agent("bad", [])), {"open", "guard"})
        """,
    )
    assert load(repository).revision


def test_what_travels_on_demand_does_only_where_a_bound_policy_can_read_it(repository, load):
    repository.write(GUARD, 'package policies.guard\n\ndeny contains {"code": "x"} if _p.statement.text == ""\n'
                            "\n_p := input.action.properties\n")  # fmt: skip
    assert load(repository).input_paths("shop") == on_demand()
    repository.bind("open")
    assert load(repository).input_paths("shop") == ()


def test_the_last_good_bundle_is_bound_anew_for_other_resources(repository, load, tmp_path):
    path = tmp_path / "bundle.tar.gz"
    assert last_good(path, [SHOP]) is None
    bundle = load(repository)
    keep(bundle, path)
    assert last_good(path, [SHOP]) == bundle
    web = Resource("web", "ssh")
    assert last_good(path, [web]).bindings.keys() == {"checkrein", "web"}
    path.write_bytes(bundle.content[:100])
    with pytest.raises(PolicyError, match=r"bundle\.tar\.gz: the kept bundle cannot be read"):
        last_good(path, [SHOP])


def test_a_folder_that_is_not_there_and_bindings_that_are_not_there_are_named(repository, refusal):
    shutil.rmtree(repository.root / "bindings")
    assert refusal(repository) == "bindings: the bindings are one file, bindings/data.yaml"
    shutil.rmtree(repository.root)
    assert refusal(repository).endswith("is not a folder")
