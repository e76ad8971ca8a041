"""What stands in configuration files beside names and numbers: durations, sizes, paths, and where a secret is.

A secret is fetched when it is asked for (`Secret.resolve`); reading the configuration fetches none.
"""

from __future__ import annotations

import datetime
import math
import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, PrivateAttr, ValidationInfo, model_validator

from pdp.v1.strict_yaml import ConfigError, StrictModel

_COMMAND_TIMEOUT: Final = 30.0
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)")
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_duration(value: object) -> datetime.timedelta:
    """`500ms`, `30s`, `15m`, `12h` or `7d`; ValueError for anything else."""
    if isinstance(value, datetime.timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a duration with its unit, like "500ms", "30s", "15m", "12h" or "7d"')
    return datetime.timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def _size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a size with its unit, like "64KiB", "1MiB" or "2GiB"')
    return int(found[1]) * _BYTES[found[2]]


def _path(value: Path, info: ValidationInfo) -> Path:
    base: Path | None = (info.context or {}).get("base")
    return value.expanduser() if base is None else base / value.expanduser()


Duration = Annotated[datetime.timedelta, BeforeValidator(parse_duration)]
"""A length of time with its unit."""
Size = Annotated[int, BeforeValidator(_size)]
"""A number of bytes, with its unit or without."""
FilePath = Annotated[Path, AfterValidator(_path)]
"""A path; a relative one is relative to the folder of the configuration file."""


def _not_empty(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        raise ValueError("needs at least the program's name")
    return words


class Secret(StrictModel):
    """Where a secret is to be found. The secret itself never stands in a configuration."""

    env: str | None = None
    file: FilePath | None = None
    command: Annotated[tuple[str, ...], AfterValidator(_not_empty)] | None = None
    # How long the answer of a command is used before it is asked again; without it, as long as the process runs.
    ttl: Duration | None = None

    _kept: tuple[str, float] | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _no_literal(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(  # noqa: TRY004 - pydantic reports only ValueError
                "a secret never stands in this file; say where it is: {env: NAME}, {file: PATH} or {command: [...]}"
            )
        # Behind a validator like this one, a list is no longer taken for a tuple.
        command = value.get("command")
        return {**value, "command": tuple(command)} if isinstance(command, list) else value

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if sum(place is not None for place in (self.env, self.file, self.command)) != 1:
            raise ValueError("needs exactly one of env, file and command")
        if self.ttl is not None and self.command is None:
            raise ValueError("ttl goes with command only")
        return self

    def resolve(self) -> str:
        """The secret, without one trailing newline. Blocks for a file or a command; ConfigError says what to do."""
        if self.env is not None:
            value = os.environ.get(self.env)
            if value is None:
                raise ConfigError(f"the environment variable {self.env} is not set; it must hold the secret")
            return value
        if self.file is not None:
            try:
                return _without_newline(self.file.read_text("utf-8"))
            except OSError as error:
                raise ConfigError(
                    f"cannot read the secret in {self.file}: {error.strerror}; create it, readable by this user alone"
                ) from None
            except UnicodeDecodeError:
                raise ConfigError(f"the secret in {self.file} is not UTF-8") from None
        if self._kept is None or self._kept[1] <= time.monotonic():
            lasts = math.inf if self.ttl is None else self.ttl.total_seconds()
            self._kept = (self._run(), time.monotonic() + lasts)
        return self._kept[0]

    def _run(self) -> str:
        assert self.command is not None
        name = self.command[0]
        try:
            # Its errors go to this process's own, so that whoever starts it sees why; its output is the secret.
            done = subprocess.run(self.command, stdout=subprocess.PIPE, timeout=_COMMAND_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"the secret's command {name} did not end within {_COMMAND_TIMEOUT:.0f} s") from None
        except OSError as error:
            raise ConfigError(f"cannot run the secret's command {name}: {error.strerror}") from None
        if done.returncode != 0:
            raise ConfigError(f"the secret's command {name} failed with status {done.returncode}")
        try:
            return _without_newline(done.stdout.decode())
        except UnicodeDecodeError:
            raise ConfigError(f"the secret's command {name} printed what is not UTF-8") from None


def _without_newline(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")
