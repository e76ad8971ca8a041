"""From a proxy's configuration to what its session machines are made with. Reads the OpenAPI document, once."""

from __future__ import annotations

from collections.abc import Mapping

from pep.http import openapi
from pep.http.classify import ClassifySettings
from pep.http.config import HttpListen, HttpProxy
from pep.http.cors import Cors
from pep.http.holding import Holding
from pep.http.scrub import Scrub
from pep.http.stepping import Settings


def settings_of(proxy: HttpProxy, scrub: Scrub, *, injects: bool, hash_keys: Mapping[str, bytes]) -> Settings:
    """Raises ConfigError where the OpenAPI document cannot be used."""
    upstream, http, limits = proxy.upstream, proxy.http, proxy.limits
    return Settings(
        classify=ClassifySettings(
            scheme=upstream.scheme,
            headers_in_input=frozenset(http.headers_in_input),
            body_limit=http.body_limit,
            mcp_paths=http.mcp,
            graphql_paths=http.graphql,
            openapi=None if upstream.openapi is None else openapi.load(upstream.openapi, upstream.base_path),
            server=proxy.resource,
            mints_access=http.mints_access,
        ),
        scrub=scrub,
        login=frozenset(proxy.listen.login),
        injects=injects,
        host=None if http.preserve_host else upstream.addresses[0].authority,
        base_path=upstream.base_path,
        head_bytes=http.header_bytes,
        decoded_limit=http.decoded_limit,
        head=limits.head.total_seconds(),
        idle=limits.idle.total_seconds(),
        stalled=limits.stalled.total_seconds(),
        response=None if limits.response is None else limits.response.total_seconds(),
        hold=proxy.approval.hold.total_seconds(),
        respond_async=proxy.approval.respond_async,
        websocket=http.websocket,
        cors=cors_of(proxy.listen),
        hash_keys=hash_keys,
        holding=Holding(http.decoded_limit),
    )


def cors_of(listen: HttpListen) -> Cors:
    if listen.cors is None:
        return Cors()
    return Cors(frozenset(map(str, listen.cors.origins)), int(listen.cors.max_age.total_seconds()))
