"""biosam2 replay: do a recorded run again and get the same mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from . import options
from .progress import ProgressBar

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("record", type=_FILE)
@click.option("-o", "--output", type=_FILE, help="Where to write the segmentation; default: only compare.")
@click.option("--input", "source", type=_FILE, help="The input, where it is no longer at its recorded path.")
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps; default: as recorded.")
@options.elsewhere()
@click.option("--montage", type=click.Path(dir_okay=False, path_type=Path), help="Write a PNG of the result.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def replay(
    record: Path,
    output: Path | None,
    source: Path | None,
    device: str | None,
    worker: bool,
    server: str | None,
    montage: Path | None,
    quiet: bool,
) -> None:
    """Do a run again from its JSON record.

    The input and the model must be those of the record (their SHA-256 are compared). On the same machine and
    versions the mask is the same, bit for bit; where it is not, a warning says what else differs.

    \b
    biosam2 replay run.json                     does it still give the same mask?
    biosam2 replay run.json -o again.seg.nrrd   and write it
    """
    from .. import record as records
    from ..session.entries import Propagated
    from ..session.state import read_record
    from . import job

    known = records.read(record)
    pipeline = known["pipeline"]
    if pipeline not in ("segment", "image", "video"):
        raise InputError(f"the record {record} is of {pipeline!r}, which this version cannot replay")
    source = source or _find(Path(known["input"]["path"]), record)
    if output is not None:
        job.check_outputs(pipeline, output, (montage, None), [record, source])
    if records.hash_input(source) != known["input"]["sha256"]:
        raise InputError(f"{source} is not the input of the record {record}: its SHA-256 differs")
    volume = job.read(pipeline, source, known["input"]["series_uid"], known["input"].get("slice"))
    if known["input"].get("reversed_slices"):
        volume = volume.reversed_slices()

    settings, entries = read_record(known["session"])
    model = known["model"]
    if server is None:
        where = job.Where(model["typed"] or model["name"], model["config"], device or known["device"], worker)
    else:
        where = job.Where(model["name"], device=device or "auto", worker=worker, server=server)
    with job.session_at(where, volume, settings) as session:
        if session.model.sha256 != model["sha256"]:
            raise InputError(f"model {session.model.name} is not that of the record {record}: its SHA-256 differs")
        total = sum(len(entry.finished) for entry in entries if isinstance(entry, Propagated))
        with ProgressBar(total, "replay", job.UNITS[pipeline], quiet=quiet) as progress:
            for entry in entries:
                session.replay(entry, on_update=lambda _: progress.advance())
        if output is not None:
            job.write(pipeline, output, session)
        if montage is not None:
            job.write_montage(montage, session, anatomical=pipeline == "segment")
        job.report(pipeline, session, [output, montage])
        now = records.hash_labels(session), str(session.model.device)
    if now[0] == known["labelmap_sha256"]:
        click.echo("the same mask as recorded, bit for bit")
        return
    message = f"the mask differs from the recorded one; other than then: {_differences(known, now[1])}"
    if output is None:
        raise InputError(message)
    click.echo(f"biosam2: warning: {message}", err=True)


def _find(path: Path, record: Path) -> Path:
    """The recorded input: at its path, or at that path seen from the record's folder."""
    for candidate in (path, record.parent / path, record.parent / path.name):
        if candidate.exists():
            return candidate
    raise InputError(f"the record's input {path} is not there; say with --input where it is")


def _differences(known: dict[str, Any], device: str) -> str:
    from ..record import versions

    now = {**versions(), "device": device}
    then = {**known["versions"], "device": known["device"]}
    found = [f"{name} {then.get(name)} then, {now.get(name)} now" for name in now if then.get(name) != now.get(name)]
    return "; ".join(found) or "nothing that the record knows"
