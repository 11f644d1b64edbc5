"""What segment, image and video have in common: prompts to voxels, a session, progress, results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np

from .. import extras
from ..errors import InputError, OutputError, PromptError
from ..frames import Frames
from ..prompts import BY_NAME, IJK, Mask, Prompt
from ..speed import Speed
from ..volume import Volume
from .grammar import MarkupText, PlacesText, PromptText, StartText
from .markups import read_kind
from .progress import ProgressBar

if TYPE_CHECKING:
    from ..session import Session

Pipeline = Literal["segment", "image", "video"]

UNITS = {"segment": "slices", "image": "images", "video": "frames"}
"""What a step of each pipeline is."""


@dataclass(frozen=True)
class Start:
    """A mask that a segment starts from, bool (K, J, I)."""

    mask: np.ndarray


def check_outputs(pipeline: Pipeline, output: Path, others: Iterable[Path | None], inputs: Iterable[Path]) -> None:
    """Refuse what could not be written, before any work is done.

    Args:
        pipeline: which command.
        output: of the segmentation; for a video also a folder.
        others: of the montage, the record, the areas and the overlay, as many as there are of these.
        inputs: files that must not be written over.

    Raises:
        OutputError: unknown extension, no such folder, no permission, or a file given twice.
        DependencyError: the package that writes the format is not installed.
    """
    from ..io.formats import SEQUENCE, extension
    from ..io.segmentation import LABELMAP, WRITABLE

    known = {*LABELMAP, ".seg.nrrd", ".dcm", ".seg.dcm"}
    if pipeline == "image":
        known.add(".png")
    if pipeline == "video":
        known.add(SEQUENCE)
    folder = is_folder(pipeline, output)
    if not folder and extension(output) not in known:
        png = ", .png" if pipeline == "image" else ""
        raise OutputError(f"cannot write {output}: its extension is none of {WRITABLE}{png}")
    others = tuple(others)
    for ending, path in zip((".png", ".json", ".csv", ".mp4"), others, strict=False):
        if path is not None and path.suffix.lower() != ending:
            raise OutputError(f"cannot write {path}: its name must end in {ending}")
    taken = {path.resolve() for path in inputs}
    for path in (output, *others):
        if path is None:
            continue
        if path.resolve() in taken:
            raise OutputError(f"cannot write {path}: it is an input or another output; choose another name")
        taken.add(path.resolve())
        parent = path.absolute().parent
        if not parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {parent}; create it first")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write {path}: no permission to write in {parent}")
        if path.is_dir() and not (path == output and folder):
            raise OutputError(f"cannot write {path}: it is a folder; give a file name")
    if folder or any(path is not None and path.suffix.lower() == ".mp4" for path in others):
        extras.require("video", "an overlay video")
    if extension(output) in (".dcm", ".seg.dcm"):
        extras.require("dicom", "DICOM SEG", "highdicom")
    if folder and output.is_file():
        raise OutputError(f"cannot write the folder {output}: a file has that name")
    if folder and output.is_dir() and any(output.iterdir()):
        raise OutputError(f"the folder {output} is not empty; choose another name or empty it first")


def is_folder(pipeline: Pipeline, output: Path) -> bool:
    """Whether the masks go into a folder, one for each frame: a video's, where the output has no extension."""
    from ..io.formats import extension

    return pipeline == "video" and not extension(output)


def check_format(output: Path, volume: Volume) -> None:
    """Refuse a format that the input does not allow.

    Raises:
        OutputError: a DICOM SEG of an image that is not DICOM.
    """
    from ..io.formats import extension

    if extension(output) in (".dcm", ".seg.dcm") and "dicom_files" not in volume.metadata:
        raise OutputError(f"cannot write {output}: DICOM SEG needs a DICOM input; write .seg.nrrd or .nii.gz instead")


def read(pipeline: Pipeline, path: Path, series: str | None = None, slice_index: int | None = None) -> Volume:
    """Read the input as the pipeline sees it.

    Raises:
        InputError: it cannot be read.
    """
    from .. import io

    if pipeline == "image":
        return io.read_image(path)
    return io.read_video(path, slice_index) if pipeline == "video" else io.read_volume(path, series_uid=series)


def locate(texts: Sequence[tuple[str, PromptText]], volume: Volume, axis: str) -> list[tuple[str, Prompt | Start]]:
    """The prompts in voxel indices of a volume.

    Points in millimetres keep their place within the slice and go to the nearest slice; boxes in millimetres go to
    the nearest voxels.

    Raises:
        PromptError: a prompt lies outside the volume, or a labelmap marks nothing where it should.
        InputError: a labelmap cannot be read or does not lie on the volume's grid.
    """
    frames = Frames(volume, axis, (0.0, 1.0), 0)
    labelmaps: dict[Path, Volume] = {}
    located: list[tuple[str, Prompt | Start]] = []
    for segment, text in texts:
        if isinstance(text, PlacesText):
            located.append((segment, _placed(text, volume, frames)))
        elif isinstance(text, MarkupText):
            located += [(segment, _marked(prompt, text.path, volume, frames)) for prompt in read_kind(text)]
        else:
            mask = _labelled(text.path, text.label, volume, labelmaps)
            if isinstance(text, StartText):
                located.append((segment, Start(mask)))
            else:
                found = _slices(frames.unstack(mask), text.slice_index, text.path)
                located += [(segment, prompt) for prompt in found]
    return located


def check_range(first: int | None, last: int | None, volume: Volume, axis: str) -> None:
    """Refuse a range of slices that is empty or not in the volume.

    Raises:
        InputError: it is.
    """
    frames = Frames(volume, axis, (0.0, 1.0), 0)
    for bound in (first, last):
        if bound is not None:
            frames.check_index(bound)
    if first is not None and last is not None and first > last:
        raise InputError(f"--first {first} lies after --last {last}")


@dataclass(frozen=True)
class Where:
    """Which network, and where it runs.

    Attributes:
        model: a name, a checkpoint's path, or None for the default.
        config: the configuration of a checkpoint.
        device: of this computer.
        worker: whether in a process of its own.
        server: the address of a server, or None.

    Raises:
        click.UsageError: options that exclude each other.
        DependencyError: the network is to run here, and its packages are not installed.
    """

    model: str | None = None
    config: str | None = None
    device: str = "auto"
    worker: bool = False
    server: str | None = None

    def __post_init__(self) -> None:
        if self.server is not None and (self.config is not None or self.device != "auto"):
            raise click.UsageError("a server has its own models and device; leave out --config and --device")
        if self.server is None:
            extras.require("engine", "a network on this computer (without --server)")


@contextmanager
def open_session(
    where: Where,
    volume: Volume,
    located: Sequence[tuple[str, Prompt | Start]],
    *,
    axis: str = "k",
    window: tuple[float, float] | str | None = None,
    crop: str | None = None,
    exact: bool = False,
    policy: str | None = None,
    capacity: int | None = None,
    merge: str | None = None,
    speed: Speed | None = None,
) -> Iterator[Session]:
    """A session that has the prompts, here or elsewhere, for as long as the context lasts.

    Args:
        where: the model, and whether it runs in this process, in a worker or on a server.
        volume: the voxels.
        located: segments with what they are given, in order.
        axis: that slices run along.
        window: (centre, width), the name of a CT preset, or None for robust percentiles.
        crop: ``auto``, ``none``, or None for what serves the user: a crop unless `exact`.
        exact: nothing approximate.
        policy: of the memory, or None for what serves the user: ``path`` unless `exact`.
        capacity: of the policy ``dissimilar``, or None.
        merge: ``progressive``, or ``none`` (as None is).
        speed: optimisations, by default those of `Session`.
    """
    settings: dict[str, Any] = {
        "axis": axis,
        "window": window,
        "crop": None if exact or crop == "none" else "auto",
        "policy": "sam2" if exact else policy or "path",
        "capacity": capacity,
        "merge": "progressive" if merge == "progressive" and not exact else None,
        "precision": "float32" if exact else "auto",
    }
    if speed is not None:
        settings["speed"] = speed
    with session_at(where, volume, settings) as session:
        for segment, prompt in located:
            if isinstance(prompt, Start):
                session.start_from(segment, prompt.mask)
            else:
                session.add_prompt(segment, prompt)
        yield session


@contextmanager
def session_at(where: Where, volume: Volume, settings: dict[str, Any]) -> Iterator[Any]:
    """An empty session, here or elsewhere, for as long as the context lasts.

    Args:
        where: the model, and whether it runs in this process, in a worker or on a server.
        volume: the voxels.
        settings: arguments of `Session`.
    """
    if not where.worker and where.server is None:
        from ..models import load_model
        from ..models.network import require_engine

        require_engine()  # says in one line what is broken
        from ..session import Session

        yield Session(load_model(where.model, where.device, config=where.config), volume, **settings)
        return
    from ..service import RemoteSession, WorkerSession

    settings["on_notice"] = lambda text: click.echo(f"biosam2: {text}", err=True)
    elsewhere: Any
    if where.worker:
        elsewhere = WorkerSession(
            volume,
            model=where.model,
            config=where.config,
            device=where.device,
            server=where.server,
            **settings,
        )
    else:
        key = os.environ.get("BIOSAM2_API_KEY")
        elsewhere = RemoteSession(where.server, volume, model=where.model, api_key=key, **settings)  # type: ignore[arg-type]
    with elsewhere:
        yield elsewhere


def check_exact(
    exact: bool, crop: str | None, policy: str | None, speed: Speed | None, merge: str | None = None
) -> None:
    """Refuse --exact together with what is approximate.

    Raises:
        click.UsageError: they exclude each other.
    """
    if exact and crop == "auto":
        raise click.UsageError("--exact and --crop auto exclude each other; leave one out")
    if exact and policy not in (None, "sam2"):
        raise click.UsageError(f"--exact and --policy {policy} exclude each other; leave one out")
    if exact and merge == "progressive":
        raise click.UsageError("--exact and --merge progressive exclude each other; leave one out")
    if exact and speed is not None and not speed.is_exact:
        raise click.UsageError("--exact and an approximate --speed exclude each other; leave one out")


def propagate(pipeline: Pipeline, session: Session, *, quiet: bool, **how: Any) -> None:
    """Propagate all segments that have prompts, showing progress.

    Args:
        pipeline: which command.
        session: with its prompts.
        quiet: show nothing.
        how: direction, first, last.
    """
    label = ", ".join(session.segments)
    total = session.count_steps(**how)
    with ProgressBar(
        total, label if len(label) <= 40 else f"{len(session.segments)} segments", UNITS[pipeline], quiet=quiet
    ) as shown:
        for _ in session.propagate(**how):
            shown.advance()


def write(pipeline: Pipeline, output: Path, session: Session) -> None:
    """Write the segmentation in the format that the output's name asks for; atomic.

    Raises:
        OutputError: it cannot be written.
    """
    from .. import io
    from ..io.formats import extension

    if extension(output) == ".png":
        _write_png(output, session)
    elif is_folder(pipeline, output):
        with io.atomic_folder(output) as folder:
            io.write_video_masks(folder, session)
            io.write_overlay_video(folder / "overlay.mp4", session, window=session.frames.window)
    else:
        io.write_segmentation(output, session)


def write_montage(path: Path, session: Session, anatomical: bool) -> None:
    """Draw the session's segments and prompts."""
    from .. import render

    prompts = [(name, prompt) for name in session.segments for prompt in session.prompts(name)]
    render.write_montage(path, session, session.frames, prompts, anatomical=anatomical)


def report(pipeline: Pipeline, session: Session, outputs: Sequence[Path | None]) -> None:
    """Say on standard output what was found and where it is."""
    voxel = float(np.prod(session.volume.spacing)) / 1000
    for name in session.segments:
        mask = session.mask(name)
        count = int(mask.sum())
        slices = int(session.frames.unstack(mask).any(axis=(1, 2)).sum())
        found = {
            "segment": f"{count} voxels on {slices} of {session.number_of_slices} slices, {count * voxel:.3g} ml",
            "image": f"{count} pixels",
            "video": f"{count} pixels on {slices} of {session.number_of_slices} frames",
        }
        click.echo(f"{name}: {found[pipeline]}")
        if count == 0:
            click.echo(f"biosam2: warning: {name} is empty; give more prompts", err=True)
    for path in outputs:
        if path is not None:
            click.echo(f"wrote {path}")


def _placed(text: PlacesText, volume: Volume, frames: Frames) -> Prompt:
    places = [_inside(place, text.system, volume, f"--{text.kind}") for place in text.places]
    return BY_NAME[text.kind].from_places(  # type: ignore[return-value]
        places, frames, text.positive, millimetres=text.system != "ijk"
    )


def _marked(text: PlacesText, path: Path, volume: Volume, frames: Frames) -> Prompt:
    try:
        return _placed(text, volume, frames)
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from error


def _inside(typed: Sequence[float], system: str, volume: Volume, option: str) -> IJK:
    """The voxel index of what was typed.

    Raises:
        PromptError: it lies outside the volume.
    """
    size = volume.shape[::-1]
    if system == "ijk":
        i, j, k = (*typed, 0.0)[:3]  # an image's third index is 0
    else:
        convert = volume.ijk_from_lps if system == "lps" else volume.ijk_from_ras
        # Round off what the matrix's inverse adds, or a voxel's own centre would not be whole.
        i, j, k = (float(v) for v in np.round(convert(typed), 6))
    if all(-0.5 <= v <= n - 0.5 for v, n in zip((i, j, k), size, strict=True)):
        return i, j, k
    text = ",".join(f"{v:g}" for v in typed)
    if system == "ijk":
        ranges = ", ".join(f"{a} 0 to {n - 1}" for a, n in zip("ijk"[: len(typed)], size, strict=False))
        raise PromptError(f"{option} {text} lies outside the image; voxels are {ranges}")
    corners = volume.lps_from_ijk(np.array(np.meshgrid(*((0, n - 1) for n in size), indexing="ij")).reshape(3, -1).T)
    if system == "ras":
        corners = corners * (-1, -1, 1)
    box = ", ".join(f"{a:.1f} to {b:.1f}" for a, b in zip(corners.min(axis=0), corners.max(axis=0), strict=True))
    raise PromptError(f"{option} {text} mm ({system.upper()}) lies outside the image, which spans {box}")


def _labelled(path: Path, label: int | None, volume: Volume, known: dict[Path, Volume]) -> np.ndarray:
    from ..io import read_labelmap

    if path not in known:
        known[path] = read_labelmap(path, like=volume)
    array = known[path].array
    mask = array != 0 if label is None else array == label
    if not mask.any():
        raise InputError(f"{path} marks no voxel{'' if label is None else f' with label {label}'}")
    return mask


def _slices(mask: np.ndarray, slice_index: int | None, path: Path) -> list[Mask]:
    if slice_index is None:
        return [Mask(int(s), mask[s]) for s in np.flatnonzero(mask.any(axis=(1, 2)))]
    if slice_index >= len(mask):
        raise PromptError(f"--mask {path}@{slice_index}: there is no such slice; slices are 0 to {len(mask) - 1}")
    if not mask[slice_index].any():
        marked = np.flatnonzero(mask.any(axis=(1, 2)))
        raise PromptError(f"{path} marks nothing on slice {slice_index}; it does on {marked[0]} to {marked[-1]}")
    return [Mask(slice_index, mask[slice_index])]


def _write_png(path: Path, session: Session) -> None:
    from PIL import Image

    from ..io import atomic_path

    labels = session.labelmap()[0]
    if len(session.segments) == 1:
        labels = labels * np.uint8(255)
    with atomic_path(path) as temporary:
        Image.fromarray(labels).save(temporary)
