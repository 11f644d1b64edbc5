"""A small volume and a network whose random weights answer: every prompt gives a mask, and memories weigh."""

import biosam2
import numpy as np
import pytest
import torch
from biosam2.models.network import build_network, load_config

torch.set_num_threads(1)


def responsive_network(config):
    """A network with random weights that finds something everywhere and depends on its memory.

    Real weights would do as well; random ones need no file, and hide no wrong memory behind a good image.
    """
    torch.manual_seed(1)
    network = build_network(config)
    gains = {
        "output_hypernetworks_mlps": 8,
        "obj_ptr_proj.layers.2": 30,
        "obj_ptr_tpos_proj": 30,
        "cross_attn_image.out_proj": 4,
        "memory_encoder.out_proj": 4,
    }
    with torch.no_grad():
        network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(2.0)
        for name, parameter in network.named_parameters():
            for part, gain in gains.items():
                if part in name:
                    parameter.mul_(gain)
    return network


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
