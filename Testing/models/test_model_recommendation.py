"""Which model is recommended, in a table of situations, and that it follows from the registry's facts."""

from __future__ import annotations

import dataclasses

import pytest
from biosam2.errors import InputError, ModelError
from biosam2.models import ModelEntry, get, list_models, recommend, registry
from biosam2.models.recommendation import modality_code, recommendation_line

NOTHING = ("nano",)
ALL = tuple(entry.name for entry in registry.list_models() if entry.source != "user")

SITUATIONS = [
    # modality, device, network, target, here → model
    ("MR", "cuda", True, "", NOTHING, "medsam2"),
    ("MR", "cuda:1", True, "", NOTHING, "medsam2"),
    ("MR", "mps", True, "", NOTHING, "medsam2"),
    ("MR", "gpu", False, "", NOTHING, "nano"),
    ("MR", "cpu", True, "", NOTHING, "nano"),
    ("MR", "cpu", False, "", NOTHING, "nano"),
    ("MR", "cpu", True, "", ALL, "nano"),
    ("mri", "gpu", True, "", NOTHING, "medsam2"),
    ("PET", "gpu", True, "", NOTHING, "medsam2"),
    ("CT", "gpu", True, "", NOTHING, "medsam2"),
    ("US", "gpu", True, "", NOTHING, "medsam2"),
    # here already: no network is needed
    ("MR", "gpu", False, "", ("nano", "medsam2"), "medsam2"),
    ("MR", "gpu", False, "", ("nano", "sam2.1-small"), "sam2.1-small"),
    ("MR", "gpu", True, "", ("nano", "sam2.1-small"), "medsam2"),
    # a task
    ("CT", "gpu", True, "lesion", NOTHING, "medsam2-ct-lesion"),
    ("CT", "gpu", True, "two Lesions of the lung", NOTHING, "medsam2-ct-lesion"),
    ("CT", "gpu", True, "spleen", NOTHING, "medsam2"),
    ("CT", "gpu", True, "heart", NOTHING, "medsam2"),
    ("CT", "gpu", False, "lesion", ("nano", "medsam2"), "medsam2"),
    ("CT", "cpu", True, "lesion", NOTHING, "nano"),
    ("MR", "gpu", True, "lesion", NOTHING, "medsam2"),
    ("MR", "gpu", True, "liver lesion", NOTHING, "medsam2-mr-liver-lesion"),
    ("US", "gpu", True, "left ventricle", NOTHING, "medsam2-us-heart"),
    ("US", "gpu", True, "thyroid", NOTHING, "medsam2"),
    # a modality that no model names: one that is tied to none, the one that is here or the smallest
    ("DX", "gpu", True, "", NOTHING, "sam2.1-tiny"),
    ("DX", "gpu", True, "", ("nano", "sam2.1-large"), "sam2.1-large"),
    ("DX", "gpu", False, "", ("nano", "medsam2"), "medsam2"),
    ("DX", "gpu", False, "", NOTHING, "nano"),
    # unknown: the one that knows most
    ("", "gpu", True, "", NOTHING, "medsam2"),
    ("", "gpu", True, "", ("nano", "sam2.1-tiny"), "medsam2"),
    ("", "cpu", True, "", NOTHING, "nano"),
    # an earlier version is for repeating results
    ("MR", "gpu", False, "", ("nano", "medsam2-2411"), "nano"),
]


@pytest.mark.parametrize(("modality", "device", "network", "target", "here", "name"), SITUATIONS)
def test_a_situation(modality: str, device: str, network: bool, target: str, here: tuple[str, ...], name: str) -> None:
    found = recommend(modality, device, network, target=target, here=here)
    assert found.entry.name == name
    assert found.here == (name in here)


@pytest.mark.parametrize(("modality", "device", "network", "target", "here", "name"), SITUATIONS)
def test_names_play_no_part(
    modality: str, device: str, network: bool, target: str, here: tuple[str, ...], name: str
) -> None:
    """With the names of all models exchanged the same one is recommended."""
    other = dict(zip(ALL, reversed(ALL), strict=True))
    models = [dataclasses.replace(get(known), name=other[known]) for known in ALL]
    found = recommend(modality, device, network, target=target, models=models, here={other[known] for known in here})
    assert found.entry.name == other[name]


def test_what_is_here_is_seen_on_the_disk() -> None:
    assert recommend("MR", "gpu", False).entry.name == "nano"
    path = get("medsam2").path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    found = recommend("MR", "gpu", False)
    assert (found.entry.name, found.here, found.summary, found.reason) == ("medsam2", True, "medsam2", "trained on MR")


def test_the_users_own_models_are_not_recommended(toy: ModelEntry) -> None:
    own = dataclasses.replace(toy, source="user", modalities=("MR",), purpose="general")
    assert recommend("MR", "gpu", True, models=[own, get("nano")], here={"toy", "nano"}).entry.name == "nano"


def test_a_summary_says_what_a_download_brings() -> None:
    assert recommend("MR", "gpu", True).summary == "medsam2, 156 MB, CC-BY-SA-4.0, research and education only"
    assert recommend("MR", "cpu", True).summary == "nano"
    unknown = dataclasses.replace(get("medsam2"), listed_bytes=None, terms="")
    assert recommend("MR", "gpu", True, models=[unknown]).summary == "medsam2, CC-BY-SA-4.0"


def test_a_line_for_all_situations() -> None:
    assert recommendation_line("MR") == (
        "for MR on a GPU: medsam2, 156 MB, CC-BY-SA-4.0, research and education only; "
        "without a network or on a CPU: nano"
    )
    assert recommendation_line("CT", target="lesion").startswith("for CT lesion on a GPU: medsam2-ct-lesion, 156 MB")
    assert recommendation_line("").startswith("for any image on a GPU: medsam2, ")


def test_a_line_where_a_better_one_runs_on_a_cpu(toy: ModelEntry) -> None:
    """Each situation that has an answer of its own is named."""
    models = [get("nano"), get("medsam2"), toy]
    assert recommendation_line("MR", models=models) == (
        "for MR on a GPU: medsam2, 156 MB, CC-BY-SA-4.0, research and education only; without a network: nano; "
        "on a CPU: toy, 3 MB"
    )
    path = get("medsam2").path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert recommendation_line("MR", models=models) == (
        "for MR on a GPU: medsam2; on a CPU without a network: nano; on a CPU: toy, 3 MB"
    )
    assert recommendation_line("MR", models=[get("nano")]) == "for MR on a GPU or on a CPU: nano"


@pytest.mark.parametrize("device", ["auto", "", "tpu", "cuda:", "cpu:0"])
def test_a_device_that_is_none(device: str) -> None:
    with pytest.raises(InputError, match="use cpu, gpu, cuda"):
        recommend("MR", device, True)


def test_nothing_that_fits_is_told() -> None:
    with pytest.raises(ModelError, match="no model of the registry fits MR"):
        recommend("MR", "cpu", True, models=[get("medsam2")])


@pytest.mark.parametrize(
    ("given", "code"), [("mri", "MR"), (" PET ", "PT"), ("ct", "CT"), ("Ultrasound", "US"), ("", ""), ("OPT", "OPT")]
)
def test_common_names_of_modalities(given: str, code: str) -> None:
    assert modality_code(given) == code


def test_a_model_is_recommended_for_each_modality_and_task_that_the_registry_names() -> None:
    for entry in list_models():
        for modality in entry.modalities:
            for target in entry.targets or ("",):
                found = recommend(modality, "gpu", True, target=target, models=[entry, get("nano")])
                assert found.entry == entry
