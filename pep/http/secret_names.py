"""Names of what is secret: whether what is called so is a password, a key, a token. Pure.

Readers differ about case, about what parts the words of a name, and about how its letters are composed, so none of that
counts. What is said about a secret (its id, its type, its length) is none.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Final

HIDDEN: Final = "***"

_PARTING: Final = re.compile(r"[\s._\-\[\]{}()$@:/+]+")
# The innermost name of user[pass] and user.pass.
_INNER: Final = re.compile(r"[.\[\]{}()/:]+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NUMBER: Final = re.compile(r"[0-9]{1,3}$")

_NAME: Final = re.compile(
    r"passw(?:or)?d|pasword|passphrase|passcode|passkey|secret(?!ar)|credential|mnemonic|seedphrase|connectionstring"
    r"|(?:api|access|private|auth|signing|encryption|subscription|account|master|shared|hmac)keys?"
    r"|(?:access|refresh|auth|api|bearer|session|security|csrf|xsrf|id)tokens?"
    r"|^(?:pass|pwd|psw|jwt|otp|totp|sig|phpsessid|jsessionid|(?:proxy)?authorization|xauth|(?:set)?cookies?)$"
    r"|(?:signature|sessionkey|authcode|clientassertion|pwd|bearer|jwts)$"
    r"|(?:otp|totp|mfa|2fa|recovery|backup|verification)(?:code|token)s?$"
    r"|(?:db|user|usr|admin|root|smtp|imap|pop3|ftp|ssh|sql|pg|redis|mongo|mail|http|proxy|login|ldap|bind|basic"
    r"|old|new|current|confirm)pass$"
    # Not where the next page begins, nor what a model counts or stops at.
    r"|(?<!page)(?<!next)(?<!continuation)(?<!progress)(?<!sync)(?<!start)(?<!stop)(?<!sort)(?<!prev)(?<!eos)token$"
)
# What is said about a secret is none: how it is called, how long it is.
_SAID: Final = frozenset({"id", "ids", "name", "names", "arn", "type", "types", "count", "length", "policy", "version"})
_ABOUT: Final = re.compile(
    r"(?:key|token|secret|passw(?:or)?d|passphrase|credential|signature)s?(?:id|name|arn|type|count|length|policy|version)s?$"
)
_OF_THEIR_OWN: Final = frozenset({"phpsessid", "jsessionid"})


@functools.lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether what has this name is a secret."""
    name = name if name.isascii() else unicodedata.normalize("NFKC", name)
    if len(name) > 256:
        return _NAME.search(_squeezed(name)) is not None
    inner = next((part for part in reversed(_INNER.split(name)) if part and not part.isdecimal()), name)
    return any(_says(each) for each in dict.fromkeys((name, inner)))


def _says(name: str) -> bool:
    squeezed = _squeezed(name)
    if squeezed in _OF_THEIR_OWN:
        return True
    if _NAME.search(squeezed) is None and _NAME.search(_NUMBER.sub("", squeezed)) is None:
        return False
    if _ABOUT.search(squeezed) is not None:
        return False
    last = [part for part in _PARTING.split(_CAMEL.sub(" ", name)) if part]
    return len(last) < 2 or last[-1].casefold() not in _SAID


def _squeezed(name: str) -> str:
    return _PARTING.sub("", name).casefold()
