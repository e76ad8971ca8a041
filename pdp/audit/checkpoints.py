"""The service's checkpoints: signed statements of how far a chain goes, in a log that is a chain itself. Pure.

A checkpoint is canonical JSON:
  v 1 | number, from 1, without gaps | previous: SHA-256 of the document before, of 32 zeros before the first
  key: the id of the key that signs | time | session, seq, hash: the chain, its last event's number, its hash there
  ended: whether that event ends the chain, which then has no other | signed: up to which number the proxy's own
  signature of the chain is kept, -1 for none
  removed: only where the chain was taken out of the store at that time, and why; it names the chain's end
The signature is Ed25519 over a purpose and the document, so that the key's signatures pass for nothing else.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pdp.v1.digests import canonical_json

PURPOSE: Final = "checkpoint"
"""What its keys are for, in the store."""
FIRST: Final = bytes(32)
_SIGNED_AS: Final = b"checkrein checkpoint v1\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One entry of the log, as it says itself. `document` is what was signed."""

    number: int
    previous: bytes
    key: str
    time: datetime.datetime
    session: str
    seq: int
    hash: bytes
    ended: bool
    signed: int
    document: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    removed: str = ""

    @property
    def digest(self) -> bytes:
        """What the next one names as the one before."""
        return hashlib.sha256(self.document).digest()

    @property
    def line(self) -> bytes:
        """The entry as a line of an anchor's file."""
        return canonical_json({"checkpoint": orjson.loads(self.document), "signature": self.signature.hex()}) + b"\n"


def make(
    *,
    number: int,
    previous: bytes,
    key: tuple[str, Ed25519PrivateKey],
    time: datetime.datetime,
    session: str,
    seq: int,
    hash: bytes,
    ended: bool,
    signed: int,
    removed: str = "",
) -> Checkpoint:
    name, private = key
    said = {
        "v": 1,
        "number": number,
        "previous": previous.hex(),
        "key": name,
        "time": time.isoformat(timespec="microseconds"),
        "session": session,
        "seq": seq,
        "hash": hash.hex(),
        "ended": ended,
        "signed": signed,
    }
    document = canonical_json({**said, "removed": removed} if removed else said)
    return read(document, private.sign(_SIGNED_AS + document))


def read(document: bytes, signature: bytes) -> Checkpoint:
    """What a document says. ValueError if it is not one; whether it is signed is another question."""
    try:
        said: Mapping[str, Any] = orjson.loads(document)
        if said["v"] != 1 or type(said["ended"]) is not bool:
            raise ValueError("not a checkpoint of this version")
        return Checkpoint(
            number=_whole(said["number"]),
            previous=bytes.fromhex(said["previous"]),
            key=str(said["key"]),
            time=datetime.datetime.fromisoformat(said["time"]),
            session=str(said["session"]),
            seq=_whole(said["seq"]),
            hash=bytes.fromhex(said["hash"]),
            ended=said["ended"],
            signed=_whole(said["signed"]),
            document=document,
            signature=signature,
            removed=str(said.get("removed", "")),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError("not a checkpoint") from error


def read_line(line: bytes) -> Checkpoint:
    """An entry from an anchor's file. ValueError if the line is not one."""
    try:
        said = orjson.loads(line)
        return read(canonical_json(said["checkpoint"]), bytes.fromhex(said["signature"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("not a line with a checkpoint") from error


def is_signed(checkpoint: Checkpoint, keys: Mapping[str, Ed25519PublicKey]) -> bool:
    """Whether one of these keys signed it, the one that it names."""
    key = keys.get(checkpoint.key)
    if key is None:
        return False
    try:
        key.verify(checkpoint.signature, _SIGNED_AS + checkpoint.document)
    except InvalidSignature:
        return False
    return True


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError("not a whole number")
    return value
