"""load_model, and what is imported on the way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from biosam2 import load_model
from biosam2.errors import DeviceError, ModelError
from biosam2.models import get
from biosam2.resources import resource_path
from omegaconf import DictConfig
from sam2.modeling.sam2_base import SAM2Base


def test_a_checkpoint_with_its_configuration(nano_checkpoint: Path, nano_weights: dict[str, torch.Tensor]) -> None:
    model = load_model(checkpoint=nano_checkpoint, config="nano", device="cpu")
    assert isinstance(model.network, SAM2Base)
    assert isinstance(model.config, DictConfig)
    assert (model.name, model.image_size, model.device) == ("random", 256, torch.device("cpu"))
    assert model.device_reason == "asked for"
    assert len(model.sha256) == 64
    assert model.path == nano_checkpoint
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())
    assert torch.equal(model.network.maskmem_tpos_enc, nano_weights["maskmem_tpos_enc"].float())


def test_a_path_in_the_place_of_a_name(nano_checkpoint: Path, tmp_path: Path) -> None:
    assert load_model(str(nano_checkpoint), "cpu", config="nano").name == "random"
    shutil.copy(nano_checkpoint, tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match="needs its configuration"):
        load_model(tmp_path / "mine.safetensors", "cpu")
    shutil.copy(resource_path("Models/nano.yaml"), tmp_path / "mine.yaml")
    assert load_model(tmp_path / "mine.safetensors", "cpu").name == "mine"


def test_the_wrong_configuration_names_the_first_mismatch(nano_checkpoint: Path) -> None:
    with pytest.raises(ModelError, match=r"is \(.*\) in checkpoint .*, \(.*\) in the network; give the configuration"):
        load_model(checkpoint=nano_checkpoint, config="sam2.1_hiera_t", device="cpu")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name_or_path": "nano", "checkpoint": "x.pt"}, "not both"),
        ({"name_or_path": "nano", "config": "nano"}, "goes with a checkpoint"),
        ({"config": "nano"}, "goes with a checkpoint"),
        ({"name_or_path": "absent"}, "there is no model 'absent'"),
        ({"name_or_path": "absent.pt"}, "there is no checkpoint absent.pt"),
        ({"checkpoint": "absent", "config": "nano"}, "there is no checkpoint absent"),
    ],
)
def test_what_cannot_be_loaded(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(ModelError) as error:
        load_model(**arguments)
    assert says in str(error.value)


def test_nano_is_the_default() -> None:
    if get("nano").present:
        assert load_model(device="cpu").name == "nano"
    else:
        with pytest.raises(ModelError, match=r"lacks Resources/Models/nano\.safetensors; reinstall"):
            load_model(device="cpu")


def test_a_copy_runs_elsewhere_and_says_why(nano_checkpoint: Path) -> None:
    model = load_model(checkpoint=nano_checkpoint, config="nano", device="cpu")
    copy = model.copied_to(torch.device("meta"), "cuda ran out of memory")
    assert {p.device.type for p in copy.network.parameters()} == {copy.device.type} == {"meta"}
    assert copy.device_reason == "cuda ran out of memory"
    assert {p.device.type for p in model.network.parameters()} == {model.device.type} == {"cpu"}
    again = model.copied_to(torch.device("cpu"), "why not").network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.network.state_dict().items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_an_error(nano_checkpoint: Path) -> None:
    with pytest.raises(DeviceError, match="no CUDA"):
        load_model(checkpoint=nano_checkpoint, config="nano", device="cuda")


def test_loading_for_the_cpu_does_not_touch_cuda(nano_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    load_model(checkpoint=nano_checkpoint, config="nano", device="cpu")
    assert not torch.cuda.is_initialized()


# Imports ----------------------------------------------------------------------------------------------------------


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_listing_models_needs_no_torch() -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "sam2", "omegaconf", "hydra", "safetensors", "numpy.testing"}:
            raise ImportError(f"{name} must not be imported here")
sys.meta_path.insert(0, Refuse())
import biosam2
import biosam2.devices
from biosam2.models import download, get, list_models, registry
assert len(list_models()) >= 6
get("nano").path, get("medsam2").present
download.source_url(get("medsam2"))
assert not {"torch", "sam2", "omegaconf"} & set(sys.modules)
try:
    biosam2.load_model(checkpoint=sys.argv[1], config="nano")
except biosam2.errors.DependencyError as error:
    print(error)
"""
    assert "torch" in run(code, __file__)


def test_a_model_loads_where_torchvision_is_broken(nano_checkpoint: Path) -> None:
    code = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
sys.meta_path.insert(0, Broken())
import biosam2
model = biosam2.load_model(checkpoint=sys.argv[1], config="nano", device="cpu")
assert not any(name.split(".")[0] in {"torchvision", "cv2"} for name in sys.modules)
print(model.image_size)
"""
    assert run(code, str(nano_checkpoint)) == "256\n"
