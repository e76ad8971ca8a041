import pytest
import yaml

from pep.core.errors import ConfigError
from pep.http.openapi import load, parse

DOCUMENT = """
openapi: 3.1.0
info: {title: pay, version: "1"}
servers: [{url: "https://pay.example/v1"}]
paths:
  /:
    get: {operationId: root}
  /charges:
    get:
      operationId: listCharges
      parameters:
        - {name: limit, in: query, schema: {type: integer}}
        - {name: paid, in: query, schema: {type: boolean}}
        - {name: least, in: query, schema: {type: number}}
        - {name: tag, in: query, schema: {type: array, items: {type: string}}}
        - {name: id, in: query, explode: false, schema: {type: array, items: {$ref: "#/components/schemas/Id"}}}
        - {$ref: "#/components/parameters/page"}
        - {name: X-Trace, in: header, schema: {type: string}}
  /charges/latest:
    get: {operationId: latestCharge}
  /charges/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {$ref: "#/components/schemas/Id"}}
    get: {operationId: getCharge}
    delete: {operationId: deleteCharge}
  /charges/{id}.{format}:
    get: {operationId: exportCharge}
  /{kind}/{name}:
    get: {operationId: anything}
  /keys:
    post: {operationId: createKey, x-checkrein-mints-access: true}
  /teams/{team}/keys:
    post: {x-checkrein-mints-access: true}
components:
  schemas:
    Id: {type: [integer, "null"]}
  parameters:
    page: {name: page, in: query, schema: {type: string}}
"""


@pytest.fixture(scope="module")
def api():
    return parse(yaml.safe_load(DOCUMENT), "/v1")


def segments(path):
    return tuple(path.strip("/").split("/"))


@pytest.mark.parametrize(
    ("method", "path", "operation", "parameters"),
    [
        ("GET", "/", "root", {}),
        ("GET", "/charges", "listCharges", {}),
        ("GET", "/charges/latest", "latestCharge", {}),
        ("GET", "/charges/7", "getCharge", {"id": 7}),
        ("GET", "/charges/9007199254740993", "getCharge", {"id": {"$int": "9007199254740993"}}),
        ("DELETE", "/charges/7", "deleteCharge", {"id": 7}),
        ("GET", "/charges/7.pdf", "exportCharge", {"id": "7", "format": "pdf"}),
        ("GET", "/refunds/a b", "anything", {"kind": "refunds", "name": "a b"}),
    ],
)
def test_the_most_concrete_template_is_the_operation(api, method, path, operation, parameters):
    found = api.find(method, segments(path), {})
    assert (found.operation.id, found.parameters, found.opaque) == (operation, parameters, "")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/charges/latest"),
        ("DELETE", "/charges/latest"),  # the less concrete template has it, and is not asked
        ("get", "/charges"),
        ("GET", "/Charges"),
        ("GET", "/v1/charges"),  # goes to the target as /v1/v1/charges
        ("GET", "/charges/7/refunds"),
        ("GET", "/nothing"),
    ],
)
def test_what_the_document_does_not_have_is_no_operation(api, method, path):
    found = api.find(method, segments(path), {})
    assert found is None or found.operation.id == "anything"


def test_an_empty_segment_fits_no_name(api):
    assert api.find("GET", ("charges", ""), {}) is None


def test_parameters_have_the_types_of_the_document(api):
    query = {
        "limit": ["10"],
        "paid": ["true"],
        "least": ["1.5"],
        "tag": ["a", "b"],
        "id": ["1,2"],
        "page": ["2"],
        "other": ["x"],
    }
    assert api.find("GET", ("charges",), query).parameters == {
        "limit": 10,
        "paid": True,
        "least": 1.5,
        "tag": ["a", "b"],
        "id": [1, 2],
        "page": "2",
    }


@pytest.mark.parametrize(
    "query",
    [
        {"limit": ["10", "20"]},
        {"limit": ["ten"]},
        {"limit": ["1e2"]},
        {"limit": ["+1"]},
        {"limit": ["٣"]},
        {"paid": ["True"]},
        {"least": ["1e400"]},
        {"least": ["NaN"]},
        {"least": ["true"]},
        {"id": ["1,x"]},
        {"id": ["1", "2"]},
        {"page": ["1", "2"]},
    ],
)
def test_a_value_of_another_type_is_opaque(api, query):
    found = api.find("GET", ("charges",), query)
    assert found.operation.id == "listCharges"
    assert found.opaque
    assert found.parameters == {}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/keys", ("createKey",)),
        ("/KEYS/", ("createKey",)),
        ("/teams/A/Keys", ("POST /teams/{team}/keys",)),
        ("/key", ()),
    ],
)
def test_what_mints_access_is_found_however_lenient_the_server(api, path, named):
    assert api.mints_access("post", path.split("/")) == named


def test_the_servers_path_stands_before_each_template():
    found = parse(yaml.safe_load(DOCUMENT)).find("GET", ("v1", "charges"), {})
    assert (found.operation.id, found.operation.route) == ("listCharges", "/charges")
    variable = {"url": "https://x/{stage}", "variables": {"stage": {"default": "v2"}}}
    document = {"openapi": "3.0.3", "servers": [variable], "paths": {"/a": {"get": {"operationId": "a"}}}}
    assert parse(document).find("GET", ("v2", "a"), {}).operation.id == "a"


def test_two_templates_of_the_same_shape_are_no_operation():
    paths = {"/a/{x}": {"get": {"operationId": "x"}}, "/a/{y}": {"get": {"operationId": "y"}}}
    assert parse({"openapi": "3.0.3", "paths": paths}).find("GET", ("a", "1"), {}) is None


@pytest.mark.parametrize(
    "document",
    [
        None,
        {"swagger": "2.0"},
        {"openapi": "4.0.0"},
        {"openapi": "3.0.0", "paths": []},
        {"openapi": "3.0.0", "paths": {"a": {"get": {}}}},
        {"openapi": "3.0.0", "paths": {"/{a}/{a}": {"get": {}}}},
        {"openapi": "3.0.0", "paths": {"/a": {"$ref": "other.yaml"}}},
        {"openapi": "3.0.0", "paths": {"/a": {"$ref": "#/missing"}}},
        {"openapi": "3.0.0", "paths": {"/a": {"$ref": "#/paths/~1a"}}},
        {"openapi": "3.0.0", "paths": {"/a": {"get": {"parameters": [1]}}}},
    ],
)
def test_a_document_that_cannot_be_used_stops_the_start(document):
    with pytest.raises(ConfigError):
        parse(document)


def test_a_file_is_read_and_named_where_it_is_wrong(tmp_path):
    path = tmp_path / "api.yaml"
    path.write_text(DOCUMENT)
    assert load(path, "/v1").find("GET", ("charges",), {}).operation.id == "listCharges"
    path.write_text("openapi: [")
    with pytest.raises(ConfigError, match=r"api\.yaml"):
        load(path)
    with pytest.raises(ConfigError, match="missing"):
        load(tmp_path / "missing.yaml")
