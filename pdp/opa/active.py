"""One bundle with the OPA that serves it: started, seen to answer with it, asked, and ended after its last question.

Which bundle is to be in force is not known here; that is `engine`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pdp.opa.client import BUILT, OpaUnavailable
from pdp.opa.program import OpaFailed
from pdp.opa.supervisor import OpaChild
from pdp.policies.bundle import Bundle, library_version

_LAST_QUESTIONS: Final = 5.0


class Active:
    """The bundle, its OPA, and how many questions are on their way."""

    def __init__(self, bundle: Bundle, child: OpaChild) -> None:
        self.bundle = bundle
        self.child = child
        self.since = datetime.now(UTC)
        self._asking = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def question(self) -> Iterator[None]:
        self._asking += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._idle.set()

    async def retire(self) -> None:
        """Ends the OPA when its last question is answered."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_QUESTIONS):
                await self._idle.wait()
        await self.child.stop()


async def started(
    bundle: Bundle, path: Path, *, program: Path, folder: Path, timeout: float, tasks: asyncio.TaskGroup
) -> Active:
    """An OPA with the bundle, which is in that file, as soon as it answers with it. Raises OpaFailed."""
    child = OpaChild(program=program, folder=folder, bundle=path, timeout=timeout)
    await child.start(tasks)
    try:
        built = await child.value(BUILT)
        if not isinstance(built, dict) or built.get("version") != library_version():
            raise OpaFailed("OPA has not loaded the library of this version")
        if built.get("revision") != bundle.revision:
            raise OpaFailed("OPA has not loaded the bundle that it was given")
    except OpaUnavailable as error:
        await child.stop()
        raise OpaFailed(f"OPA does not say what it has loaded: {error}") from error
    except BaseException:
        await child.stop()
        raise
    return Active(bundle, child)
