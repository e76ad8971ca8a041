"""Who and what can be revoked, and whom a revocation meets; pure.

    subject TYPE:ID    the subject, and whoever acts for it or was given its token by it: the whole chain
    key ID             a static key
    token ISSUER:ID    one token, by its `jti`
    certificate HEX    a certificate of a client or of a proxy, by the SHA-256 of its DER form
    proxy NAME         a proxy, by the name or the URI of its certificate

Names of subjects are compared as people are (`same_person`): a revocation that is evaded by another spelling is none.
All other names are compared as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pdp.certificates import proxy_uri
from pdp.identity.subject import Subject, same_person

_PARTIES: Final = ("agent", "user", "service")
KINDS: Final = ("subject", "key", "token", "certificate", "proxy")

Mark = tuple[str, str]
"""A kind and a name in the form that is compared."""

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_LONGEST: Final = 300


def mark(kind: str, name: str) -> Mark:
    """What is compared; ValueError if there can be nothing of that kind and name."""
    if not 0 < len(name) <= _LONGEST or not name.isprintable():
        raise ValueError("a name is needed, of at most 300 letters")
    match kind:
        case "subject":
            party, _, own = name.partition(":")
            if party not in _PARTIES or not own:
                raise ValueError("a subject is agent:ID, user:ID or service:ID")
            return kind, _subject(party, own)
        case "certificate":
            hexadecimal = name.replace(":", "").lower()
            if _FINGERPRINT.fullmatch(hexadecimal) is None:
                raise ValueError("a certificate is named by the SHA-256 of its DER form, 64 digits in hex")
            return kind, hexadecimal
        case "proxy":
            return kind, proxy_uri(name)
        case "token":
            if not all(name.partition(":")):
                raise ValueError("a token is named ISSUER:ID, by the issuer's name here and its jti")
            return kind, name
        case "key":
            return kind, name
        case _:
            raise ValueError(f"can be revoked: {', '.join(KINDS)}")


def marks_of(subject: Subject, credential: str) -> Iterator[Mark]:
    """Every mark that a session of this subject would be met by."""
    yield "subject", _subject(subject.type, subject.id)
    yield "subject", _subject(subject.root.type, subject.root.id)
    # Of these the chain does not say which type they are: a revocation of any type meets them.
    known = {subject.id, subject.root.id}
    for each in subject.behind:
        if each in known:
            continue
        for party in _PARTIES:
            yield "subject", _subject(party, each)
    kind, _, name = credential.partition(":")
    if name:
        yield kind, name


def _subject(type: str, id: str) -> str:
    return f"{type}:{same_person(id)}"
