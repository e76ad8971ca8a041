"""The denials that the core itself answers with, because no policy was asked or no answer could be had. Pure."""

from __future__ import annotations

import os

from pep.core.errors import DecisionUnavailable, RequestRefused, ShareExhausted
from pep.core.model import Deny, local_deny


def denied(code: str, message: str, *, retry: bool = False) -> Deny:
    return local_deny(f"local-{os.urandom(16).hex()}", code, message, retry=retry)


def undecided(error: DecisionUnavailable) -> Deny:
    """What a client is told of it. The error's own words are for the log."""
    match error:
        case RequestRefused():
            return denied("decision-refused", "the decision service does not decide this request")
        case ShareExhausted():
            words = "this person or workload has as much under way or pending as it may; try again when some has ended"
            return denied("share-exhausted", words, retry=True)
        case _:
            return denied("decision-unavailable", "no decision could be made in time", retry=True)


def too_large(most: int) -> Deny:
    return denied("action-too-large", f"its description is larger than {most} bytes")
