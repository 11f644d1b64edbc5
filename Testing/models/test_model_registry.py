"""The registry: what the package brings, and the user's own models."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest
from biosam2.errors import ModelError
from biosam2.models import ModelEntry, add, get, hashing, list_models, load_model, path_of, remove, verify
from biosam2.models.config import load_config
from biosam2.models.folders import models_folder, own_folder

BUILT_IN = [
    "nano",
    "sam2.1-tiny",
    "sam2.1-small",
    "sam2.1-base+",
    "sam2.1-large",
    "medsam2",
    "medsam2-ct-lesion",
    "medsam2-mr-liver-lesion",
    "medsam2-us-heart",
    "medsam2-flare25",
    "medsam2-2411",
]


def put(entry: ModelEntry, content: bytes) -> Path:
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    entry.path.write_bytes(content)
    return entry.path


def test_the_package_brings_these() -> None:
    assert [entry.name for entry in list_models()] == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_entry_says_what_a_user_must_know(name: str) -> None:
    entry = get(name)
    assert entry.description
    assert entry.licence in {"Apache-2.0", "CC-BY-SA-4.0"}
    assert load_config(entry.config, entry.overrides).image_size == entry.image_size
    if entry.source == "download":
        assert entry.url is not None
        assert entry.url.startswith("https://")
        assert entry.url.endswith("/" + entry.file)
        assert entry.sha256 is not None or entry.sha256_header is not None
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert entry.sha256_header is None or re.fullmatch("[A-Za-z0-9-]+", entry.sha256_header)
    assert entry.bytes is None or entry.listed_bytes is None
    assert entry.purpose in {"general", "task", "trial", "archive"}
    assert all(re.fullmatch("[A-Z]{2}", code) for code in entry.modalities)
    assert bool(entry.targets) == (entry.purpose == "task")
    assert entry.purpose != "task" or entry.modalities
    assert bool(entry.terms) == (entry.terms_url is not None)
    if entry.sha256 is None:
        assert entry.references  # where the rest was read


def test_all_of_medsam2_come_from_one_host_at_one_revision_under_its_terms() -> None:
    entries = [entry for entry in list_models() if entry.name.startswith("medsam2")]
    assert len({str(entry.url).removesuffix(entry.file) for entry in entries}) == 1
    assert len({entry.file for entry in entries}) == len(entries)
    assert {entry.conditions for entry in entries} == {"CC-BY-SA-4.0, research and education only"}
    assert {(entry.config, entry.overrides) for entry in entries} == {("sam2.1_hiera_t", ("image_size=512",))}


def test_the_shipped_file_is_the_one_the_registry_names() -> None:
    assert verify("nano")
    assert get("nano").path.stat().st_size <= 16_000_000


def test_medsam2_sees_512_pixels() -> None:
    config = load_config(get("medsam2").config, get("medsam2").overrides)
    assert config.image_size == 512
    assert config.memory_attention.layer.self_attention.feat_sizes == [32, 32]
    assert config.memory_attention.layer.cross_attention.feat_sizes == [32, 32]


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ModelError, match=r"no model 'nanno'; there are nano, sam2\.1-tiny"):
        get("nanno")


def test_an_absent_file_names_the_command() -> None:
    with pytest.raises(ModelError, match="not downloaded; run: biosam2 models download medsam2"):
        path_of("medsam2")
    with pytest.raises(ModelError, match=r"run: biosam2 models download sam2\.1-tiny"):
        load_model("sam2.1-tiny")


def test_a_file_of_the_wrong_size_or_content_is_not_verified(toy: ModelEntry) -> None:
    put(toy, b"short")
    with pytest.raises(ModelError, match="has 5 bytes, not 3000000; run: biosam2 models download toy"):
        verify(toy)
    put(toy, bytes(3_000_000))
    with pytest.raises(ModelError, match="not the file of model toy"):
        verify(toy)


def test_a_file_by_hand_is_accepted_where_no_hash_is_known() -> None:
    put(get("medsam2"), b"whatever")
    assert verify("medsam2") == hashlib.sha256(b"whatever").hexdigest()


def test_a_downloaded_model_can_be_removed() -> None:
    path = put(get("medsam2"), b"whatever")
    remove("medsam2")
    assert not path.exists()
    with pytest.raises(ModelError, match="part of the package"):
        remove("nano")


def test_the_home_is_the_users_unless_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_folder() == home / "models"
    monkeypatch.delenv("BIOSAM2_HOME")
    assert models_folder().parent.name == "biosam2"


# The user's own ---------------------------------------------------------------------------------------------------


def test_an_added_model_is_listed_loaded_and_removed(nano_checkpoint: Path, tmp_path: Path) -> None:
    original = tmp_path / "mine.safetensors"
    original.write_bytes(nano_checkpoint.read_bytes())
    entry = add(original, "nano", "my-lungs", description="lungs of our clinic", licence="ours")
    original.unlink()

    assert get("my-lungs") == entry == list_models()[-1]
    assert entry.size == entry.bytes
    assert entry.sha256 == verify("my-lungs")
    model = load_model("my-lungs", device="cpu")
    assert (model.name, model.image_size, model.sha256) == ("my-lungs", 256, entry.sha256)
    assert (model.description, model.licence) == ("lungs of our clinic", "ours")

    with pytest.raises(ModelError, match="there is a model 'my-lungs' already"):
        add(nano_checkpoint, "nano", "my-lungs")
    assert add(nano_checkpoint, "nano", "my-lungs", replace=True).description == ""

    remove("my-lungs")
    assert [entry.name for entry in list_models()] == BUILT_IN
    assert list(own_folder().iterdir()) == []


def test_a_changed_file_of_an_added_model_is_noticed(nano_checkpoint: Path) -> None:
    entry = add(nano_checkpoint, "nano", "mine")
    content = bytearray(entry.path.read_bytes())
    content[-1] ^= 1
    entry.path.write_bytes(content)
    with pytest.raises(ModelError, match="not the file of model mine"):
        load_model("mine", device="cpu")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b", "ü", "x" * 65, "nano", "medsam2"])
def test_names_that_cannot_be_used(nano_checkpoint: Path, name: str) -> None:
    with pytest.raises(ModelError, match="name"):
        add(nano_checkpoint, "nano", name)


def test_a_model_that_does_not_load_is_not_added(nano_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="configuration that it was trained with"):
        add(nano_checkpoint, "sam2.1_hiera_t", "mine")
    with pytest.raises(ModelError, match="cannot be read"):
        add(tmp_path / "absent.pt", "nano", "mine")
    assert [entry.name for entry in list_models()] == BUILT_IN


def test_a_damaged_record_is_one_line(nano_checkpoint: Path) -> None:
    entry = add(nano_checkpoint, "nano", "mine")
    (entry.path.parent / "model.json").write_text("{")
    with pytest.raises(ModelError, match="damaged; delete its folder") as error:
        list_models()
    assert "\n" not in str(error.value)
    assert get("nano").name == "nano"


def test_a_home_that_cannot_be_written(nano_checkpoint: Path, home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(ModelError, match="set BIOSAM2_HOME"):
        add(nano_checkpoint, "nano", "mine")


# Hashes -----------------------------------------------------------------------------------------------------------


def test_a_large_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    original = hashing.digest_of
    monkeypatch.setattr(hashing, "digest_of", lambda path: reads.append(path) or original(path))
    path = tmp_path / "large.pt"
    path.write_bytes(b"first")
    first = hashing.sha256_of(path, remember_from=1)
    assert hashing.sha256_of(path, remember_from=1) == first == hashlib.sha256(b"first").hexdigest()
    assert len(reads) == 1

    path.write_bytes(b"other")
    os.utime(path, ns=(0, 1))
    assert hashing.sha256_of(path, remember_from=1) == hashlib.sha256(b"other").hexdigest()
    assert len(reads) == 2
    hashing.sha256_of(path)
    assert len(reads) == 3  # a small one is always read


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 3}'])
def test_a_damaged_memory_of_hashes_does_no_harm(tmp_path: Path, home: Path, content: str) -> None:
    path = tmp_path / "large.pt"
    path.write_bytes(b"first")
    (home / "models").mkdir(parents=True)
    (home / "models" / "hashes.json").write_text(content)
    assert hashing.sha256_of(path, remember_from=1) == hashlib.sha256(b"first").hexdigest()


def test_a_home_that_cannot_be_written_only_costs_time(tmp_path: Path, home: Path) -> None:
    home.write_text("a file")
    path = tmp_path / "large.pt"
    path.write_bytes(b"first")
    assert hashing.sha256_of(path, remember_from=1) == hashlib.sha256(b"first").hexdigest()
