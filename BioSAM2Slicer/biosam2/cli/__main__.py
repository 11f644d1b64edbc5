"""`python -m biosam2.cli`."""

from . import main

main()
