"""Where the models of this computer lie."""

from __future__ import annotations

import os
from pathlib import Path


def models_folder() -> Path:
    """Where downloaded models lie: ``models`` in BIOSAM2_HOME, or in the user's data directory."""
    home = os.environ.get("BIOSAM2_HOME")
    if home:
        return Path(home).expanduser().absolute() / "models"
    import platformdirs

    return platformdirs.user_data_path("biosam2", appauthor=False) / "models"


def own_folder() -> Path:
    """Where the models lie that the user added: a folder each."""
    return models_folder() / "own"
