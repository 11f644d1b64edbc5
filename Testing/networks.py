"""Networks for tests that answer without being trained."""

import copy
from dataclasses import replace

import torch
from biosam2.models.network import build_network


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


def with_presence(model, logit):
    """The model, but with every propagated slice's presence decided."""
    network = copy.deepcopy(model.network)
    head = network.sam_mask_decoder.pred_obj_score_head.layers[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(logit)
    return replace(model, network=network)
