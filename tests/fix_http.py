"""The API that the HTTP proxy's tests have for a target."""

from collections.abc import Iterator

import pytest

from tests.http_api import HttpApi, http_api


@pytest.fixture(scope="session")
def running_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpApi]:
    with http_api(tmp_path_factory.mktemp("http-api")) as api:
        yield api


@pytest.fixture
def api(running_api: HttpApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpApi]:
    """The API, which has not seen a request yet; the proxy finds the API's credential in its environment."""
    from tests.http_relay import SECRET

    monkeypatch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
    running_api.clear()
    yield running_api
    running_api.open()
