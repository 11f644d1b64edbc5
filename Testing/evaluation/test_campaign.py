"""Measuring a whole dataset: pipelines, surfaces, intervals, resuming, failing cases, a cluster, the report."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import biosam2
import msgspec
import numpy as np
import pytest
from biosam2 import parallel
from biosam2.datasets import Case, Target, save_dataset
from biosam2.errors import DependencyError, InputError, OutputError
from biosam2.evaluation import cases, metrics, report, store, summary, user, ways
from biosam2.evaluation.campaign import measure_all, networks_of, tasks_of, write_all
from biosam2.evaluation.protocol import DEFAULT_PROTOCOL, Tolerance, get_protocol
from biosam2.evaluation.results import Plan
from biosam2.evaluation.runs import EvaluationSettings, run
from biosam2.evaluation.tasks import Metrics, PreparedCase, can_do
from biosam2.masks import dice
from biosam2.models import load_model
from biosam2.parallel import in_parallel
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

SHAPE = (6, 40, 48)


def ball(centre=(2.5, 18, 15), radii=(2.2, 7, 6)):
    grid = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)) <= 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small network of random weights that takes every object for present, with its configuration beside it."""
    import torch
    from biosam2.models.network import build_network, load_config
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("network")
    for name, seed in (("seer", 1), ("other", 2)):
        config = load_config("nano", ["image_size=128"])
        torch.manual_seed(seed)
        weights = {key: tensor.clone() for key, tensor in build_network(config).state_dict().items()}
        weights["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 20
        save_file(weights, folder / f"{name}.safetensors")
        OmegaConf.save(config, folder / f"{name}.yaml")
    return folder / "seer.safetensors"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two volumes, a picture, a case whose label lies elsewhere, and an empty label."""
    from biosam2.io import itk, write_labelmap
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    listed = []
    for number, split in enumerate(["val", "val", "bad"]):
        mask = ball((2.5, 18 + 2 * number, 15 + 5 * number))
        volume = biosam2.Volume((rng.normal(0, 9, SHAPE) + 100 * mask).astype(np.int16), (0.8, 0.8, 2.0))
        itk.write(folder / f"{number}.nrrd", volume)
        elsewhere = biosam2.Volume(volume.array, volume.spacing, (50.0, 0.0, 0.0)) if split == "bad" else volume
        write_labelmap(folder / f"{number}-mask.nrrd", elsewhere, mask.astype(np.uint8))
        targets = (Target("ball", (folder / f"{number}-mask.nrrd",), (1,)),)
        if number == 0:
            targets += (Target("nothing", targets[0].labels, (9,)),)
        listed.append(Case(f"volume {number}", folder / f"{number}.nrrd", targets, "CT", split))
    flat = ball()[2]
    Image.fromarray((60 + 120 * flat).astype(np.uint8)).save(folder / "p.png")
    Image.fromarray((255 * flat).astype(np.uint8)).save(folder / "p_mask.png")
    listed.append(Case("picture", folder / "p.png", (Target("ball", (folder / "p_mask.png",)),), "US", "val", "2D"))
    save_dataset(folder / "all.csv", listed)
    return folder / "all.csv"


def plan_of(dataset, checkpoint, *ways, split="val", models=("seer",), **given):
    from biosam2.datasets import load_dataset

    return Plan(
        tuple(load_dataset(dataset, split)),
        networks_of([str(checkpoint.with_name(f"{name}.safetensors")) for name in models], None, "cpu"),
        ways,
        EvaluationSettings(rounds=given.pop("rounds", 1), beyond=0),
        threads=1,
        **given,
    )


def table(evaluation):
    """The metrics without the time that they took."""
    rows = list(csv.DictReader(evaluation.to_csv().splitlines()))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


# -- a bank that goes across images ---------------------------------------------------------------


def test_a_bank_across_images_goes_on_from_case_to_case_and_is_measured_as_a_whole(dataset, checkpoint, tmp_path):
    plan = plan_of(dataset, checkpoint, ("volume", "box"), rounds=0)

    def dice_of(folder, *cases):
        asked = replace(plan.settings, policy="dissimilar", capacity=2, scope="images")
        found = measure_all(replace(plan, cases=cases, settings=asked), tmp_path / folder)
        return {one.case: one.dice for one in found.metrics}

    first, second = (case for case in plan.cases if case.kind == "3D")
    across = dice_of("out", first, second)
    alone = dice_of("alone", first) | dice_of("alone", second)
    assert across[first.name] == alone[first.name]
    assert across[second.name] != alone[second.name]
    # A run that goes on where it was would show the second case an empty bank.
    assert dice_of("alone", first, second) == across


def test_a_bank_across_images_is_one_process(dataset, checkpoint, tmp_path):
    plan = plan_of(dataset, checkpoint, ("volume", "box"), rounds=0)
    plan = replace(plan, settings=replace(plan.settings, policy="dissimilar", scope="images"))
    with pytest.raises(InputError, match="leave out --jobs and --cluster"):
        measure_all(plan, tmp_path / "out", jobs=2)
    with pytest.raises(InputError, match="only the policy dissimilar has a bank"):
        EvaluationSettings(policy="path", scope="images")


# -- protocols ------------------------------------------------------------------------------------


def test_a_protocol_resizes_drops_small_pieces_and_keeps_the_largest_piece(dataset, checkpoint, tmp_path):
    """MedSAM2's, on cases whose target is just large enough for it, and on the same that are not."""
    fixed = msgspec.structs.replace(get_protocol("medsam2"), least_area=20, least_volume=200)
    ways = (("volume", "box"), ("volume", "click1"), ("image", "box"))
    plan = plan_of(dataset, checkpoint, *ways, protocol=fixed, rounds=0)
    assert [task.ways for task in tasks_of(plan)] == [(("volume", "box"),)] * 2 + [(("image", "box"),)]
    measured = measure_all(plan, tmp_path / "one")
    assert [(one.case, one.prompt) for one in measured.metrics] == [
        ("volume 0", "box"),
        ("volume 1", "box"),
        ("picture", "box"),
    ]
    assert not measured.failures
    engine = plan_of(dataset, checkpoint, *ways, protocol=msgspec.structs.replace(fixed, resize="engine"), rounds=0)
    other = measure_all(engine, tmp_path / "one")  # another protocol is measured anew
    pairs = list(zip(measured.metrics, other.metrics, strict=True))
    assert any(a.dice != b.dice for a, b in pairs)
    too_small = msgspec.structs.replace(fixed, least_volume=100_000)
    nothing = measure_all(plan_of(dataset, checkpoint, *ways, protocol=too_small, rounds=0), tmp_path / "two")
    assert [one.case for one in nothing.metrics] == ["picture"]  # which has no volume
    assert ("volume 0", "ball") in nothing.empty


@pytest.mark.parametrize("rule", ["medsam", "medsam2"])
def test_slices_that_are_resized_give_what_the_engine_gives(rule):
    """With the shipped model: prompts reach the network at the same place, results come back to the same place."""
    volume = biosam2.Volume((20 + 150 * ball()).astype(np.int16), (0.8, 0.7, 2.0))
    case = cases.TargetCase("x", "ball", volume, ball())
    network = load_model("nano", device="cpu")
    found = []
    for name in ("engine", rule):
        shown = PreparedCase(volume, (100.0, 200.0), name, network.config.image_size)
        done = run(
            shown.case(case), network, "box", EvaluationSettings(crop=None, rounds=0), shown.features, shown.window
        )
        found.append(shown.restore(done.masks[0]))
    assert [mask.shape for mask in found] == [SHAPE] * 2
    assert dice(found[0], ball()) > 0.7
    assert dice(*found) > 0.95


@pytest.mark.parametrize("pipeline", ["volume", "video", "image"])
def test_a_target_that_a_protocol_s_resizing_loses_has_an_empty_result_and_a_note(pipeline):
    """Lines between the pixels that are kept; the case's other targets are measured all the same."""
    mask = np.zeros((2, 512, 512), bool)
    mask[:, 40, 20:420] = True
    network = load_model("nano", device="cpu")
    shown = PreparedCase(biosam2.Volume(mask.astype(np.int16)), (0.5, 1.0), "medsam2", network.config.image_size)
    case = shown.case(cases.TargetCase("x", "line", biosam2.Volume(mask.astype(np.int16)), mask))
    done = run(case, network, "box", EvaluationSettings(pipeline=pipeline, rounds=1), shown.features, shown.window)
    assert not case.mask.any()
    assert [shown.restore(one).any() for one in done.masks] == [False, False]
    assert "lost" in done.note


def test_organs_that_are_compared_within_their_slices(dataset, checkpoint, tmp_path):
    """And a surface Dice that counts for nothing where Dice is low, as FLARE22 has it."""
    plain = DEFAULT_PROTOCOL
    within = Tolerance("here", {"ball": 3.0}, labelled_slices=("ball",), least_dice=1.1)
    own = msgspec.structs.replace(plain, tolerances={"": within})
    found = {
        name: measure_all(plan_of(dataset, checkpoint, ("volume", "box"), protocol=fixed, rounds=0), tmp_path / name)
        for name, fixed in (("plain", plain), ("own", own))
    }
    for a, b in zip(found["plain"].metrics, found["own"].metrics, strict=True):
        assert b.dice[0] >= a.dice[0]  # what lies beyond the target's slices does not count
        assert (a.tolerance, b.tolerance) == (2.0, 3.0)
        assert b.nsd == (0.0,)
        assert a.nsd[0] > 0


# -- metrics --------------------------------------------------------------------------------------


def pairs_of_masks():
    rng = np.random.default_rng(5)
    yield ball(), ball((3, 20, 16))
    yield ball(), ball((2.5, 18, 15), (1.5, 4, 9))
    yield ball() | ball((4, 8, 40), (1, 3, 3)), ball()
    yield ball(radii=(9, 30, 9)), ball()  # reaches the border
    yield rng.random(SHAPE) > 0.97, ball()


@pytest.mark.parametrize("number", range(5))
def test_surfaces_are_those_of_deepmind_s_surface_distance(number):
    import surface_distance

    a, b = list(pairs_of_masks())[number]
    spacing = (0.8, 0.7, 2.5)
    distances = surface_distance.compute_surface_distances(a, b, spacing[::-1])
    for tolerance in (1.0, 3.0):
        nsd, hd95 = metrics.surface_agreement(a, b, spacing, tolerance)
        theirs = surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)
        assert nsd == pytest.approx(theirs, abs=1e-5)
    # Theirs weighs distances by area, MONAI's counts voxels of the surface.
    assert hd95 == pytest.approx(surface_distance.compute_robust_hausdorff(distances, 95), abs=2 * max(spacing))


def test_surfaces_on_a_real_case(shared_data):
    import surface_distance
    from biosam2.evaluation.cases import shared_cases

    case = next(iter(shared_cases(shared_data)))
    moved = np.roll(case.mask, 3, axis=2)
    distances = surface_distance.compute_surface_distances(case.mask, moved, case.volume.spacing[::-1])
    nsd, hd95 = metrics.surface_agreement(case.mask, moved, case.volume.spacing, 2.0)
    assert nsd == pytest.approx(surface_distance.compute_surface_dice_at_tolerance(distances, 2.0), abs=1e-5)
    assert hd95 == pytest.approx(surface_distance.compute_robust_hausdorff(distances, 95), abs=0.8)


def test_surfaces_of_one_slice_and_of_nothing():
    a, b = np.zeros((2, 1, 20, 20), bool)
    assert metrics.surface_agreement(a, b, (1, 1, 5), 1) == (1.0, 0.0)
    a[0, 5:10, 5:10] = True
    assert metrics.surface_agreement(a, b, (1, 1, 5), 1) == (0.0, None)
    b[0, 5:10, 8:13] = True
    nsd, hd95 = metrics.surface_agreement(a, b, (2.0, 1.0, 5.0), 0.5)
    assert 0 < nsd < 1
    assert hd95 == pytest.approx(6.0)


# -- pipelines ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(checkpoint):
    return biosam2.load_model(checkpoint, "cpu")


@pytest.fixture(scope="module")
def case():
    mask = ball()
    array = np.random.default_rng(1).normal(0, 9, SHAPE) + 100 * mask
    return cases.TargetCase("made", "ball", biosam2.Volume(array.astype(np.int16), (0.8, 0.8, 2.0)), mask)


def test_a_video_is_prompted_where_the_target_appears_and_carried_forward(case, model):
    found = run(case, model, "box", EvaluationSettings(pipeline="video", rounds=1))
    present = np.flatnonzero(case.mask.any(axis=(1, 2)))
    assert found.prompts[0].min_ijk[2] == present[0]
    assert not found.masks[0][: present[0]].any()


def test_images_are_prompted_each_and_corrected_each(case, model):
    found = run(case, model, "click1", EvaluationSettings(pipeline="image", rounds=2))
    present = case.mask.any(axis=(1, 2))
    assert len(found.masks) == 3
    assert len(found.prompts) == 1
    assert not any(mask[~present].any() for mask in found.masks)
    session = biosam2.Session(model, case.volume, crop="auto")
    someone = user.User(session, "ball", case.mask, 3)
    someone.start("click1")
    np.testing.assert_array_equal(found.masks[0][3], session.predict("ball", 3))
    with pytest.raises(InputError, match="its own answer"):
        run(case, model, "mask", EvaluationSettings(pipeline="image"))


def test_what_fits_what():
    flat, volume, video = (Case("c", None, (), kind=kind) for kind in ("2D", "3D", "video"))
    assert [p for p in ways.PIPELINES if can_do(flat, p, "box")] == ["image"]
    assert all(can_do(one, p, "box") for one in (volume, video) for p in ways.PIPELINES)
    assert not can_do(volume, "image", "mask")
    assert not can_do(volume, "image", "lasso")


def test_every_way_has_a_word_and_those_measured_by_default_are_some_of_them():
    assert tuple(ways.WORDS) == ways.KINDS
    assert set(ways.STANDARD) < set(ways.KINDS)


# -- summaries ------------------------------------------------------------------------------------


def metrics_of(case="a", model="m", prompt="box", dice=(0.5,), **given):
    same = {"iou": dice, "nsd": dice, "hd95": tuple(None for _ in dice)}
    facts = {"target": "t", "modality": "CT", "split": "", "kind": "3D", "pipeline": "volume", "clicks_to_90": None}
    return Metrics(case=case, model=model, prompt=prompt, dice=dice, seconds=1.0, **{**same, **facts, **given})


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 1)), min_size=1, max_size=12))
def test_a_mean_lies_in_its_interval_which_is_always_the_same(values):
    found = summary.mean_of(values)
    assert found == summary.mean_of(values)
    assert found.mean == pytest.approx(np.mean([value for _, value in values]))
    if len({case for case, _ in values}) < 2:
        assert found.low is None
    else:
        assert found.low <= found.high
        assert min(v for _, v in values) - 1e-9 <= found.low
        assert found.high <= max(v for _, v in values) + 1e-9


def test_an_interval_is_about_as_wide_as_theory_says():
    values = np.random.default_rng(3).normal(0.5, 0.1, 100)
    found = summary.mean_of([(str(n), float(v)) for n, v in enumerate(values)])
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 10, rel=0.1)


def test_values_that_there_are_not_are_left_out():
    assert summary.mean_of([("a", None), ("b", 2.0)]) == summary.Mean(2.0, None, None, 1)
    assert summary.mean_of([("a", None)]) == summary.Mean(None, None, None, 0)


def test_rows_are_over_everything_targets_and_modalities():
    some = [
        metrics_of("a", dice=(0.2, 0.95), clicks_to_90=2),
        metrics_of("b", dice=(0.4, 0.5), target="u", modality="MR", hd95=(3.0, 2.0)),
    ]
    rows = summary.summarise(some)
    overall = [row for row in rows if row.scope == "all"]
    assert [(row.round, row.dice.mean) for row in overall] == [(0, pytest.approx(0.3)), (1, pytest.approx(0.725))]
    assert (overall[0].clicks_to_90, overall[0].reached_90) == (2, 1)
    assert overall[0].hd95 == summary.Mean(3.0, None, None, 1)
    assert {(row.scope, row.name): row.dice.mean for row in rows if row.scope != "all"} == {
        ("target", "t"): 0.2, ("target", "u"): 0.4, ("modality", "CT"): 0.2, ("modality", "MR"): 0.4,
    }  # fmt: skip


def test_what_got_worse_is_named():
    before = [metrics_of("a", dice=(0.5, 0.6)), metrics_of("b", dice=(0.5, 0.4), prompt="click1")]
    after = [
        metrics_of("a", "n", dice=(0.6, 0.7)),
        metrics_of("b", "n", dice=(0.3, 0.4), prompt="click1", note="too small"),
    ]
    said = summary.remarks(before + after)
    assert "n is worse than m, prompt click1 (volume): Dice 0.500 → 0.300" in said
    assert "n is worse than m, case b: Dice 0.500 → 0.300" in said
    assert "m, click1 (volume): correction 1 lowered the mean Dice, 0.500 → 0.400" in said
    assert "n, click1 (volume), b: t was refused: too small" in said
    assert not any("case a" in line or "box" in line for line in said)


@pytest.mark.parametrize("prompt", ways.KINDS)
def test_corrections_are_drawn_for_every_kind_of_prompt(prompt):
    rows = summary.summarise([metrics_of("a", prompt=prompt, dice=(0.2, 0.5))])
    axes = Figure().subplots()
    report._curves(axes, rows)
    (line,) = (line for line in axes.lines if line.get_marker() not in ("None", None))
    assert line.get_ydata().tolist() == [0.2, 0.5]


# -- campaigns ------------------------------------------------------------------------------------


def test_models_side_by_side_with_a_report(dataset, checkpoint, tmp_path):
    plan = plan_of(dataset, checkpoint, ("volume", "box"), ("image", "click1"), split=None, models=("seer", "other"))
    done = []
    found = measure_all(plan, tmp_path, report=done.append)
    assert len(done) == len(tasks_of(plan)) == 8
    assert [failure[:2] for failure in found.failures] == [("volume 2", "seer"), ("volume 2", "other")]
    assert "case volume 2" in found.failures[0][2]
    assert found.empty == (("volume 0", "nothing"),)
    assert measure_all(plan, tmp_path).empty == found.empty  # resumed
    assert [(f.case, f.model, f.pipeline) for f in found.metrics][:3] == [
        ("volume 0", "seer", "volume"), ("volume 0", "seer", "image"), ("volume 0", "other", "volume"),
    ]  # fmt: skip
    assert {f.pipeline for f in found.metrics if f.case == "picture"} == {"image"}
    for path in write_all(found, tmp_path):
        assert path.stat().st_size > 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "http" not in text.replace("http-equiv", "")
    assert "4 could not be" not in text
    assert "2 could not be measured" in text
    assert "surveys quote the paper" in text

    # Again: nothing is left to do but what failed, and the metrics are those.
    done.clear()
    again = measure_all(plan, tmp_path, report=done.append)
    assert again.metrics == found.metrics
    assert [outcome.task.case.name for outcome in done if outcome.failure] == ["volume 2", "volume 2"]
    assert not any(outcome.metrics for outcome in done)


def test_a_case_that_nothing_fits_or_that_fails_is_not_empty(dataset, checkpoint, tmp_path):
    plan = plan_of(dataset, checkpoint, ("volume", "box"), split=None, rounds=0)
    assert "picture" in {case.name for case in plan.cases}  # takes no volume's pipeline
    found = measure_all(plan, tmp_path)
    assert [name for name, _, _ in found.failures] == ["volume 2"]
    assert found.empty == (("volume 0", "nothing"),)


@pytest.mark.parametrize("missing", ["monai", "jinja2", "matplotlib"])
def test_what_measuring_needs_is_asked_for(monkeypatch, missing):
    report.require()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DependencyError, match=rf"not installed \({missing}\): pip install 'biosam2\[evaluate\]'$"):
        report.require()


def test_one_process_needs_no_joblib_and_several_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert list(in_parallel(abs, [-1, 2])) == [1, 2]
    with pytest.raises(DependencyError, match=r"biosam2\[evaluate\]"):
        list(in_parallel(abs, [-1, 2], jobs=2))


class Page(HTMLParser):
    """Which tags are still open, and where pictures come from."""

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_run_goes_on_where_it_was_cut(dataset, checkpoint, tmp_path):
    plan = plan_of(dataset, checkpoint, ("volume", "box"), rounds=0)
    measured = []

    def cut(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_all(plan, tmp_path, report=cut)
    with open(tmp_path / "measured.jsonl", "a") as stream:
        stream.write('{"key": "torn off in the mid')
    found = measure_all(plan, tmp_path, report=lambda outcome: measured.append(bool(outcome.metrics)))
    assert measured == [False, True]  # what was there, then what was not; the picture takes no volume's pipeline
    assert table(found) == table(measure_all(plan, tmp_path / "fresh"))
    # Another prompt is measured, what is known is not; a changed label is.
    more = replace(plan, ways=(*plan.ways, ("volume", "click1")))
    done = []
    measure_all(more, tmp_path, report=done.append)
    assert [outcome.task.ways for outcome in done] == [(("volume", "click1"),)] * 2
    label = plan.cases[0].targets[0].labels[0]
    os.utime(label, ns=(1, 1))
    done.clear()
    measure_all(plan, tmp_path, report=done.append)
    assert [bool(outcome.metrics) for outcome in done] == [False, True]


def test_two_runs_do_not_share_a_folder(dataset, checkpoint, tmp_path):
    held = store.Store(tmp_path)
    with pytest.raises(OutputError, match="another run"):
        measure_all(plan_of(dataset, checkpoint, ("volume", "box")), tmp_path)
    held.close()
    with pytest.raises(InputError, match="fits a case"):
        measure_all(plan_of(dataset, checkpoint, ("image", "mask")), tmp_path)


def test_a_model_is_called_by_its_name_or_as_it_was_typed(checkpoint, tmp_path):
    for ending in (".safetensors", ".yaml"):
        (tmp_path / f"seer{ending}").write_bytes(checkpoint.with_suffix(ending).read_bytes())
    one, two = networks_of([str(checkpoint), str(tmp_path / "seer.safetensors")], None, "cpu")
    assert (one.label, two.label) == (str(checkpoint), str(tmp_path / "seer.safetensors"))
    with pytest.raises(InputError, match="given twice"):
        networks_of([str(checkpoint), str(checkpoint)], None, "cpu")


def test_a_cluster_that_loses_a_worker_gives_the_same_table(dataset, checkpoint, tmp_path):
    """Two Dask workers; one is killed as soon as the first case is done."""
    from distributed import LocalCluster

    plan = plan_of(dataset, checkpoint, ("volume", "click1"), ("image", "box"), models=("seer", "other"), rounds=0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as cluster:
        start = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-nanny"]
        options = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path / "dask")]
        workers = [subprocess.Popen([*start, *options], env=environment) for _ in range(2)]
        try:
            from distributed import Client

            with Client(cluster.scheduler_address, set_as_default=False) as client:
                client.wait_for_workers(2, timeout=300)
            seen = []

            def kill_one(outcome):
                seen.append(outcome)
                if len(seen) == 1:
                    workers[0].kill()

            found = measure_all(plan, tmp_path / "cluster", cluster=cluster.scheduler_address, report=kill_one)
            assert workers[0].wait() != 0
            assert len(seen) == len(tasks_of(plan))
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    assert found.failures == ()
    assert table(found) == table(measure_all(plan, tmp_path / "here"))


def test_a_cluster_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(parallel, "_CONNECT_TIMEOUT", 0.5)
    with pytest.raises(InputError, match="there is no Dask scheduler"):
        list(in_parallel(abs, [1], cluster="tcp://127.0.0.1:9"))
