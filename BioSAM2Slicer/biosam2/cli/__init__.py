"""The `biosam2` command. Each command is one module; importing them loads neither torch nor a reader."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code; see `outcome`."""
    from .app import cli
    from .outcome import run

    sys.exit(run(cli, sys.argv[1:] if arguments is None else arguments))
