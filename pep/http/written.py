"""How a secret may be written in what comes back from a target: the forms that are looked for. Pure.

What each form says is the secret and nothing else: where an encoding takes what stands before and behind the secret
into the same characters, those are left out. Escapes are not among the forms; they are undone before (see `scrub`).
"""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

_FOR_ADDRESSES: Final = bytes.maketrans(b"+/", b"-_")


def forms(secret: bytes) -> Iterator[bytes]:
    """The byte strings that a secret may appear as, before any escaping."""
    text = secret.decode("utf-8", "replace")
    # A key of one case is known as well where a target has changed it.
    yield from (secret, secret.upper(), secret.lower())
    yield from in_lines(secret)
    yield from _lists(secret)
    yield from _nested(secret, text)
    yield from _backwards(secret)
    # The first byte of big endian and the last of little endian is left out: this is in both.
    yield text.encode("utf-16-be")[1:]
    # Whoever searches a secret that itself looks like an escape must not undo it.
    for written in (
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        html.escape(text),
        json.dumps(text)[1:-1],
    ):
        yield written.encode()
    yield secret.replace(b" ", b"+")


def in_lines(secret: bytes) -> Iterator[bytes]:
    """Those that are often broken into lines."""
    yield from in_base64(secret)
    yield from _in_base32(secret)
    yield from _in_hex(secret)


def in_base64(secret: bytes) -> Iterator[bytes]:
    """The characters that stand for nothing but bits of the secret, for each place that it may have in a text."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        first, last = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        core = encoded[first:last]
        yield core
        yield core.translate(_FOR_ADDRESSES)


def _in_base32(secret: bytes) -> Iterator[bytes]:
    """In both alphabets of RFC 4648, in capital and small letters, for each place."""
    for before, encode in itertools.product(range(5), (base64.b32encode, base64.b32hexencode)):
        first, last = -(-before * 8 // 5), (before + len(secret)) * 8 // 5
        core = encode(bytes(before) + secret)[first:last]
        yield from (core, core.lower())


def _in_hex(secret: bytes) -> Iterator[bytes]:
    yield from (secret.hex().encode(), secret.hex().upper().encode())


def _lists(secret: bytes) -> Iterator[bytes]:
    """As bytes are shown to people and by Node; in mail; with octal numbers."""
    for between in (" ", ":", "-"):
        yield from (secret.hex(between).encode(), secret.hex(between).upper().encode())
    for between in (",", ", ", " "):
        yield between.join(map(str, secret)).encode()
    yield from (
        "".join(f"={byte:02X}" for byte in secret).encode(),
        "".join(f"\\{byte:03o}" for byte in secret).encode(),
    )


def _nested(secret: bytes, text: str) -> Iterator[bytes]:
    """One encoding of text in another."""
    # As it is where nothing stands before it: a little longer than what is known of it elsewhere.
    yield base64.b64encode(base64.b64encode(secret)).rstrip(b"=")[:-1]
    for core in in_base64(secret):
        yield from in_base64(core)
        yield from _in_hex(core)
    for core in _in_hex(secret):
        yield from in_base64(core)
        yield from _in_hex(core)
    # UTF-16, as PowerShell takes it; without its last byte it is in both orders.
    yield from in_base64(text.encode("utf-16-le")[:-1])


def _backwards(secret: bytes) -> Iterator[bytes]:
    """Encoded backwards, and backwards once it was encoded."""
    backwards = secret[::-1]
    yield backwards
    yield from (*in_base64(backwards), *_in_hex(backwards))
    yield from (form[::-1] for form in (*in_base64(secret), *_in_hex(secret)))
