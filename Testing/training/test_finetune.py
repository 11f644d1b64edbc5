"""Fine-tuning: recipes move what they say, runs survive what happens to them, the result is a model like others."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monai")
pytest.importorskip("torchio")
pytest.importorskip("accelerate")

from biosam2 import models
from biosam2.cli import train as command
from biosam2.datasets import load_dataset
from biosam2.errors import InputError, OutputError, TrainingError
from biosam2.models import load_model
from biosam2.models.network import build_network
from biosam2.training.clips import Batch
from biosam2.training.cuts import CaseBatches, Cutting
from biosam2.training.finetune import FineTuneSettings, finetune, finetuner
from biosam2.training.freezing import apply_recipe, check_recipe, frozen_digest
from biosam2.training.recipes import RECIPES
from biosam2.training.schedule import learning_rate

SHORT = FineTuneSettings(
    recipe="memory",
    steps=3,
    batch=2,
    lengths=(1, 2),
    learning_rate=1e-3,
    warm_up=1,
    device="cpu",
    workers=0,
    save_every=1,
    validate_every=100,
    validation_clips=1,
)
# What one process and two may differ by: gradients are summed in another order.
SAME_LOSS = 1e-4


def _cases(dataset, split="train"):
    return load_dataset(dataset, split=split)


def _losses(folder):
    return [json.loads(line)["loss"] for line in (Path(folder) / "losses.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def a_batch(dataset) -> Batch:
    """Two clips of two frames with two targets."""
    cutting = Cutting(64, clips=2, targets=2, lengths=(2,), augment=False)
    return CaseBatches(_cases(dataset)[:1], cutting, seed=0).batch(0, 0)


@pytest.fixture(scope="module")
def whole_run(tiny_checkpoint, dataset, tmp_path_factory) -> list[float]:
    """The losses of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    finetune(folder, load_model(tiny_checkpoint, device="cpu"), _cases(dataset), SHORT)
    return _losses(folder)


# Recipes -------------------------------------------------------------------------------------------------------------


def test_the_command_line_knows_the_recipes():
    assert set(command.RECIPES) == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_moves_all_that_got_a_gradient_and_nothing_else(recipe, tiny, dataset, a_batch, tmp_path):
    trainer = finetuner(tmp_path, tiny, _cases(dataset), replace(SHORT, recipe=recipe, steps=20, size=64))
    before = {name: value.detach().clone() for name, value in trainer.network.state_dict().items()}
    reached: set[str] = set()
    for _ in range(8):
        trainer.train_step([a_batch])
        check_recipe(trainer.network, RECIPES[recipe])
        reached |= {name for name, p in trainer.network.named_parameters() if p.grad is not None}
    moved = {name for name, value in trainer.network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == reached
    parts = {name.partition(".")[0] for name in moved}
    assert parts <= RECIPES[recipe].trained
    # These speak where a target is absent, where a mask is the prompt, or in no configuration at all.
    rare = {"no_obj_embed_spatial", "no_obj_ptr", "no_mem_pos_enc", "mask_downsample"}
    assert RECIPES[recipe].trained - parts <= rare


def test_frozen_weights_of_minus_nought_are_not_said_to_have_moved(tiny, tmp_path):
    """As half precision leaves them; an average of -0 and -0 is 0."""
    recipe = RECIPES["biosam2"]
    network = build_network(tiny.config)
    frozen = network.sam_prompt_encoder.not_a_point_embed.weight
    with torch.no_grad():
        frozen.zero_().neg_()
    before = frozen_digest(network, recipe)
    with torch.no_grad():
        frozen.neg_()
    assert frozen_digest(network, recipe) == before
    with torch.no_grad():
        frozen[0, 0] = 1e-6
    assert frozen_digest(network, recipe) != before


def test_a_part_that_nobody_decided_about_is_refused(tiny):
    tiny.network.adapter = torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match="'adapter'"):
        apply_recipe(tiny.network, RECIPES["biosam2"])


def test_a_frozen_part_that_takes_gradients_is_noticed(tiny):
    apply_recipe(tiny.network, RECIPES["decoder"])
    tiny.network.maskmem_tpos_enc.requires_grad_(True)
    with pytest.raises(RuntimeError, match="maskmem_tpos_enc should be frozen"):
        check_recipe(tiny.network, RECIPES["decoder"])


def test_training_learns(tiny, dataset, a_batch, tmp_path):
    """The same batch, again and again, is answered better and better."""
    settings = replace(SHORT, steps=40, learning_rate=2e-3)
    trainer = finetuner(tmp_path, tiny, _cases(dataset), settings)
    losses = [trainer.train_step([a_batch]) for _ in range(16)]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_the_learning_rate_warms_up_and_falls():
    recipe = FineTuneSettings(steps=100, warm_up=10, learning_rate=1.0).resolved()
    rates = [learning_rate(recipe.stages, recipe.warm_up, step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[10] == max(rates) == 1.0
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] < 0.01


# Precision and memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_to_single(precision, tiny, dataset, a_batch, tmp_path):
    single = finetuner(tmp_path, tiny, _cases(dataset), SHORT).train_step([a_batch])
    half = finetuner(tmp_path, tiny, _cases(dataset), replace(SHORT, precision=precision))
    assert half.train_step([a_batch]) == pytest.approx(single, rel=0.1)
    assert np.isfinite(half.train_step([a_batch]))
    assert all(p.dtype == torch.float32 for p in half.network.parameters())


def test_checkpointing_changes_no_bit(tiny, dataset, a_batch, tmp_path):
    kept, anew = (
        finetuner(tmp_path, tiny, _cases(dataset), replace(SHORT, checkpointing=choice)) for choice in (False, True)
    )
    assert [kept.train_step([a_batch]) for _ in range(2)] == [anew.train_step([a_batch]) for _ in range(2)]


# What happens to runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_that_stopped_goes_on_with_the_same_losses(stop, whole_run, tiny, dataset, tmp_path):
    class StoppedError(Exception):
        pass

    def on_step(step, loss):
        if step == stop:
            raise StoppedError

    settings = replace(SHORT, save_every=2)
    with pytest.raises(StoppedError):
        finetune(tmp_path, tiny, _cases(dataset), settings, on_step=on_step)
    finetune(tmp_path, tiny, _cases(dataset), settings)
    assert _losses(tmp_path) == whole_run


def test_a_memory_bank_across_images_goes_on_where_it_was(tiny, dataset, tmp_path):
    """Memories of earlier images condition later ones, so that a bank that was lost would change the losses."""
    settings = replace(SHORT, recipe="biosam2-reference", steps=15, batch=1, lengths=(), minutes=None)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert finetune(whole, tiny, _cases(dataset), settings) == whole / "tiny-biosam2-reference.safetensors"
    assert finetune(pieces, tiny, _cases(dataset), replace(settings, minutes=0)) is None
    assert len(torch.load(pieces / "state.pt", weights_only=True)["bank"]) == 1
    finetune(pieces, tiny, _cases(dataset), settings)
    assert _losses(pieces) == _losses(whole)
    # Two images, each once with an empty bank and once with a full one.
    trainer = finetuner(whole, tiny, _cases(dataset), settings)
    batch = CaseBatches(_cases(dataset), Cutting(64, targets=1), seed=0).batch(0, 0)
    answers = [trainer._core(batch.clip, (0,), trainer.stage).loss for _ in range(2)]
    trainer._core.bank.load([], trainer.device)
    assert trainer._core(batch.clip, (0,), trainer.stage).loss not in answers


@pytest.mark.parametrize("workers", [1, 3])
def test_data_that_is_made_in_other_processes_is_the_same(workers, whole_run, tiny, dataset, tmp_path):
    finetune(tmp_path, tiny, _cases(dataset), replace(SHORT, workers=workers))
    assert _losses(tmp_path) == whole_run


@pytest.mark.parametrize(
    ("number", "times"),
    [
        (signal.SIGKILL, 1),
        pytest.param(signal.SIGKILL, 12, marks=pytest.mark.soak),
        pytest.param(signal.SIGINT, 3, marks=pytest.mark.soak),
    ],
)
def test_a_run_that_was_killed_goes_on_with_the_same_losses(
    number, times, whole_run, tiny_checkpoint, dataset, tmp_path
):
    rng = np.random.default_rng(times)
    for _ in range(times):
        done = int(rng.integers(len(whole_run)))
        with _start(tiny_checkpoint, dataset, tmp_path) as process:
            while process.poll() is None and process.stderr.readline():
                if (tmp_path / "losses.jsonl").exists() and len(_losses(tmp_path)) > done:
                    process.send_signal(number)
        assert process.returncode in {0, -signal.SIGKILL, 128 + number}
    ended = _run(tiny_checkpoint, dataset, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert _losses(tmp_path) == whole_run
    assert (tmp_path / "tiny-memory.safetensors").is_file()


def test_two_processes_give_the_losses_of_one(whole_run, tiny_checkpoint, dataset, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = _run(tiny_checkpoint, dataset, tmp_path, launcher)
    assert ended.returncode == 0, ended.stderr
    assert _losses(tmp_path) == pytest.approx(whole_run, rel=SAME_LOSS)
    assert "2 processes" in (tmp_path / "tiny-memory.md").read_text(encoding="utf-8")


def test_a_loss_that_is_no_number_names_and_saves_its_batch(tiny, dataset, tmp_path):
    settings = replace(SHORT, steps=8, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"step \d: .*not a number for .*(volume-|picture).*slices") as caught:
        finetune(tmp_path, tiny, _cases(dataset), settings)
    assert "\n" not in str(caught.value)
    (saved,) = tmp_path.glob("failed-step-*-process-0.pt")
    content = torch.load(saved, weights_only=True)
    assert len(content) == 2
    assert content[0]["clip"]["images"].dtype == torch.uint8
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == len(_losses(tmp_path))


def test_a_full_disk_loses_no_earlier_state(whole_run, tiny, dataset, make_disk):
    disk = make_disk("200m")
    state = disk.folder / "state.pt"

    def on_step(step, loss):
        if step == 2:  # room for one state and a bit, not for two
            disk.resize(state.stat().st_size * 3 // 2)

    with pytest.raises(OutputError, match="the disk is full"):
        finetune(disk.folder, tiny, _cases(dataset), SHORT, on_step=on_step)
    assert torch.load(state, weights_only=True)["step"] == 2
    assert not list(disk.folder.glob(".*.part"))
    disk.resize("200m")
    finetune(disk.folder, tiny, _cases(dataset), SHORT)
    assert _losses(disk.folder) == whole_run


def test_a_state_that_is_damaged_is_named(tiny, dataset, tmp_path):
    finetuner(tmp_path, tiny, _cases(dataset), SHORT).save()
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"state\.pt is damaged"):
        finetune(tmp_path, tiny, _cases(dataset), SHORT)


def test_another_run_is_not_continued(tiny, dataset, tmp_path):
    finetuner(tmp_path, tiny, _cases(dataset), SHORT).save()
    with pytest.raises(InputError, match="another recipe, seed"):
        finetune(tmp_path, tiny, _cases(dataset), replace(SHORT, recipe="decoder", seed=1), name="tiny-memory")
    with pytest.raises(InputError, match=r"other cases \(picture, volume-1\)"):
        finetune(tmp_path, tiny, _cases(dataset)[:1], SHORT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 3, "clips": 2},
        {"size": 50},
        {"steps": 0},
        {"learning_rate": float("nan")},
        {"lengths": (0,)},
        # Steps would go uphill.
        {"warm_up": -5},
        {"weight_decay": -1},
        {"axes": ()},
        {"validation_clips": 0},
        {"seed": -1},
        {"workers": -1},
        {"threads": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError):
        FineTuneSettings(**wrong)


# The result ----------------------------------------------------------------------------------------------------------


def test_the_result_is_a_model_with_a_card_and_a_log(tiny, dataset, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    settings = replace(SHORT, steps=2, recipe="biosam2")
    path = finetune(run, tiny, _cases(dataset), settings, validation=_cases(dataset, "val"))
    assert path == run / "tiny-biosam2.safetensors"

    monkeypatch.setenv("BIOSAM2_HOME", str(tmp_path / "home"))
    entry = models.add(path, path.with_suffix(".yaml"), "mine")
    loaded = load_model("mine", device="cpu")
    assert loaded.image_size == tiny.image_size
    assert entry in models.list_models()
    frozen = loaded.network.memory_attention.state_dict()
    assert all(torch.equal(value, frozen[name]) for name, value in tiny.network.memory_attention.state_dict().items())

    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for fact in ("volume-0", "volume-2", "picture", tiny.sha256, loaded.sha256, "click swept", "not a medical device"):
        assert fact in card
    assert str(tmp_path) not in card

    log = EventAccumulator(str(run / "tensorboard")).Reload()
    assert {"loss", "loss/mask", "loss/presence", "validation dice/click"} <= set(log.Tags()["scalars"])
    assert any(tag.startswith("train dice/") for tag in log.Tags()["scalars"])
    assert {"train/click", "validation/0"} <= set(log.Tags()["images"])


def test_cases_are_chosen_by_split_and_name(dataset):
    def chosen(**given):
        asked = {"root": None, "split": None, "validation": None, "leave_out": (), **given}
        return tuple([case.name for case in part] for part in command.choose_cases((dataset,), **asked))

    assert chosen() == (["volume-0", "volume-1", "picture"], ["volume-2"])
    assert chosen(leave_out=("volume-*",)) == (["picture"], ["volume-2"])
    assert chosen(split="val", validation="train") == (["volume-2"], ["volume-0", "volume-1", "picture"])
    with pytest.raises(InputError, match="no split 'test'; there are 'train', 'val'"):
        chosen(split="test")
    with pytest.raises(InputError, match="no case of the split 'train' is left"):
        chosen(leave_out=("*",))
    with pytest.raises(InputError, match="two cases are called volume-0"):
        command.choose_cases((dataset, dataset), None, None, None, ())


def test_it_neither_needs_nor_imports_torchvision():
    check = (
        "import sys, torchio, torch.utils.tensorboard, biosam2.training.finetune, biosam2.synthetic.images as s;"
        "s._pipeline(64); print([name for name in sys.modules if name.startswith('torchvision')])"
    )
    ended = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


# Other processes -----------------------------------------------------------------------------------------------------


def _arguments(checkpoint, dataset, out):
    flags = {
        "--data": dataset,
        "--from": checkpoint,
        "--out": out,
        "--recipe": SHORT.recipe,
        "--frames": "1,2",
        "--steps": SHORT.steps,
        "--batch": SHORT.batch,
        "--learning-rate": SHORT.learning_rate,
        "--warm-up": SHORT.warm_up,
        "--device": "cpu",
        "--workers": 0,
        "--save-every": SHORT.save_every,
        "--validate-every": SHORT.validate_every,
        "--validation-clips": SHORT.validation_clips,
    }
    return ["-m", "biosam2.cli", "train", "finetune", *(str(word) for item in flags.items() for word in item)]


def _start(checkpoint, dataset, out, launcher=(sys.executable,)):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, *_arguments(checkpoint, dataset, out)], stderr=subprocess.PIPE, text=True, env=environment
    )


def _run(checkpoint, dataset, out, launcher=(sys.executable,)):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, *_arguments(checkpoint, dataset, out)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=300,
    )
