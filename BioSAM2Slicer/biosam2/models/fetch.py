"""``python -m biosam2.models.fetch NAME``: a download whose progress another program reads, one JSON object a line.

``{"received": N, "total": N}`` while it goes on; at its end ``{"path": ...}`` or ``{"error": ...}``. Killed at any
moment, it goes on from there the next time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import BioSAM2Error
from .download import download
from .registry import get


def main(arguments: Sequence[str] | None = None) -> int:
    """Download one model; 0 when it is there, 2 when the user has to mend something."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    told = -1

    def tell(received: int, total: int) -> None:
        nonlocal told
        percent = 100 * received // max(total, 1)
        if percent != told:
            told = percent
            _say(received=received, total=total)

    try:
        path = download(get(name), progress=tell)
    except BioSAM2Error as error:
        _say(error=str(error))
        return 2
    _say(path=str(path))
    return 0


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
