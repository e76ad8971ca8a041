"""Which proxy is calling, by its certificate, and what it may serve."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from pdp.certificates import proxy_uri
from pdp.config import ProxyGrant
from pdp.service.refusal import Refused

_PROXY = re.compile(r"spiffe://[a-z0-9._-]+/pep/([A-Za-z0-9][A-Za-z0-9._-]{0,62})")

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy: the URI of its certificate is its identity, the last part of it its name."""

    uri: str
    name: str
    resources: tuple[str, ...]

    def serves(self, resource: str) -> bool:
        return any(fnmatch.fnmatchcase(resource, pattern) for pattern in self.resources)


class Peers:
    """The proxies that the configuration names."""

    def __init__(self, grants: Iterable[ProxyGrant]) -> None:
        self._grants = {proxy_uri(grant.certificate): grant.resources for grant in grants}

    def calling(self, context: Context) -> Peer:
        """The calling proxy; Refused for a certificate that is not one of a configured proxy."""
        names = context.auth_context().get("x509_subject_alternative_name", [])
        uris = [name.decode() for name in names if b"://" in name]
        found = _PROXY.fullmatch(uris[0]) if len(uris) == 1 else None
        if found is None or uris[0] not in self._grants:
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "the certificate is not one of a configured proxy")
        return Peer(uris[0], found[1], self._grants[uris[0]])
