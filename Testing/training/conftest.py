"""A small dataset with every kind of case, and a network that is too small to be of use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = 64
WIDTH = 32
MEMORY = 16

_OVERRIDES = [
    f"image_size={SIZE}",
    "image_encoder.trunk.embed_dim=16",
    "image_encoder.trunk.stages=[1,1,2,1]",
    "image_encoder.trunk.global_att_blocks=[3]",
    "image_encoder.trunk.window_spec=[8,4,4,2]",
    "image_encoder.neck.backbone_channel_list=[128,64,32,16]",
    *(
        f"{place}={WIDTH}"
        for place in (
            "image_encoder.neck.d_model",
            "image_encoder.neck.position_encoding.num_pos_feats",
            "memory_attention.d_model",
            "memory_attention.layer.d_model",
            "memory_attention.layer.self_attention.embedding_dim",
            "memory_attention.layer.cross_attention.embedding_dim",
            "memory_encoder.in_dim",
            "memory_encoder.mask_downsampler.embed_dim",
            "memory_encoder.fuser.layer.dim",
        )
    ),
    *(
        f"{place}={MEMORY}"
        for place in (
            "memory_attention.layer.cross_attention.kv_in_dim",
            "memory_encoder.out_dim",
            "memory_encoder.position_encoding.num_pos_feats",
        )
    ),
    "memory_attention.layer.dim_feedforward=64",
    "memory_attention.num_layers=1",
    "memory_encoder.fuser.num_layers=1",
]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of SAM 2's classes at the smallest sizes, with their configuration beside them."""
    pytest.importorskip("torch")
    import torch
    from biosam2.models.network import build_network, load_config
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny")
    config = load_config("nano", _OVERRIDES)
    torch.manual_seed(1)
    save_file({n: t.clone() for n, t in build_network(config).state_dict().items()}, folder / "tiny.safetensors")
    OmegaConf.save(config, folder / "tiny.yaml")
    return folder / "tiny.safetensors"


@pytest.fixture
def tiny(tiny_checkpoint):
    """The same as a model."""
    from biosam2.models import load_model

    return load_model(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest: two volumes and a colour picture to learn from, a volume to validate on."""
    from biosam2.datasets import Case, Target, save_dataset
    from biosam2.io import itk, write_labelmap
    from biosam2.volume import Volume

    folder = tmp_path_factory.mktemp("dataset")
    cases = []
    k, j, i = np.indices((9, 48, 56))
    for number, split in enumerate(("train", "train", "val")):
        ball = ((k - 3 - number) / 3) ** 2 + ((j - 20) / 9) ** 2 + ((i - 18 - 3 * number) / 9) ** 2 < 1
        egg = ((k - 5) / 4) ** 2 + ((j - 34) / 7) ** 2 + ((i - 40) / 8) ** 2 < 1
        noise = np.random.default_rng(number).normal(scale=20, size=k.shape)
        volume = Volume((300 * ball + 200 * egg + noise).astype(np.int16), spacing=(0.8, 0.9, 3.0))
        image, label = folder / f"volume-{number}.nrrd", folder / f"volume-{number}-label.nrrd"
        itk.write(image, volume)
        write_labelmap(label, volume, (ball + 2 * (egg & ~ball)).astype(np.uint8))
        targets = (Target("ball", (label,), (1,)), Target("egg", (label,), (2,)))
        cases.append(Case(f"volume-{number}", image, targets, "MR", split))
    rows, columns = np.indices((60, 60))
    disc = (rows - 30) ** 2 + (columns - 25) ** 2 < 200
    picture = np.stack([np.where(disc, 220, 40), np.where(disc, 90, 60), np.full_like(rows, 50)], axis=-1)
    Image.fromarray(picture.astype(np.uint8)).save(folder / "picture.png")
    Image.fromarray((disc * 255).astype(np.uint8)).save(folder / "picture_mask.png")
    target = Target("disc", (folder / "picture_mask.png",))
    cases.append(Case("picture", folder / "picture.png", (target,), "photograph", "train", "2D"))
    save_dataset(folder / "dataset.csv", cases)
    return folder / "dataset.csv"
