"""Where the Rego library is: the entrypoint, the helpers, the shipped policies, the schemas.

The one copy in the source tree is `rego/`. The package reaches it through the link `pdp/_rego`, and a wheel carries
the files themselves in that place, so a checkout, an editable install and a wheel are read alike. This module only
finds the files: it does not read, check or load policies.
"""

from pathlib import Path

_ENTRYPOINT = Path("checkrein", "decision", "decision.rego")


def library_dir() -> Path:
    """The folder that holds `checkrein/`, `policies/`, `schemas/` and `examples/`.

    Raises FileNotFoundError when the entrypoint is not there (a checkout without symbolic links, a package that was
    built without its data): a decision service without its library must not start.
    """
    directory = (Path(__file__).parent / "_rego").resolve()
    if not (directory / _ENTRYPOINT).is_file():
        raise FileNotFoundError(f"the Rego library is not in {directory}: {_ENTRYPOINT} is missing")
    return directory
