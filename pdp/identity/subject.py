"""The subject: who asks, with everybody behind them. Values only; `authenticator` makes them.

The chain of RFC 8693: a token's `sub` is the person or workload for whom something is done, its `act` the party that
does it, `act` inside `act` those who did before. The subject is the party that acts now.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pdp.v1.digests import canonical_json


class AuthenticationFailed(Exception):
    """The credential was not accepted. The text is for the log, never for the caller: it would help to guess.

    `retry` is true where the credential could not be judged, because an issuer's keys could not be had.
    """

    def __init__(self, why: str, *, retry: bool = False) -> None:
        super().__init__(why)
        self.retry = retry


@dataclass(frozen=True, slots=True)
class Party:
    """A person or workload; `type` is agent, user or service."""

    type: str
    id: str
    groups: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {"type": self.type, "id": self.id, "groups": list(self.groups)}


@dataclass(frozen=True, slots=True)
class Subject:
    """An authenticated subject."""

    type: str
    id: str
    groups: tuple[str, ...]
    issuer: str
    method: str
    claims: Mapping[str, Any] = field(default_factory=dict)
    purpose: Mapping[str, str] = field(default_factory=dict)
    workflow: Mapping[str, Any] = field(default_factory=dict)
    on_behalf_of: Party | None = None
    # Ids of everybody else in the chain and of whoever minted the token. It only ever grows.
    behind: tuple[str, ...] = ()
    # Other names of the people in the chain: what the configuration says makes two identities one human.
    also: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The subject as digests and locks name it."""
        return f"{self.type}:{self.id}"

    @property
    def root(self) -> Party:
        """The person or workload at the end of the chain: whose share is used up."""
        return self.on_behalf_of or Party(self.type, self.id, self.groups)

    @property
    def share(self) -> str:
        """Whose share that is, in the form in which two spellings are one."""
        return same_person(f"{self.root.type}:{self.root.id}")

    @property
    def chain(self) -> frozenset[str]:
        """Everybody who takes part in this subject's asking, in the form that `same_person` compares."""
        return frozenset(same_person(each) for each in (self.id, self.root.id, *self.behind, *self.also))

    @property
    def names(self) -> frozenset[str]:
        """The names of a person who acts for nobody else, in the same form."""
        return frozenset(same_person(each) for each in (self.id, *self.also))

    def document(self) -> dict[str, Any]:
        """The subject of the input document; what is not known is absent."""
        properties: dict[str, Any] = {"groups": list(self.groups), "issuer": self.issuer, "method": self.method}
        for name in ("claims", "purpose", "workflow"):
            if value := getattr(self, name):
                properties[name] = dict(value)
        if self.on_behalf_of is not None:
            properties["on_behalf_of"] = self.on_behalf_of.document()
        return {"type": self.type, "id": self.id, "properties": properties}

    def stored(self) -> dict[str, Any]:
        """As the store keeps it; `restored` reads it back."""
        return dataclasses.asdict(self) | {
            name: dict(getattr(self, name)) for name in ("claims", "purpose", "workflow")
        }

    def digest(self) -> str:
        """What a session's token is bound to."""
        return hashlib.sha256(canonical_json(self.stored())).hexdigest()


def restored(document: Mapping[str, Any]) -> Subject:
    """The subject that `Subject.stored` wrote."""
    fields = dict(document)
    person = fields.pop("on_behalf_of")
    for name in ("groups", "behind", "also"):
        fields[name] = tuple(fields.get(name, ()))
    party = None if person is None else Party(person["type"], person["id"], tuple(person["groups"]))
    return Subject(**fields, on_behalf_of=party)


@dataclass(frozen=True, slots=True)
class OneTime:
    """A token that is good for one use, and until when it has to be remembered that it was used."""

    issuer: str
    token_id: str
    until: datetime.datetime


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A subject, when its credential ends (None: never), and when the person signed in (None: not interactively).

    `credential` names the credential without telling it: `key:ID`, `certificate:SHA-256`, `token:ISSUER:ID`, or
    nothing where a token has no id.
    """

    subject: Subject
    expires_at: datetime.datetime | None
    signed_in_at: datetime.datetime | None
    credential: str = ""
    once: OneTime | None = None


def same_person(id: str) -> str:
    """Two ids that differ only in case, in their spelling in Unicode, or in what nobody sees, are one person's.

    The strict way: of two people who are taken for one, one cannot approve what the other asks for.
    """
    folded = unicodedata.normalize("NFKC", id).casefold()
    # Folding can undo what normalising did, and the other way round.
    return unicodedata.normalize("NFKC", _UNSEEN.sub("", folded)).casefold()


# Characters that are drawn as nothing and yet count as printable (Unicode, Default_Ignorable_Code_Point).
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
