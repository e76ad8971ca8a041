"""What a proxy signs of a chain, and how: with the key of its certificate, over the chain's name, number and hash.

Part of the contract like the digests beside it: the proxy signs, the decision service and whoever verifies a copy of
its store check. The algorithm follows from the key: ECDSA with SHA-256, RSA-PSS with SHA-256, or Ed25519.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from pdp.v1.digests import canonical_json

# What is signed here can never pass for something else that the same key signs, a TLS handshake for one.
_PURPOSE: Final = b"checkrein proxy checkpoint v1\n"
_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)


def signed_bytes(session: str, seq: int, hash: bytes) -> bytes:
    """The statement: after the event with this number the chain of that name has this hash."""
    return _PURPOSE + canonical_json({"session": session, "seq": seq, "hash": hash.hex()})


def sign(key: PrivateKeyTypes, data: bytes) -> bytes:
    """ValueError for a key that cannot sign in one of the agreed ways."""
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(data, ec.ECDSA(hashes.SHA256()))
        case rsa.RSAPrivateKey():
            return key.sign(data, _PSS, hashes.SHA256())
        case ed25519.Ed25519PrivateKey():
            return key.sign(data)
        case _:
            raise ValueError("a proxy's key is one of an elliptic curve, RSA or Ed25519")


def is_signed(key: PublicKeyTypes, signature: bytes, data: bytes) -> bool:
    """Whether the signature is this key's, of these bytes."""
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
            case rsa.RSAPublicKey():
                key.verify(signature, data, _PSS, hashes.SHA256())
            case ed25519.Ed25519PublicKey():
                key.verify(signature, data)
            case _:
                return False
    except InvalidSignature:
        return False
    return True
