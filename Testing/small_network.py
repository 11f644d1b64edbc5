"""Fixtures: a small network with random weights that answer, in a file, and small volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import biosam2
import numpy as np
import pytest
import torch
from biosam2.models.network import load_config
from networks import responsive_network
from omegaconf import OmegaConf

torch.set_num_threads(1)

# nano's classes at a quarter of its input size: a slice takes some ten milliseconds.
_SMALL = (
    "image_size=64",
    "memory_attention.layer.self_attention.feat_sizes=[4,4]",
    "memory_attention.layer.cross_attention.feat_sizes=[4,4]",
)


@pytest.fixture(autouse=True, scope="session")
def one_thread_in_children() -> Iterator[None]:
    """Several workers share a few cores, and the same number of threads gives the same bits."""
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    yield
    patch.undo()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a checkpoint, its configuration beside it, whose masks are not empty and depend on memory."""
    folder = tmp_path_factory.mktemp("model")
    config = load_config("nano", _SMALL)
    network = responsive_network(config)
    torch.save({"model": network.state_dict()}, folder / "small.pt")
    OmegaConf.save(config, folder / "small.yaml")
    return folder / "small.pt"


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> biosam2.models.Model:
    """The network."""
    return biosam2.load_model(checkpoint=checkpoint, device="cpu")


@pytest.fixture(scope="session")
def volume() -> biosam2.Volume:
    """6 × 24 × 20 voxels: a bright ball in noise, all three extents different."""
    return make_volume(7)


def make_volume(seed: int, slices: int = 6) -> biosam2.Volume:
    """One like `volume`."""
    rng = np.random.default_rng(seed)
    k, j, i = np.ogrid[:slices, :24, :20]
    ball = ((k - slices / 2) / 2.5) ** 2 + ((j - 10) / 5) ** 2 + ((i - 11) / 6) ** 2 < 1
    array = rng.normal(0, 10, (slices, 24, 20)) + 100 * ball
    return biosam2.Volume(array.astype(np.int16), spacing=(0.8, 0.9, 2.5))


@pytest.fixture(scope="session")
def volumes() -> Callable[..., biosam2.Volume]:
    """Makes volumes that differ, by seed and number of slices."""
    return make_volume
