"""Verified claims become a subject; pure. What has not the expected form is refused, never guessed.

A token with `act` speaks of two parties: `sub` is the person, `act` the party that works for them (RFC 8693). The
subject is then the party in `act`, and the person becomes `on_behalf_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pdp.config import SubjectClaims
from pdp.identity.subject import AuthenticationFailed, Party, Subject

_TYPES: Final = frozenset({"agent", "user", "service"})
_WORKFLOW: Final = ("graph", "node", "run", "thread", "task", "agent", "tool")
_LONGEST: Final = 255
_MOST_GROUPS: Final = 500
_DEEPEST_CHAIN: Final = 8

Claims = Mapping[str, Any]


def own_subject(claims: Claims, issuer: str) -> Subject:
    """The subject of a token that this service's own issuer made (`tokens` has the form)."""
    chain = _chain(claims)
    types = [_one_of_types(link.get("sub_profile")) for link in chain]
    also = _strings(claims.get("also", []), "also")
    return _subject(claims, chain, types, issuer, _strings(claims.get("groups", []), "groups"), {}, also)


def foreign_subject(claims: Claims, issuer: str, rules: SubjectClaims, same: str | None = None) -> Subject:
    """The subject of another issuer's token, as the configuration says.

    `same` is the claim that makes two identities one human, wherever in the chain it stands.
    """
    chain = _chain(claims)
    also = () if same is None else tuple(_text(link[same], same) for link in chain if _says(link, same))
    if rules.id == "email" and _unverified(claims):
        raise AuthenticationFailed("the e-mail address is not verified")
    groups = _strings(claims.get(rules.groups, []), rules.groups) if rules.groups else ()
    kept = {name: claims[name] for name in rules.claims if claims.get(name) is not None}
    types = [rules.type, *(rules.actor for _ in chain[1:])]
    # The claim that identifies the person may be another than `sub`; an actor is always named by its `sub`.
    named = [{**chain[0], "sub": claims.get(rules.id)}, *chain[1:]]
    return _subject({"minted_by": []}, named, types, issuer, groups, kept, also)


def _says(link: Claims, same: str) -> bool:
    """Whether the party has the claim. An address that is not verified may have been written there by anybody."""
    return link.get(same) is not None and not (same == "email" and _unverified(link))


def _unverified(claims: Claims) -> bool:
    """Some issuers write the word as a string."""
    return claims.get("email_verified", True) is not True


def _subject(
    claims: Claims,
    chain: list[Claims],
    types: Sequence[str],
    issuer: str,
    groups: tuple[str, ...],
    kept: Mapping[str, Any],
    also: tuple[str, ...],
) -> Subject:
    """From the chain, the person first and whoever acts now second; `groups` are those of the first."""
    ids = [_text(link.get("sub"), "sub") for link in chain]
    person = Party(types[0], ids[0], groups)
    behind = (*ids, *_strings(claims.get("minted_by", []), "minted_by"))
    if len(chain) == 1:
        acting, on_behalf_of = person, None
    else:
        acting = Party(types[1], ids[1], _strings(chain[1].get("groups", []), "act.groups"))
        on_behalf_of = person
    return Subject(
        type=acting.type,
        id=acting.id,
        groups=acting.groups,
        issuer=issuer,
        method="jwt",
        claims=kept,
        purpose=_texts(claims.get("purpose"), "purpose", ("text", "ticket")),
        workflow=_texts(claims.get("workflow"), "workflow", _WORKFLOW),
        on_behalf_of=on_behalf_of,
        behind=tuple(dict.fromkeys(each for each in behind if each != acting.id)),
        also=tuple(dict.fromkeys(also)),
    )


def _chain(claims: Claims) -> list[Claims]:
    """The token itself, then its `act`, then the `act` in that."""
    chain = [claims]
    while (actor := chain[-1].get("act")) is not None:
        if not isinstance(actor, Mapping) or len(chain) == _DEEPEST_CHAIN:
            raise AuthenticationFailed("act is not a chain of parties")
        chain.append(actor)
    return chain


def _one_of_types(value: object) -> str:
    if not isinstance(value, str) or value not in _TYPES:
        raise AuthenticationFailed("sub_profile is not agent, user or service")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.isprintable():
        raise AuthenticationFailed(f"{name} is not a name")
    return value


def _strings(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_GROUPS:
        raise AuthenticationFailed(f"{name} is not a list of names")
    return tuple(_text(each, name) for each in value)


def _texts(value: object, name: str, keys: tuple[str, ...]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not set(value) <= set(keys):
        raise AuthenticationFailed(f"{name} has a key that is not known")
    return {key: _text(each, f"{name}.{key}") for key, each in value.items()}
