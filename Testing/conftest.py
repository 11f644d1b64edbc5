"""What tests of every area share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# As the command line does: torch's threads must not spin while they wait. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real labelled volumes beside the checkout; a user's clone has none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real cases (../shared/data) are not here")
    return folder
