"""One input, from the options to the files: what segment, image, video and each row of a table do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..speed import Speed
from . import job
from .grammar import PlacesText, PromptText


def run(
    pipeline: Any,
    *,
    source: Path,
    output: Path,
    prompts: list[tuple[str, PromptText]],
    model: str | None,
    config: str | None,
    device: str,
    exact: bool,
    crop: str | None,
    montage: Path | None,
    record: Path | None,
    quiet: bool,
    worker: bool,
    server: str | None,
    window: tuple[float, float] | str | None = None,
    axis: str = "k",
    policy: str | None = None,
    capacity: int | None = None,
    merge: str | None = None,
    speed: Speed | None = None,
    direction: Any = "both",
    first: int | None = None,
    last: int | None = None,
    series: str | None = None,
    areas: Path | None = None,
    overlay: Path | None = None,
    slice_index: int | None = None,
) -> None:
    """Segment one input; the arguments are the options."""
    from .. import io
    from .. import record as records

    job.check_exact(exact, crop, policy, speed, merge)
    where = job.Where(model, config, device, worker, server)
    files = [text.path for _, text in prompts if not isinstance(text, PlacesText)]
    job.check_outputs(pipeline, output, (montage, record, areas, overlay), [source, *files])
    input_sha256 = records.hash_input(source) if record else ""
    volume = job.read(pipeline, source, series, slice_index)
    job.check_format(output, volume)
    located = job.locate(prompts, volume, axis)

    job.check_range(first, last, volume, axis)

    with job.open_session(
        where,
        volume,
        located,
        axis=axis,
        window=window,
        crop=crop,
        exact=exact,
        policy=policy,
        capacity=capacity,
        merge=merge,
        speed=speed,
    ) as session:
        job.propagate(pipeline, session, quiet=quiet, direction=direction, first=first, last=last)

        job.write(pipeline, output, session)
        if montage is not None:
            job.write_montage(montage, session, anatomical=pipeline == "segment")
        if areas is not None:
            io.write_areas(areas, session)
        if overlay is not None:
            io.write_overlay_video(overlay, session, window=session.frames.window)
        if record is not None:
            written = [path for path in (output, montage, areas, overlay) if path is not None]
            read = {"path": str(source), "sha256": input_sha256, "series_uid": series}
            content = records.build(
                pipeline, read, session.model, session.to_record(), session, written, typed=model, config=config
            )
            if slice_index is not None:
                content["input"]["slice"] = slice_index
            records.write(record, content)
        job.report(pipeline, session, [output, montage, areas, overlay, record])
