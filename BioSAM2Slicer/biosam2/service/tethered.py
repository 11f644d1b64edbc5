"""``python …/tethered.py MODULE ARGUMENTS``: as ``python -m MODULE ARGUMENTS``, but it ends when its input does.

A file and no module, because it runs pip: it needs nothing that has to be installed, this package's base included.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the module; there is nothing for it to read."""
    tether = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    if sys.platform != "win32" and os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    threading.Thread(target=_watch, args=(tether,), daemon=True).start()
    # Modules are looked for as with -m, and not beside this file.
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch(tether: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(tether, 1024):
            continue
    # With what it has started, such as pip's builds.
    if sys.platform == "win32":
        with contextlib.suppress(OSError):
            subprocess.call(
                ["taskkill", "/F", "/T", "/PID", str(os.getpid())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
    else:
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
