"""What differs between two bundles, for people; pure.

Data is compared as it is in the bundle, where the files of one folder are one document, and bindings as they were
written.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator

from pdp.policies.bundle import unpacked


def changes(before: bytes | None, after: bytes) -> list[str]:
    """Names with what became of each: `+ name`, `- name`, `~ name`."""
    old = _texts(before) if before is not None else {}
    new = _texts(after)
    return [
        f"{'+' if name not in old else '-' if name not in new else '~'} {name}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]


def differences(before: bytes, after: bytes) -> Iterator[str]:
    """The lines of a unified diff."""
    old, new = _texts(before), _texts(after)
    for name in sorted(old | new):
        if old.get(name) != new.get(name):
            left, right = old.get(name, "").splitlines(), new.get(name, "").splitlines()
            yield from difflib.unified_diff(left, right, name, name, lineterm="")


def _texts(content: bytes) -> dict[str, str]:
    files = unpacked(content)
    files.pop(".manifest", None)
    data = json.loads(files.pop("data.json"))
    built = data.pop("checkrein")["built"]
    data["bindings"] = built["bindings"]
    texts = {name: text.decode("utf-8", "replace") for name, text in files.items() if not _library(name)}
    texts["the library"] = built["version"]
    return texts | {f"{name}/data": json.dumps(value, indent=2, sort_keys=True) for name, value in data.items()}


def _library(name: str) -> bool:
    return name.startswith("checkrein/")
