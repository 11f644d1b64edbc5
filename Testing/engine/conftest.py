"""A small volume and a network whose random weights answer: every prompt gives a mask, and memories weigh."""

import biosam2
import numpy as np
import pytest
import torch
from biosam2.models.network import load_config
from networks import responsive_network

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Path of a checkpoint of `responsive_network` at nano's sizes."""
    path = tmp_path_factory.mktemp("model") / "responsive.pt"
    torch.save({"model": responsive_network(load_config("nano")).state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def model(checkpoint):
    return biosam2.load_model(checkpoint=checkpoint, config="nano", device="cpu")


@pytest.fixture(scope="session")
def volume():
    """10 × 16 × 20 voxels: a bright ball in noise, anisotropic, with all three extents different."""
    rng = np.random.default_rng(7)
    k, j, i = np.ogrid[:10, :16, :20]
    ball = ((k - 5) / 3.5) ** 2 + ((j - 7) / 4) ** 2 + ((i - 11) / 5) ** 2 < 1
    array = rng.normal(0, 10, (10, 16, 20)) + 100 * ball
    return biosam2.Volume(array.astype(np.int16), spacing=(0.8, 0.9, 2.5))
