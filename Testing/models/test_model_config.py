"""Configurations: what builds, and what is refused before anything of it runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from biosam2.errors import ModelError
from biosam2.models.config import load_config
from biosam2.models.construction import NetworkTooLargeError, SizeLimit
from biosam2.models.network import build_network
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention

SAM2_CONFIGS = [f"{generation}_hiera_{size}" for generation in ("sam2", "sam2.1") for size in ("t", "s", "b+", "l")]


def nano(**changes: Any) -> Any:
    """The nano configuration with dotted changes; a list's element is named by its index."""
    node = load_config("nano")
    for key, value in changes.items():
        OmegaConf.update(node, key.replace("__", "."), value, force_add=True)
    return node


def refused(source: Any) -> str:
    """Load and build it; the one line that refuses it."""
    with pytest.raises(ModelError) as error:
        build_network(load_config(source), initialise=False)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", [*SAM2_CONFIGS, "nano"])
def test_known_configurations_are_accepted(name: str) -> None:
    config = load_config(name)
    assert config._target_ == "sam2.modeling.sam2_base.SAM2Base"
    assert config.binarize_mask_from_pts_for_mem_enc
    assert config.sam_mask_decoder_extra_args.dynamic_multimask_via_stability


def test_a_network_builds_on_the_cpu_ready_to_run() -> None:
    network = build_network(load_config("nano"))
    assert not network.training
    assert {p.device.type for p in network.parameters()} == {"cpu"}
    assert 4e6 < sum(p.numel() for p in network.parameters()) < 8e6
    with torch.inference_mode():
        levels = network.forward_image(torch.zeros(1, 3, 256, 256))["backbone_fpn"]
    assert [tuple(level.shape[-2:]) for level in levels] == [(64, 64), (32, 32), (16, 16)]


def test_rotary_tables_follow_the_image_size() -> None:
    config = load_config("nano", ["image_size=512"])
    network = build_network(config)
    tables = [module.freqs_cis for module in network.modules() if isinstance(module, RoPEAttention)]
    assert tables
    assert {tuple(table.shape) for table in tables} == {(32 * 32, 64)}
    assert config.memory_attention.layer.cross_attention.feat_sizes == [32, 32]


def test_the_network_equals_sam2s_own_from_the_same_configuration() -> None:
    config = load_config("nano")
    torch.manual_seed(0)
    original = instantiate(config, _recursive_=True).eval()
    built = build_network(config)
    built.load_state_dict(original.state_dict())
    for own, reference in zip(built.modules(), original.modules(), strict=True):
        if isinstance(reference, RoPEAttention):
            assert isinstance(own, RoPEAttention)
            assert torch.equal(own.freqs_cis, reference.freqs_cis)
            assert {k for k in vars(own) if k[0] != "_"} == {k for k in vars(reference) if k[0] != "_"}
            assert own.rope_k_repeat == reference.rope_k_repeat
            assert own.compute_cis.keywords == reference.compute_cis.keywords
        else:
            assert type(own) is type(reference)


def test_building_for_the_cpu_does_not_touch_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    moved: list[object] = []
    original = torch.Tensor.to

    def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if any("cuda" in str(value) for value in (*args, *kwargs.values())):
            moved.append(args)
            return tensor
        return original(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    build_network(load_config("nano"))
    assert not moved
    assert not torch.cuda.is_initialized()

    # sam2's own constructors do touch it, or this test would show nothing.
    RoPEAttention(embedding_dim=16, num_heads=1)
    assert moved
    if torch.version.cuda is None:
        with pytest.raises(AssertionError, match="CUDA"):
            PositionEmbeddingSine(num_pos_feats=16)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "sam2.build_sam.build_sam2",
        "sam2.sam2_video_predictor.SAM2VideoPredictor",
        "sam2.modeling.sam2_base.torch.load",
        "sam2.modeling.sam2_base.torch.hub.load",
        "sam2.modeling.position_encoding.math.factorial",
        "sam2.modeling.backbones.hieradet.g_pathmgr.open",
        "sam2.modeling.sam2_utils.get_clones",
        "sam2.modeling.memory_encoder.nn.Module",
        "sam2.modeling.sam2_base.SAM2Base.forward",
        "sam2.modeling.nothing.Nothing",
        "sam2.modeling.",
        "sam2.modeling",
        "sam2.modelings.x",
        7,
        None,
    ],
)
@pytest.mark.parametrize("place", ["_target_", "image_encoder__trunk___target_"])
def test_only_network_classes_of_sam2_may_be_named(target: object, place: str) -> None:
    assert "only classes of sam2.modeling may be built" in refused(nano(**{place: target}))


def test_code_in_a_nested_list_is_found(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    hidden = [[{"_target_": "pathlib.Path.touch", "self": str(marker)}]]
    assert "pathlib" in refused(nano(image_encoder__trunk__stages=hidden))
    assert not marker.exists()


@pytest.mark.parametrize("key", ["_partial_", "_args_", "_recursive_", "_convert_"])
def test_other_keys_of_hydra_are_refused(key: str) -> None:
    assert key in refused(nano(**{f"memory_encoder__{key}": True}))


def test_a_file_to_unpickle_is_refused() -> None:
    assert "weights_path" in refused(nano(image_encoder__trunk__weights_path="evil.pt"))


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "${oc.decode:1}", "a ${oc.create:${x}}"])
def test_resolvers_are_refused(tmp_path: Path, value: str) -> None:
    text = OmegaConf.to_yaml(load_config("nano")) + f"extra: '{value}'\n"
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert "resolver" in refused(path)
    with pytest.raises(ModelError, match="resolver"):
        load_config("nano", [f"extra='{value}'"])


def test_plain_references_are_resolved(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    node = OmegaConf.to_container(load_config("nano"))
    node["memory_attention"]["layer"]["d_model"] = "${memory_attention.d_model}"
    path.write_text(OmegaConf.to_yaml(node))
    assert load_config(path).memory_attention.layer.d_model == 128


def test_yaml_that_unfolds_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(lines))
    assert "alias" in refused(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_size": 250}, "multiple of 32"),
        ({"image_size": 0}, "multiple of 32"),
        ({"image_size": 32768}, "at most 4096"),
        ({"image_size": "large"}, "image_size = large"),
        ({"image_size": 1e300}, "numbers above"),
        ({"num_maskmem": float("nan")}, "numbers above"),
        ({"max_obj_ptrs_in_encoder": 10**12}, "numbers above"),
        ({"backbone_stride": 8}, "backbone_stride"),
        ({"image_encoder__neck__d_model": 64}, "image_encoder.neck.d_model = 64 but memory_attention.d_model = 128"),
        ({"memory_attention__layer__cross_attention__kv_in_dim": 32}, "kv_in_dim = 32"),
        ({"memory_encoder__fuser__layer__dim": 64}, "fuser.layer.dim = 64"),
        ({"image_encoder__trunk__global_att_blocks": [7]}, "block 7 of a trunk of 7 blocks"),
        ({"image_encoder__trunk__stages": "many"}, "does not build"),
        ({"image_encoder__trunk__stages": [1, 2, 4]}, "does not build"),
        ({"image_encoder__trunk__embed_dim": -3}, "does not build"),
        ({"image_encoder__neck__backbone_channel_list": [1, 2, 3, 4]}, "does not build"),
        ({"memory_attention": 3}, "describes no memory_attention"),
        ({"no_such_option": 3}, "does not build"),
        ({"image_encoder": {"_target_": "sam2.modeling.sam2_base.SAM2Base"}}, "does not build"),
        ({"_target_": "sam2.modeling.backbones.hieradet.Hiera"}, "does not build"),
        ({"memory_attention__num_layers": 60000}, "60000 layers"),
        ({"memory_encoder__fuser__num_layers": 60000}, "60000 layers"),
        ({"image_encoder__trunk__stages": [1, 60000, 3, 1]}, "60000 layers"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes: dict[str, Any], says: str) -> None:
    assert says in refused(nano(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"image_encoder__trunk__embed_dim": 60000},
        {"image_encoder__neck__kernel_size": 60000},
        {"image_encoder__trunk__window_spec": [60000, 4, 16, 8]},
    ],
)
def test_a_network_of_terabytes_is_refused_before_it_is_allocated(changes: dict[str, Any]) -> None:
    assert "larger than any SAM 2 network" in refused(nano(**changes))


@pytest.mark.parametrize(("megabytes", "tensors"), [(1, 1000), (1000, 10)])
def test_copies_count_too(megabytes: int, tensors: int) -> None:
    layers = torch.nn.ModuleList(torch.nn.Linear(100, 100) for _ in range(100))
    with SizeLimit(megabytes, tensors), pytest.raises(NetworkTooLargeError):
        copy.deepcopy(layers)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a mapping|names no network"),
        (b"model: 3", "not a mapping"),
        (b"- a\n- b", "not a mapping"),
        (b"a: [", "cannot be read"),
        (b"\xff\xfe\x00binary", "not a text file|cannot be read"),
        (b"a: 1", "_target_ is missing"),
        (b"!!python/object/apply:os.system ['true']", "cannot be read"),
        (b"a: ${b}\nb: ${a}\n_target_: x", "cannot be read"),
        (b"a: ${nowhere}", "cannot be read"),
        (b"[" * 60000, "cannot be read"),
        (b"x" * (1 << 17), "larger than 64 KiB"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says) as error:
        load_config(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["absent.yaml", "absent", "", ".", "../nano", "/", "a\0b"])
def test_a_configuration_that_is_not_there(name: str) -> None:
    with pytest.raises(ModelError):
        load_config(name)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        load_config(tmp_path / "folder.yaml")


def test_without_initialising_only_values_differ() -> None:
    config = load_config("nano")
    torch.manual_seed(0)
    one, other = build_network(config), build_network(config, initialise=False)
    assert {n: t.shape for n, t in one.state_dict().items()} == {n: t.shape for n, t in other.state_dict().items()}
    other.load_state_dict(one.state_dict())
    frame = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        built = one.forward_image(frame)["backbone_fpn"]
        original = other.forward_image(frame)["backbone_fpn"]
    assert all(torch.equal(a, b) for a, b in zip(built, original, strict=True))
