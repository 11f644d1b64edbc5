"""3D Slicer without its desktop: the real MRML scene, views and logics, real Qt, and the few names that join them.

`start` makes ``slicer``, ``qt``, ``ctk`` and ``vtk`` importable as they are in Slicer. Testing/README.md says what
this covers and what it cannot. Only one host can live in a process, as only one Slicer can.
"""

from __future__ import annotations

import os

from .application import Host

_host: Host | None = None


def start() -> Host:
    """The host, started when it is first asked for.

    Raises:
        ImportError: slicer-core, trame-slicer or PySide6 cannot be loaded on this machine.
    """
    global _host
    if _host is None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        # No X server is asked for; software OpenGL does.
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        _host = Host()
    return _host
