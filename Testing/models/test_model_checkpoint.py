"""Checkpoints: data that is compared with the network, and never code."""

from __future__ import annotations

import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from biosam2.errors import ModelError
from biosam2.models.checkpoint import check_weights, load_weights, read_checkpoint
from biosam2.models.network import build_network, load_config
from safetensors.torch import save_file

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build_network(load_config("nano"))


@pytest.fixture
def small() -> Weights:
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(5, dtype=torch.float16)}


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        read_checkpoint(path)
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_torch_files_are_read(tmp_path: Path, small: Weights, wrapper: str | None) -> None:
    path = tmp_path / "weights.pt"
    torch.save({wrapper: small, "epoch": 3} if wrapper else small, path)
    found = read_checkpoint(path)
    assert found.keys() == small.keys()
    assert all(torch.equal(found[name], small[name]) for name in small)


def test_the_content_tells_the_format_not_the_name(tmp_path: Path, small: Weights) -> None:
    save_file(small, tmp_path / "weights.pt")
    with (tmp_path / "weights.safetensors").open("wb") as file:
        torch.save(small, file)
    for path in tmp_path.iterdir():
        assert torch.equal(read_checkpoint(path)["a"], small["a"])


def test_half_precision_becomes_float32(network: torch.nn.Module, nano_weights: Weights, nano_checkpoint: Path) -> None:
    load_weights(network, nano_checkpoint)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, nano_weights[name].float())


# Code -------------------------------------------------------------------------------------------------------------


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def current(content: Any, path: Path) -> None:
    with path.open("wb") as file:  # by a path torch would choose the format by the name
        torch.save(content, file)


def legacy(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(content, file, _use_new_zipfile_serialization=False)


def plain_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def old_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=0))


def tar(content: Any, path: Path) -> None:
    inner = path.with_suffix(".inner")
    inner.write_bytes(pickle.dumps(content))
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.add(inner, arcname=name)
    inner.unlink()


def compressed(content: Any, path: Path) -> None:
    stored = path.with_suffix(".stored")
    current(content, stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    stored.unlink()


def torchscript(content: Any, path: Path) -> None:
    current(content, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(content))
        archive.writestr("archive/code/__torch__.py", "import os\n")


@pytest.mark.parametrize("write", [current, legacy, plain_pickle, old_pickle, tar, compressed, torchscript])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model.ckpt", "model"])
@pytest.mark.parametrize(
    "disguise",
    [
        lambda evil: evil,
        lambda evil: {"model": {"a": torch.ones(2)}, "optimizer": evil},
        lambda evil: {"a": torch.ones(2), "b": evil},
        lambda evil: {evil.marker.name: [({"deep": evil},)]},
    ],
)
def test_code_is_refused_and_nothing_of_it_runs(
    tmp_path: Path, write: Callable[[Any, Path], None], name: str, disguise: Callable[[Evil], Any]
) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / name
    write(disguise(Evil(marker)), path)
    text = refusal(path)
    assert not marker.exists()
    if write is current:
        assert "holds code" in text


def test_the_evil_pickle_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


# Damage -----------------------------------------------------------------------------------------------------------


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "absent.pt")
    assert "cannot be read" in refusal(tmp_path)
    for n, content in enumerate([b"", b"x", b"PK", b"PK\x03\x04", b"<html>not found</html>", b"\0" * 100]):
        path = tmp_path / f"{n}.pt"
        path.write_bytes(content)
        refusal(path)
    with zipfile.ZipFile(tmp_path / "z.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "damaged" in refusal(tmp_path / "z.pt")


@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path: Path, nano_checkpoint: Path, nano_weights: Weights, kept: float) -> None:
    torch.save(nano_weights, tmp_path / "whole.pt")
    for source in (nano_checkpoint, tmp_path / "whole.pt"):
        content = source.read_bytes()
        path = tmp_path / f"cut{source.suffix}"
        path.write_bytes(content[: int(len(content) * kept)])
        assert "damaged" in refusal(path)


@pytest.mark.parametrize("mutations", [150, pytest.param(5000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("write", [torch.save, save_file])
def test_mutated_files_are_read_or_refused(
    tmp_path: Path, small: Weights, mutations: int, write: Callable[[Any, Path], None]
) -> None:
    write(small, tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    path = tmp_path / "mutated"
    refusals = []
    for seed in range(mutations):
        chance = random.Random(seed)
        content = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_checkpoint(path)
        except ModelError as error:
            refusals.append(str(error))
    assert refusals
    assert not any("\n" in text for text in refusals)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        3,
        torch.ones(3),
        {"model": {}},
        {"a": 3},
        {1: torch.ones(1)},
        {"a": torch.ones(3).to_sparse()},
        {"a": torch.ones(3, dtype=torch.complex64)},
    ],
)
def test_data_that_are_no_weights(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "odd.pt")
    refusal(tmp_path / "odd.pt")


# Fit --------------------------------------------------------------------------------------------------------------


def test_a_wrong_shape_names_both(network: torch.nn.Module, nano_weights: Weights) -> None:
    name = "image_encoder.trunk.patch_embed.proj.weight"
    with pytest.raises(ModelError) as error:
        check_weights({**nano_weights, name: torch.zeros(96, 3, 7, 7)}, network, "x.pt")
    assert f"{name} is (96, 3, 7, 7) in checkpoint x.pt, (48, 3, 7, 7) in the network" in str(error.value)
    assert "configuration that it was trained with" in str(error.value)


def test_missing_and_unknown_weights_are_named(network: torch.nn.Module, nano_weights: Weights) -> None:
    without = dict(nano_weights)
    del without["maskmem_tpos_enc"]
    with pytest.raises(ModelError, match="lacks maskmem_tpos_enc"):
        check_weights(without, network, "x.pt")
    with pytest.raises(ModelError, match=r"has extra\.weight, which the network lacks"):
        check_weights({**nano_weights, "extra.weight": torch.ones(1)}, network, "x.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(network: torch.nn.Module, nano_weights: Weights, value: float) -> None:
    damaged = nano_weights["no_mem_embed"].clone()
    damaged.view(-1)[-1] = value
    with pytest.raises(ModelError, match="no_mem_embed holds values that are not finite"):
        check_weights({**nano_weights, "no_mem_embed": damaged}, network, "x.pt")


def test_a_tensor_that_pretends_to_be_huge_is_not_unfolded(
    tmp_path: Path, network: torch.nn.Module, nano_weights: Weights
) -> None:
    torch.save({**nano_weights, "no_mem_embed": torch.zeros(1).expand(1 << 45)}, tmp_path / "huge.pt")
    with pytest.raises(ModelError, match="no_mem_embed is"):
        load_weights(network, tmp_path / "huge.pt")


def test_a_refused_checkpoint_leaves_the_network_as_it_was(
    tmp_path: Path, network: torch.nn.Module, nano_weights: Weights
) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.save({**{n: t + 1 for n, t in nano_weights.items()}, "extra": torch.ones(1)}, tmp_path / "x.pt")
    with pytest.raises(ModelError):
        load_weights(network, tmp_path / "x.pt")
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
