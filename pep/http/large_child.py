"""The program of a child that reads and rewrites what is large; see `pep.core.children` and `large`."""

from __future__ import annotations

from pep.core.children import serve
from pep.http.large import answer

if __name__ == "__main__":
    serve(answer)
