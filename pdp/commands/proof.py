"""Whether records are what was written: a copy of the store, held against what was signed of it. Pure.

Everything is computed again from the events' bytes. Against whoever can write the store stand three signatures: the
service's checkpoint of a chain (`pdp.audit.checkpoints`), its place in the log of all checkpoints, which is a chain
itself, and the proxy's own signature, made with a key that the service never had. Against whoever has the service's
key as well stands the last of these, and a copy of the log that was anchored elsewhere.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pdp.audit.checkpoints import FIRST, Checkpoint, is_signed, read, read_line
from pdp.audit.intake import differences
from pdp.audit.signatures import NotTrusted, name_of, trust
from pdp.commands.chain import CLOSING, Check
from pdp.commands.recorded import Recorded
from pdp.store.checkpoints import Entry, Signature
from pdp.v1.checkpoints import is_signed as is_proxys
from pdp.v1.checkpoints import signed_bytes

PROCESS: Final = "process-"
SERVICE: Final = "pdp-"
# So long the service may take to put a chain under a checkpoint before its absence is an error.
GRACE: Final = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, and where: at an event of a chain, or at an entry of the log where `chain` is empty."""

    why: str
    chain: str = ""
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store says about a chain beside its events; of a session, what it has to begin with and its state."""

    begins: Mapping[str, str] = field(default_factory=dict)
    state: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one chain: events, bodies that are kept, that were erased, and that are not kept for another reason."""

    events: int
    bodies: int
    erased: int
    absent: int


class Ledger:
    """The log of checkpoints, taken entry by entry, and what it says of each chain."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey], *, whole: bool = True) -> None:
        self._keys = keys
        # Whether every entry comes, or only those of one chain.
        self._whole = whole
        self._last: Checkpoint | None = None
        self._number = 0
        self._digests: dict[int, bytes] = {}
        self._chains: dict[str, list[Checkpoint]] = {}

    @property
    def head(self) -> Checkpoint | None:
        return self._last

    def of(self, chain: str) -> Sequence[Checkpoint]:
        return self._chains.get(chain, ())

    @property
    def chains(self) -> Sequence[str]:
        return list(self._chains)

    def feed(self, entry: Entry) -> Iterator[Finding]:
        """The log's next entry."""
        expected, self._number = self._number + 1, entry.number
        if self._whole and entry.number != expected:
            yield Finding(f"checkpoint {entry.number} follows number {expected - 1}: entries of the log are missing")
        try:
            checkpoint = read(entry.document, entry.signature)
        except ValueError:
            yield Finding(f"checkpoint {entry.number} is none")
            self._last = None
            return
        before = FIRST if entry.number == 1 else self._last.digest if self._last is not None else None
        if self._whole and entry.number == expected and before is not None and checkpoint.previous != before:
            yield Finding(f"checkpoint {entry.number} does not name the one before it")
        if not is_signed(checkpoint, self._keys):
            yield Finding(f"checkpoint {entry.number} is not signed by a key of the service")
            self._last = None
            return
        if (checkpoint.number, checkpoint.session) != (entry.number, entry.session):
            yield Finding(f"checkpoint {entry.number} stands in another's place")
        self._note(checkpoint)
        self._last = checkpoint

    def _note(self, checkpoint: Checkpoint) -> None:
        self._digests[checkpoint.number] = checkpoint.digest
        self._chains.setdefault(checkpoint.session, []).append(checkpoint)

    def compare(self, lines: Iterable[bytes], only: str = "") -> Iterator[Finding]:
        """The log against a copy that was anchored elsewhere; what only the copy has counts from now on.

        With `only`, what is about that chain.
        """
        last = max(self._digests, default=0)
        # A full disk may have cut a line off. It was brought again, so that a whole one begins with it.
        torn: set[bytes] = set()
        for line in filter(bytes.strip, lines):
            try:
                anchored = read_line(line)
            except ValueError:
                torn.add(line.strip())
                continue
            torn -= {each for each in torn if line.startswith(each)}
            if not is_signed(anchored, self._keys):
                yield Finding(f"checkpoint {anchored.number} of the anchor is not signed by a key of the service")
                continue
            if only and anchored.session != only:
                continue
            here = self._digests.get(anchored.number)
            if here == anchored.digest:
                continue
            if here is not None:
                yield Finding(
                    f"checkpoint {anchored.number} is another one than was anchored: the log was written anew"
                )
            elif anchored.number > last:
                yield Finding(f"checkpoint {anchored.number} was anchored, and the log ends at {last}: it was cut off")
            else:
                yield Finding(f"checkpoint {anchored.number} was anchored and is gone from the log")
            self._note(anchored)
        for _ in torn:
            yield Finding("a line of the anchor is no checkpoint")

    @property
    def removed(self) -> int:
        """How many chains were taken out of the store, which is signed."""
        return sum(bool(removed(signed)) for signed in self._chains.values())

    def gone(self, present: Iterable[str]) -> Iterator[Finding]:
        """Chains that were signed and of which nothing is left."""
        there = set(present)
        for chain, signed in self._chains.items():
            if chain not in there and not removed(signed):
                yield Finding(f"the whole record is gone: it was signed up to number {_furthest(signed).seq}", chain)


class ChainProof:
    """One chain, taken event by event."""

    def __init__(
        self,
        name: str,
        facts: Facts,
        checkpoints: Sequence[Checkpoint],
        signatures: Sequence[Signature],
        *,
        authorities: Sequence[x509.Certificate] | None,
        now: datetime.datetime,
    ) -> None:
        self._name = name
        self._facts = facts
        self._signed: dict[int, list[Checkpoint]] = {}
        for each in checkpoints:
            self._signed.setdefault(each.seq, []).append(each)
        self._checkpoints = checkpoints
        self._signatures = {each.seq: each for each in signatures}
        self._authorities = authorities
        self._now = now
        self._check = Check(name)
        self._from = 0
        self._last: Recorded | None = None

    @property
    def counts(self) -> Counts:
        return Counts(self._check.events, self._check.bodies, self._check.erased, self._check.absent)

    def feed(self, event: Recorded) -> Iterator[Finding]:
        """The chain's next event."""
        for wrong in self._check.feed(event):
            yield Finding(wrong.why, self._name, wrong.seq)
        if self._last is not None and self._last.type in CLOSING:
            yield Finding("comes after the event that ends the record: it was added", self._name, event.seq)
        if event.seq == 0:
            yield from self._begun()
        if event.seq == 0 and self._facts.begins:
            document = {**event.head, "facts": event.facts}
            if wrong_facts := differences(self._facts.begins, document):
                said = ", ".join(wrong_facts)
                yield Finding(f"is not the beginning of the session that was opened: another {said}", self._name, 0)
        # Held against what is stored as the hash: that it follows from the bytes is what was just checked.
        if any(checkpoint.hash != event.hash for checkpoint in self._signed.get(event.seq, ())):
            yield self._rewritten(event.seq, "the service")
        if (signature := self._signatures.get(event.seq)) is not None:
            yield from self._countersign(event, signature)
        if event.seq in self._signed or event.seq in self._signatures:
            self._from = event.seq + 1
        self._last = event

    def _begun(self) -> Iterator[Finding]:
        """What has to stand behind a beginning: a whole record that somebody put in has neither."""
        if self._name.startswith(SERVICE):
            return
        if not self._facts.begins and not self._name.startswith(PROCESS):
            yield Finding("no session of this name was opened, or it was taken away", self._name, 0)
        if 0 not in self._signatures:
            yield Finding("the beginning is not signed by the proxy that recorded it", self._name, 0)

    def _rewritten(self, seq: int, who: str) -> Finding:
        first = min(self._from, seq)
        place = f"number {seq}" if first == seq else f"numbers {first} to {seq}"
        why = f"{place} are not what {who} signed: changed, taken out or put in, and the chain computed anew"
        return Finding(why, self._name, seq)

    def _countersign(self, event: Recorded, signature: Signature) -> Iterator[Finding]:
        try:
            certificates = x509.load_pem_x509_certificates(signature.certificates)
        except ValueError:
            yield Finding("the certificate that its proxy signed with is gone, or is none", self._name, event.seq)
            return
        key = certificates[0].public_key()
        if not is_proxys(key, signature.signature, signed_bytes(self._name, event.seq, event.hash)):
            yield self._rewritten(event.seq, "its proxy")
            return
        proxy = self._facts.begins.get("proxy") or proxy_of(self._name)
        try:
            if proxy and name_of(certificates[0]).rpartition("/")[2] != proxy:
                raise NotTrusted("it is another's")
            if self._authorities is not None:
                trust(certificates, self._authorities)
        except NotTrusted as error:
            yield Finding(
                f"its proxy's certificate does not stand behind the signature: {error}", self._name, event.seq
            )

    def end(self) -> Iterator[Finding]:
        """Nothing more comes."""
        last = self._last
        if last is None:
            if not self._checkpoints or removed(self._checkpoints):
                return
            yield Finding(
                f"the record is gone: it was signed up to number {_furthest(self._checkpoints).seq}", self._name
            )
            return
        if why := removed(self._checkpoints):
            yield Finding(f"was taken out of the store ({why}), which is signed, and is here", self._name, last.seq)
        yield from self._cut(last)
        ended = last.type in CLOSING or ends(last)
        if self._facts.state not in ("", "open") and not ended:
            why = "the session has ended, and its record does not: what came last may be missing"
            yield Finding(why, self._name, last.seq)
        for checkpoint in self._checkpoints:
            if 0 <= checkpoint.signed <= last.seq and checkpoint.signed not in self._signatures:
                why = "its proxy's signature, which was kept when the service signed, is gone"
                yield Finding(why, self._name, checkpoint.signed)
        if ended and not self._name.startswith(SERVICE) and last.seq not in self._signatures:
            yield Finding("the end is not signed by the proxy that recorded it", self._name, last.seq)
        covered = any(each.seq == last.seq for each in self._checkpoints)
        if ended and not covered and self._now - (last.time or self._now) > GRACE:
            yield Finding("no checkpoint covers the end", self._name, last.seq)
        if not self._checkpoints and not ended and self._now - (last.time or self._now) > GRACE:
            yield Finding("no checkpoint covers any of it", self._name, last.seq)

    def _cut(self, last: Recorded) -> Iterator[Finding]:
        known = max([each.seq for each in self._checkpoints] + list(self._signatures), default=-1)
        if known > last.seq:
            yield Finding(f"ends here, and was signed up to number {known}: the end was cut off", self._name, last.seq)
        for checkpoint in self._checkpoints:
            if checkpoint.ended and checkpoint.seq < last.seq:
                why = f"comes after the end, which was signed at number {checkpoint.seq}: it was added"
                yield Finding(why, self._name, checkpoint.seq + 1)


def removed(checkpoints: Sequence[Checkpoint]) -> str:
    """Why the chain was taken out of the store, if that is signed, and its end was signed before; otherwise empty."""
    stone = next((each for each in checkpoints if each.removed), None)
    if stone is None:
        return ""
    ends = {(each.seq, each.hash) for each in checkpoints if each.ended and each.number < stone.number}
    return stone.removed if (stone.seq, stone.hash) in ends else ""


def _furthest(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    return max(checkpoints, key=lambda each: each.seq)


def proxy_of(chain: str) -> str:
    """The proxy's name in the name of its process's chain; empty for other chains."""
    return chain.removeprefix(PROCESS).rpartition("-")[0] if chain.startswith(PROCESS) else ""


def ends(event: Recorded) -> bool:
    """Whether an event of a process's chain is its last one."""
    match event.type:
        case "process":
            return event.text("what") in ("stopped", "lost")
        case "service.stopped":
            return True
        case _:
            return False
