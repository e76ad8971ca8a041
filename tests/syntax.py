"""Python source as a tree, for tests that read the product's own source."""

import ast


def parse(source: str) -> ast.Module:
    """The tree.

    CPython 3.11 keeps the depth of a tree that it builds once for all threads (gh-106905), so that a thread which an
    earlier test left running can make it fail with a SystemError. It says nothing about the source: tried again.
    """
    for _ in range(20):
        try:
            return ast.parse(source)
        except SystemError:
            pass
    return ast.parse(source)
