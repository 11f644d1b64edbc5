"""A run in pieces on several machines: its state in small parts, whole or refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

pytest.importorskip("monai")
pytest.importorskip("torchio")
pytest.importorskip("accelerate")

from biosam2.cli.app import cli
from biosam2.errors import InputError
from biosam2.training import recipes
from biosam2.training.handover import hand_over, take_over
from biosam2.training.nano import nano_settings, nano_trainer
from biosam2.training.recipes import NANO
from biosam2.training.schedule import Stage
from click.testing import CliRunner

SIZE = 64
SHORT = replace(NANO, stages=(Stage(4, SIZE, (1,), 1, 1, (1e-3, 1e-4), real=0.0),), warm_up=1)
RUN = nano_settings(workers=0, device="cpu")


def _trainer(folder):
    folder.mkdir(exist_ok=True)
    return nano_trainer(folder, RUN, recipe=SHORT, validation_clips=1)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("begun")
    trainer = _trainer(folder)
    batches = trainer._batches()
    for _ in range(2):
        trainer.train_step(next(batches))
    trainer.save()
    return folder


def test_a_run_goes_on_from_its_parts_nearly_as_from_its_state(begun, tmp_path):
    parts = hand_over(begun, tmp_path / "parts", part=8)
    sizes = [part.stat().st_size for part in parts]
    assert len(parts) > 2
    assert max(sizes) <= 8 * 2**20
    assert sum(sizes) < 0.4 * (begun / "state.pt").stat().st_size
    assert take_over(tmp_path / "parts", tmp_path / "other")
    here, there = _trainer(begun), _trainer(tmp_path / "other")
    assert there.step == here.step == 2
    both = zip(here.network.named_parameters(), here.averaged.parameters(), there.network.parameters(), strict=True)
    with torch.no_grad():
        for (name, value), average, other in both:
            allowed = 1e-3 * value.abs().max() + 0.07 * (value - average).abs().max()
            assert (value - other).abs().max() <= allowed, name
    losses = [trainer.train_step(next(trainer._batches())) for trainer in (here, there)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    moved = [torch.cat([p.detach().flatten() for p in trainer.network.parameters()]) for trainer in (here, there)]
    assert torch.allclose(*moved, atol=5e-3)


def test_an_older_state_replaces_no_newer_one(begun, tmp_path):
    hand_over(begun, tmp_path / "parts")
    assert take_over(tmp_path / "parts", tmp_path / "other")
    assert not take_over(tmp_path / "parts", tmp_path / "other")
    assert not take_over(tmp_path / "nothing", tmp_path / "other")


def test_parts_that_lack_one_or_are_damaged_are_refused(begun, tmp_path):
    parts = hand_over(begun, tmp_path / "parts", part=8)
    with pytest.raises(InputError, match="holds no state"):
        hand_over(tmp_path, tmp_path / "parts")
    content = parts[1].read_bytes()
    parts[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="damaged; copy them again"):
        take_over(tmp_path / "parts", tmp_path / "other")
    parts[1].unlink()
    with pytest.raises(InputError, match=rf"lacks part 2 of {len(parts)}"):
        take_over(tmp_path / "parts", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_command_trains_in_pieces_on_two_machines(tmp_path, monkeypatch):
    """Each machine has its own folder; between them only the parts are copied."""
    monkeypatch.setattr(recipes, "NANO", SHORT)
    state = tmp_path / "state"
    steps = []
    for machine in ("one", "two", "three"):
        out = tmp_path / machine
        command = ["train", "nano", "-o", str(out), "--minutes", "0", "--carry", str(state), "--workers", "0"]
        ran = CliRunner().invoke(cli, [*command, "--device", "cpu", "-q"])
        assert ran.exit_code == 0, ran.output
        steps.append([json.loads(line)["step"] for line in (out / "losses.jsonl").read_text().splitlines()])
        assert (out / "nano.safetensors").is_file()
        shutil.copytree(state, tmp_path / f"carried from {machine}")
    assert steps == [[1], [2], [3]]
