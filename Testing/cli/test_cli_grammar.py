"""Prompts: their order on the command line, their coordinates, and what they mean in a volume."""

from __future__ import annotations

from typing import Any

import click
import numpy as np
import pytest
from biosam2.cli import options
from biosam2.cli.app import cli
from biosam2.cli.grammar import MarkupText, MaskText, OrderedCommand, PlacesText, StartText
from biosam2.cli.job import Start, locate
from biosam2.engine.memory import POLICIES
from biosam2.errors import PromptError
from biosam2.prompts import Box, Mask, Point
from biosam2.volume import Volume
from hypothesis import assume, example, given
from hypothesis import strategies as st


@click.command(cls=OrderedCommand)
@click.argument("image")
@options.prompts()
@options.millimetres()
@click.option("--other", multiple=True)
def command(image: str, prompts: list, other: tuple[str, ...]) -> Any:
    return prompts


def parse(*arguments: str) -> list[tuple[str, Any]]:
    """What a command gets for these arguments."""
    return command.main(["image", *arguments], standalone_mode=False)


numbers = st.floats(-500, 500).map(lambda v: round(v, 3))
triples = st.tuples(numbers, numbers, numbers)
typed_prompts = st.one_of(
    st.builds(PlacesText, st.just("point"), st.tuples(triples), st.booleans()),
    st.builds(PlacesText, st.just("box"), st.tuples(triples, triples)),
    st.builds(MarkupText, st.just("point"), st.just("a,b −.mrk.json"), st.none() | st.booleans()),
    st.builds(MaskText, st.just("a@b=c.nrrd"), st.none() | st.integers(0, 99), st.none() | st.integers(0, 9)),
    st.builds(StartText, st.just("s.seg.nrrd"), st.none() | st.integers(0, 9)),
)


def written(prompt: Any) -> tuple[str, str]:
    """The option and the value that mean a prompt."""
    if isinstance(prompt, PlacesText):
        places = ":".join(",".join(f"{v:g}" for v in place) for place in prompt.places)
        return f"--{prompt.kind}", places + ("" if prompt.positive else ",-")
    if isinstance(prompt, MarkupText):
        return f"--{prompt.kind}", f"{prompt.path}" + {None: "", True: ",+", False: ",-"}[prompt.positive]
    label = "" if prompt.label is None else f"={prompt.label}"
    if isinstance(prompt, StartText):
        return "--start", f"{prompt.path}{label}"
    return "--mask", f"{prompt.path}{label}" + ("" if prompt.slice_index is None else f"@{prompt.slice_index}")


@given(
    steps=st.lists(
        st.one_of(typed_prompts, st.sampled_from(["--segment a", "--segment b", "--lps", "--ras", "--ijk", "--other"])),
        min_size=1,
        max_size=14,
    ),
    joined=st.booleans(),
)
def test_prompts_keep_their_order_segment_and_coordinates(steps: list, joined: bool) -> None:
    arguments: list[str] = []
    expected: list[tuple[str, Any, str]] = []
    segment, system = "segment", "ijk"
    for step in steps:
        if step == "--other":
            arguments += ["--other", "x"]
        elif isinstance(step, str):
            arguments += step.split()
            segment = step.split()[1] if step.startswith("--segment") else segment
            system = system if step.startswith("--segment") else step[2:]
        else:
            option, value = written(step)
            arguments += [f"{option}={value}"] if joined else [option, value]
            expected.append((segment, step, system))
    named = {a for a, b in zip(arguments[1:], arguments, strict=False) if b == "--segment"}
    useless = named - {name for name, _, _ in expected}
    if useless or all(isinstance(step, StartText) for _, step, _ in expected):
        with pytest.raises(click.UsageError):
            parse(*arguments)
        return
    got = parse(*arguments)
    assert [name for name, _ in got] == [name for name, _, _ in expected]
    for (_, prompt), (_, meant, coordinates) in zip(got, expected, strict=True):
        assert type(prompt) is type(meant)
        assert written(prompt) == written(meant)
        if isinstance(prompt, PlacesText):
            assert prompt.system == coordinates


@pytest.mark.parametrize(
    "value", ["", "1", "1,2", "1,2,3,4", "1,2,x", "nan,1,2", "1,,2", "1,2,inf", "1;2;3", "1,2,3,-,-", "-", ",-"]
)
def test_a_point_that_is_none(value: str) -> None:
    with pytest.raises(click.BadParameter, match="I,J,K"):
        parse("--point", value)


@pytest.mark.parametrize("value", ["", "1,2,3", "1,2,3:4,5", "1,2,3:4,5,6:7,8,9", "1,2,3-4,5,6", ":"])
def test_a_box_that_is_none(value: str) -> None:
    with pytest.raises(click.BadParameter, match="I0,J0,K0:I1,J1,K1"):
        parse("--box", value)


def test_the_policies_are_the_engines() -> None:
    assert set(options.POLICIES) == set(POLICIES)


def test_every_option_has_a_help_text() -> None:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        found = cli.get_command(context, name)
        assert found is not None
        assert found.get_short_help_str()
        assert all(p.help for p in found.params if isinstance(p, click.Option)), name


def oblique(angle: float, spacing: tuple[float, float, float], flip: bool) -> Volume:
    """A volume of 5 × 6 × 7 voxels that is turned about the body's axis."""
    c, s = np.cos(angle), np.sin(angle)
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, -1.0 if flip else 1.0]])
    return Volume(np.zeros((7, 6, 5), np.uint8), spacing, (12.5, -80, 33), direction)


volumes = st.builds(
    oblique, st.floats(-3, 3), st.tuples(*[st.floats(0.2, 6).map(lambda v: round(v, 2))] * 3), st.booleans()
)
voxels = st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6))


@given(volume=volumes, one=voxels, other=voxels, system=st.sampled_from(["lps", "ras"]), axis=st.sampled_from("ijk"))
def test_millimetres_find_their_voxels(volume: Volume, one: tuple, other: tuple, system: Any, axis: str) -> None:
    signs = (-1, -1, 1) if system == "ras" else (1, 1, 1)
    millimetres = [tuple((volume.lps_from_ijk(v) * signs).tolist()) for v in (one, other)]
    point, box = locate(
        [
            ("a", PlacesText("point", (millimetres[0],), positive=False, system=system)),
            ("a", PlacesText("box", (millimetres[0], millimetres[1]), system=system)),
        ],
        volume,
        axis,
    )
    assert isinstance(point[1], Point)
    assert point[1].ijk == pytest.approx(one, abs=1e-4)
    assert point[1].ijk["ijk".index(axis)] == one["ijk".index(axis)], "on a slice, not between two"
    assert not point[1].positive
    assert isinstance(box[1], Box)
    assert box[1].min_ijk == tuple(map(float, np.minimum(one, other)))
    assert box[1].max_ijk == tuple(map(float, np.maximum(one, other)))


@example(oblique(0, (1, 1, 1), False), (12.5, -80.0, 39.5), "lps")
@given(volume=volumes, coordinates=triples, system=st.sampled_from(["ijk", "lps", "ras"]))
def test_a_point_is_inside_or_refused(volume: Volume, coordinates: tuple, system: Any) -> None:
    to_ijk = {"ijk": np.asarray, "lps": volume.ijk_from_lps, "ras": volume.ijk_from_ras}[system]
    size = np.array(volume.shape[::-1])
    depth = float(np.min(np.minimum(to_ijk(coordinates) + 0.5, size - 0.5 - to_ijk(coordinates))))
    assume(abs(depth) > 1e-5)
    texts = [("a", PlacesText("point", (coordinates,), system=system))]
    if depth < 0:
        with pytest.raises(PromptError, match=r"^--point .* lies outside the image.*$"):
            locate(texts, volume, "k")
    else:
        [(_, point)] = locate(texts, volume, "k")
        assert isinstance(point, Point)
        assert np.allclose(point.ijk[:2], to_ijk(coordinates)[:2], atol=1e-4)


def test_a_labelmap_gives_masks_of_its_slices(folder, ball: Volume) -> None:
    path = folder / "ball-mask.nrrd"
    found = locate([("a", MaskText(path, 20)), ("b", MaskText(path)), ("c", StartText(path, 2))], ball, "j")
    (_, one), *several, (_, start) = found
    labels = ball.array > 150
    assert isinstance(one, Mask)
    assert np.array_equal(one.array2d, labels[:, 20])
    assert [m.slice_index for _, m in several] == np.flatnonzero(labels.any(axis=(0, 2))).tolist()
    assert isinstance(start, Start)
    assert start.mask.shape == ball.shape
    assert not start.mask[:, 20:].any()
