"""The `biosam2` command. Each command is one module; importing them loads neither torch nor a reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code; see `outcome`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent; without this the next file opened would take its place
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process lives
    from .app import cli
    from .outcome import run

    # torch's threads wait by spinning, which on a busy computer makes each step twenty times as long. Read by OpenMP
    # when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(cli, sys.argv[1:] if arguments is None else arguments))
