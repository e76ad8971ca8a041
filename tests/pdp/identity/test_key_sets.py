"""Keys from a real HTTP server: fetched, used again, fetched anew, and no longer than they may be stale."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdp.config import Issuer
from pdp.identity.key_sets import KeySet
from pdp.identity.subject import AuthenticationFailed

KEY = ec.generate_private_key(ec.SECP256R1())


class Site:
    """An issuer's web site. What a path answers can be changed; requests are counted."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                status, content = site.pages.get(self.path, (404, b""))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", content.decode())
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def keys(self, *ids: str) -> None:
        public = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        self.pages["/keys"] = (200, json.dumps({"keys": [{**public, "kid": each} for each in ids]}).encode())


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


def issuer(site: Site, **jwks: Any) -> Issuer:
    document = {
        "name": "corp",
        "issuer": site.url,
        "algorithms": ["ES256"],
        "jwks": {"refresh": "5m", "stale": "1h"} | jwks,
        "subject": {"type": "user"},
    }
    return Issuer.model_validate_json(json.dumps(document))


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_keys_are_found_by_discovery_and_used_again(site: Site):
    site.keys("k1")
    found = {"issuer": site.url, "jwks_uri": f"{site.url}/keys"}
    site.pages["/.well-known/openid-configuration"] = (200, json.dumps(found).encode())

    async def scenario():
        keys = KeySet(issuer(site))
        await asyncio.gather(*(keys.key("k1", "ES256") for _ in range(5)))

    asyncio.run(scenario())
    assert site.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    "found",
    [
        {"issuer": "https://other.example.org", "jwks_uri": "URL/keys"},
        {"jwks_uri": "URL/keys"},
        {"issuer": "URL"},
        {"issuer": "URL", "jwks_uri": "http://keys.example.org/"},
        {"issuer": "URL", "jwks_uri": "file:///etc/passwd"},
        [],
    ],
)
def test_a_discovery_document_of_another_issuer_or_place_is_not_used(site: Site, found: Any):
    site.keys("k1")
    text = json.dumps(found).replace("URL", site.url)
    site.pages["/.well-known/openid-configuration"] = (200, text.encode())
    with pytest.raises(AuthenticationFailed) as error:
        asyncio.run(KeySet(issuer(site)).key("k1", "ES256"))
    assert error.value.retry
    assert "/keys" not in site.asked


def test_a_redirection_is_not_followed(site: Site):
    site.keys("k1")
    site.pages["/moved"] = (302, f"{site.url}/keys".encode())
    with pytest.raises(AuthenticationFailed):
        asyncio.run(KeySet(issuer(site, url=f"{site.url}/moved")).key("k1", "ES256"))
    assert site.asked == ["/moved"]


def test_a_new_key_is_found_but_unknown_ids_do_not_hammer_the_issuer(site: Site):
    site.keys("k1")

    async def scenario():
        clock = Clock()
        keys = KeySet(issuer(site, url=f"{site.url}/keys"), clock)
        await keys.key("k1", "ES256")
        site.keys("k1", "k2")
        clock.time += 11
        await keys.key("k2", "ES256")
        assert len(site.asked) == 2
        for _ in range(20):
            with pytest.raises(AuthenticationFailed):
                await keys.key("k3", "ES256")
        assert len(site.asked) == 2

    asyncio.run(scenario())


def test_keys_are_used_while_the_issuer_is_away_but_not_for_ever(site: Site):
    site.keys("k1")

    async def scenario():
        clock = Clock()
        keys = KeySet(issuer(site, url=f"{site.url}/keys"), clock)
        await keys.key("k1", "ES256")
        site.pages["/keys"] = (503, b"")
        clock.time += 400
        await keys.key("k1", "ES256")
        assert len(site.asked) == 2
        clock.time += 3600
        with pytest.raises(AuthenticationFailed) as error:
            await keys.key("k1", "ES256")
        assert error.value.retry
        site.keys("k1")
        clock.time += 11
        await keys.key("k1", "ES256")

    asyncio.run(scenario())


def test_a_key_that_is_withdrawn_is_no_longer_used(site: Site):
    site.keys("k1", "k2")

    async def scenario():
        clock = Clock()
        keys = KeySet(issuer(site, url=f"{site.url}/keys"), clock)
        await keys.key("k1", "ES256")
        site.keys("k2")
        clock.time += 301
        with pytest.raises(AuthenticationFailed):
            await keys.key("k1", "ES256")

    asyncio.run(scenario())


@pytest.mark.parametrize("page", [(200, b"{"), (200, b" " * (2 << 20)), (500, b"{}"), (200, b"[1]")])
def test_what_is_no_key_set_is_not_used(site: Site, page: tuple[int, bytes]):
    site.pages["/keys"] = page
    with pytest.raises(AuthenticationFailed):
        asyncio.run(KeySet(issuer(site, url=f"{site.url}/keys")).key("k1", "ES256"))
