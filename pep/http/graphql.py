"""What a GraphQL request asks for: its operation, the fields it selects, and the names that the answer has for them.

No schema is known: a field is the path of the names that lead to it, and all that a request may select is said, so
conditions (@include, @skip) and the types of fragments do not count. What names its document elsewhere (a persisted
query) is opaque. GraphQL specification, October 2021; GraphQL over HTTP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
)

from pep.http.bodies import Unclassifiable

MOST_TOKENS: Final = 10_000
# Fragments that use fragments multiply; so much of them is followed.
MOST_SELECTIONS: Final = 20_000
MOST_NESTED: Final = 64
MEMBERS: Final = frozenset({"query", "variables", "operationName", "extensions"})
_FOLDED: Final = {name.casefold(): name for name in MEMBERS}


@dataclass(frozen=True, slots=True)
class Document:
    """`aliases`: path in the answer -> path in the schema, for those that differ; None where neither is known.

    `opaque` is why what is asked for is not known, "" where it is.
    """

    operation: str = ""
    name: str = ""
    fields: tuple[str, ...] = ()
    aliases: Mapping[str, str] | None = None
    opaque: str = ""

    def properties(self) -> dict[str, Any]:
        """As the policy input has it. Only of a document that is understood."""
        found: dict[str, Any] = {"operation": self.operation, "fields": list(self.fields)}
        if self.name:
            found["name"] = self.name
        if self.aliases:
            found["aliases"] = dict(self.aliases)
        return found


def unknown(reason: str) -> Document:
    return Document(opaque=reason)


def read(body: Any) -> Document:
    """What a JSON body asks for: one request, or an array of them. Raises Unclassifiable."""
    if not isinstance(body, list):
        return _request(body)
    if not body:
        raise Unclassifiable("its batch of GraphQL requests is empty")
    return _together([_request(each) for each in body])


def document(text: str, operation_name: str | None) -> Document:
    """What the chosen operation of a document asks for. Raises Unclassifiable."""
    try:
        parsed = parse(text, no_location=True, max_tokens=MOST_TOKENS)
    except GraphQLError:
        raise Unclassifiable("its GraphQL document has an error, or is too long") from None
    except RecursionError:
        raise Unclassifiable("its GraphQL document is nested too deep") from None
    operations, fragments = _definitions(parsed)
    chosen = _chosen(operations, operation_name)
    walk = _Walk(fragments)
    walk.selections(chosen.selection_set, (), (), frozenset())
    if not walk.fields:
        raise Unclassifiable("its GraphQL operation selects nothing")
    name = chosen.name.value if chosen.name else ""
    return Document(chosen.operation.value, name, tuple(walk.fields), walk.aliases)


def _request(request: Any) -> Document:
    if not isinstance(request, dict):
        raise Unclassifiable("its body is no GraphQL request")
    if any(_FOLDED.get(name.casefold(), name) != name for name in request):
        raise Unclassifiable("its GraphQL request has a member whose name differs by case from what is expected")
    if not isinstance(request.get("variables"), dict | None):
        raise Unclassifiable("the variables of its GraphQL request are no object")
    text, name = request.get("query"), request.get("operationName")
    if not isinstance(text, str | None) or not isinstance(name, str | None):
        raise Unclassifiable("the query of its GraphQL request, or the operation's name, is no text")
    if text is None:
        return unknown("the GraphQL request names a document that is kept elsewhere")
    if not request.keys() <= MEMBERS or not _own_document(text, request.get("extensions")):
        # Which of the two the server runs is not known.
        return unknown("the GraphQL request may name another document than the one it holds")
    return document(text, name)


def _own_document(text: str, extensions: Any) -> bool:
    """Whether a persisted query, where one is named, is this one."""
    if extensions is None:
        return True
    if not isinstance(extensions, dict):
        return False
    named = {name: value for name, value in extensions.items() if name.casefold() == "persistedquery"}
    if not named:
        return True
    persisted = named.get("persistedQuery")
    return isinstance(persisted, dict) and persisted.get("sha256Hash") == hashlib.sha256(text.encode()).hexdigest()


def _together(documents: Sequence[Document]) -> Document:
    for each in documents:
        if each.opaque:
            return each
    if len({each.operation for each in documents}) > 1:
        raise Unclassifiable("its batch of GraphQL requests mixes queries and mutations")
    aliases: dict[str, str] = {}
    for each in documents:
        for shown, meant in (each.aliases or {}).items():
            if aliases.setdefault(shown, meant) != meant:
                raise Unclassifiable("two GraphQL requests of its batch have one alias for different fields")
    name = documents[0].name if len(documents) == 1 else ""
    fields = dict.fromkeys(path for each in documents for path in each.fields)
    return Document(documents[0].operation, name, tuple(fields), aliases)


def _definitions(
    parsed: DocumentNode,
) -> tuple[list[OperationDefinitionNode], dict[str, FragmentDefinitionNode]]:
    operations: list[OperationDefinitionNode] = []
    fragments: dict[str, FragmentDefinitionNode] = {}
    for definition in parsed.definitions:
        match definition:
            case OperationDefinitionNode():
                operations.append(definition)
            case FragmentDefinitionNode() if definition.name.value not in fragments:
                fragments[definition.name.value] = definition
            case FragmentDefinitionNode():
                raise Unclassifiable("its GraphQL document defines a fragment twice")
            case _:
                raise Unclassifiable("its GraphQL document defines more than operations and fragments")
    return operations, fragments


def _chosen(operations: Sequence[OperationDefinitionNode], name: str | None) -> OperationDefinitionNode:
    """An empty name is one for some servers and none for others: it chooses where there is nothing to choose."""
    found = [each for each in operations if not name or (each.name is not None and each.name.value == name)]
    if len(found) != 1:
        raise Unclassifiable("its GraphQL request does not choose one operation of its document")
    return found[0]


@dataclass(slots=True)
class _Walk:
    """Follows selections through fragments, and keeps what is selected."""

    fragments: Mapping[str, FragmentDefinitionNode]
    fields: dict[str, None] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    _meant: dict[str, str] = field(default_factory=dict)
    _left: int = MOST_SELECTIONS

    def selections(
        self, chosen: SelectionSetNode, schema: tuple[str, ...], shown: tuple[str, ...], within: frozenset[str]
    ) -> None:
        """`within` are the fragments that are being followed."""
        if len(schema) + len(within) > MOST_NESTED:
            raise Unclassifiable("its GraphQL document is nested too deep")
        for each in self._bounded(chosen):
            match each:
                case FieldNode():
                    self._field(each, schema, shown, within)
                case InlineFragmentNode():
                    self.selections(each.selection_set, schema, shown, within)
                case FragmentSpreadNode():
                    name = each.name.value
                    if name in within:
                        raise Unclassifiable("a fragment of its GraphQL document holds itself")
                    if name not in self.fragments:
                        raise Unclassifiable("its GraphQL document uses a fragment that it does not define")
                    self.selections(self.fragments[name].selection_set, schema, shown, within | {name})
                case never:
                    assert_never(never)

    def _field(self, node: FieldNode, schema: tuple[str, ...], shown: tuple[str, ...], within: frozenset[str]) -> None:
        name = node.name.value
        schema, shown = (*schema, name), (*shown, node.alias.value if node.alias else name)
        path, answer = ".".join(schema), ".".join(shown)
        if self._meant.setdefault(answer, path) != path:
            # Servers allow it for two types that exclude each other; a mask could not tell which it is.
            raise Unclassifiable("its GraphQL document has one name in the answer for different fields")
        self.fields[path] = None
        if path != answer:
            self.aliases[answer] = path
        if node.selection_set is not None:
            self.selections(node.selection_set, schema, shown, within)

    def _bounded(self, chosen: SelectionSetNode) -> Iterator[Any]:
        for each in chosen.selections:
            self._left -= 1
            if self._left < 0:
                raise Unclassifiable("its GraphQL document selects too much")
            yield each
