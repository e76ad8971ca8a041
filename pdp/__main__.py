"""`python -m pdp` is the command `pdp`."""

from pdp.cli import main

main()
