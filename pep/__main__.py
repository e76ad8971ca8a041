"""`python -m pep` is the command `pep`."""

from pep.cli import main

main()
