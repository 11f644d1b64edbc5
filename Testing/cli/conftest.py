"""A small volume, image and video to segment, a network that always sees something, and the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from biosam2.volume import Volume
from cli_helpers import Biosam2
from PIL import Image

SHAPE = (12, 40, 48)
BALL = (6, 20, 24)
"""Centre of the bright ball, (k, j, i)."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of random weights that takes every object for present, with its configuration beside it."""
    import torch
    from biosam2.models.network import build_network, load_config
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("network")
    config = load_config("nano", ["image_size=128"])
    torch.manual_seed(1)
    network = build_network(config)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    weights["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 20
    save_file(weights, folder / "seer.safetensors")
    OmegaConf.save(config, folder / "seer.yaml")
    return folder / "seer.safetensors"


@pytest.fixture(scope="session")
def ball() -> Volume:
    """A bright ball in noise, oblique and anisotropic, int16."""
    k, j, i = np.indices(SHAPE)
    inside = ((k - BALL[0]) / 3) ** 2 + ((j - BALL[1]) / 8) ** 2 + ((i - BALL[2]) / 8) ** 2 < 1
    noise = np.random.default_rng(0).normal(scale=20, size=SHAPE)
    turn = np.radians(12)
    direction = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, -1]])
    array = (300 * inside + noise).astype(np.int16)
    return Volume(array, spacing=(0.8, 0.9, 3.0), origin=(-20.0, 5.0, 60.0), direction=direction)


@pytest.fixture
def folder(tmp_path: Path, ball: Volume) -> Path:
    """A user's folder: ball.nrrd, ball-mask.nrrd (labels 1 and 2), picture.png, frames/."""
    from biosam2.io import itk, write_labelmap

    folder = tmp_path / "user"
    folder.mkdir()
    itk.write(folder / "ball.nrrd", ball)
    labels = (ball.array > 150).astype(np.uint8)
    labels[:, : BALL[1]] *= 2
    write_labelmap(folder / "ball-mask.nrrd", ball, labels)
    grey = np.clip(ball.array / 2 + 60, 0, 255).astype(np.uint8)
    Image.fromarray(grey[BALL[0]]).save(folder / "picture.png")
    (folder / "frames").mkdir()
    for n in range(4):
        Image.fromarray(grey[BALL[0] - 2 + n]).save(folder / "frames" / f"{n}.png")
    return folder


@pytest.fixture
def biosam2(folder: Path, tmp_path: Path, checkpoint: Path) -> Biosam2:
    """The command, run in the user's folder; `seer` there is the network."""
    shutil.copy(checkpoint, folder / "seer.safetensors")
    shutil.copy(checkpoint.with_suffix(".yaml"), folder / "seer.yaml")
    return Biosam2(folder, tmp_path / "home")
