"""What a command loads before its first slice: a budget in modules, which says the same on any computer."""

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

# Prints what was loaded beside Python and torch, whose own modules it counts first.
_LOADED = """
import sys
import torch
torchs = set(sys.modules)
from biosam2.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("\\n".join(sorted(set(sys.modules) - torchs)))
"""
# What torch and others would bring for work that no propagation does.
_UNNEEDED = [
    "distributed",
    "jinja2",
    "matplotlib",
    "monai",
    "onnx",
    "pandas",
    "pydicom",
    "requests",
    "rich",
    "scipy",
    "skimage",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "torch.onnx",
    "torchvision",
    "triton",
]
# 352 when it was set: hydra, omegaconf and what they are made of are 150 of them, biosam2 75, sam2 and what it asks
# for 40.
_MOST = 370


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    image = np.random.default_rng(0).normal(0, 10, (3, 32, 32))
    image[:, 8:24, 8:24] += 100
    sitk.WriteImage(sitk.GetImageFromArray(image.astype(np.int16)), folder / "image.nrrd")
    arguments = [folder / "image.nrrd", "-o", folder / "mask.nrrd", "--segment", "x", "--point", "16,16,1", "-q"]
    command = [sys.executable, "-c", _LOADED, "segment", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (folder / "mask.nrrd").exists(), done.stderr
    return done.stdout.split("\n")


def test_a_propagation_loads_nothing_that_it_does_not_use(loaded):
    assert not {name for name in loaded if name in _UNNEEDED}


def test_a_propagation_keeps_to_its_budget_of_modules(loaded):
    assert len(loaded) <= _MOST, "a new import on the way to the first slice; does every command need it?"
