"""Leave one case out in turn: fine-tune on the others, measure on the one, before and after.

    python -m biosam2.evaluation.leave_one_out --data cases.csv -o folds

Stopped or started again, it goes on where it was: fine-tuning from its last state, measuring from its last figure.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import Case, load_dataset
from ..errors import BioSAM2Error, InputError
from ..io import atomic_path
from ..models import load_model
from ..training.finetune import FineTuneSettings, finetune
from ..training.recipes import RECIPES
from . import report as report_page
from .campaign import measure_all, networks_of, write_all
from .results import Plan
from .runs import EvaluationSettings
from .ways import KINDS, STANDARD, Kind

# What surveys quote from the BioSAM-2 paper: mean Dice of SAM 2 and of BioSAM-2. Other data, other weights.
_PAPER = (("AMOS MR", 54.9, 74.4), ("FLARE CT", 47.4, 76.3))
_WORTH = 0.005  # smaller differences are no remark


@dataclass(frozen=True)
class FoldMetrics:
    """One target of the case left out, before and after.

    Attributes:
        case, target, prompt: what was measured.
        dice, nsd: (before, after), 0 to 1.
        rounds: Dice (before, after) of the result and after each correction.
    """

    case: str
    target: str
    prompt: str
    dice: tuple[float, float]
    nsd: tuple[float, float]
    rounds: tuple[tuple[float, ...], tuple[float, ...]]


def leave_one_out(
    out: Path,
    cases: Sequence[Case],
    model: str,
    settings: FineTuneSettings,
    *,
    only: str = "*",
    prompts: Sequence[Kind] = STANDARD,
    engine: EvaluationSettings | None = None,
    report: Callable[[str], None],
) -> list[FoldMetrics]:
    """Fine-tune and measure each fold; write ``CASE/`` for each and ``leave-one-out.md`` and ``.json`` over all.

    Args:
        out: folder.
        cases: all of them. Those that share an image with the case left out are left out with it.
        model: a name or a checkpoint's path.
        settings: of fine-tuning.
        only: the cases that are left out, by a pattern.
        prompts: that are measured.
        engine: how the engine is run.
        report: told of each fold.

    Raises:
        InputError: there are fewer than two images, no case fits `only`, or one could not be measured.
        OutputError: the folder cannot be written.
        DependencyError: what measuring and its report need is not installed.
    """
    report_page.require()  # else its absence shows only after hours of fine-tuning
    left_out = [case for case in cases if fnmatch(case.name, only)]
    if not left_out or len({case.image for case in cases}) < 2:
        raise InputError(f"leaving one out needs two images or more, and a case named {only!r}")
    metrics: list[FoldMetrics] = []
    failures: list[tuple[str, str, str]] = []
    for case in left_out:
        folder = out / case.name.replace("/", "-")
        others = [other for other in cases if other.image != case.image]
        report(f"{case.name}: fine-tuning on {', '.join(other.name for other in others)}")
        begun = load_model(model, device="cpu")
        path = finetune(folder / "run", begun, others, settings, name="tuned")
        if path is None:
            raise InputError(f"fine-tuning of {folder} was stopped by its minutes; run the same command again")
        report(f"{case.name}: measuring")
        pipeline = {"2D": "image", "3D": "volume", "video": "video"}[case.kind]
        ways = tuple((pipeline, prompt) for prompt in prompts)
        networks = networks_of((model, str(path)), None, settings.device)
        plan = Plan((case,), networks, ways, engine or EvaluationSettings(rounds=1, beyond=20))  # type: ignore[arg-type]
        measured = measure_all(plan, folder / "evaluation")
        write_all(measured, folder / "evaluation")
        failures += measured.failures
        metrics += _paired(measured.to_json()["figures"], *(network.label for network in networks))
        _write(out, metrics, settings)
    report(f"wrote {out / 'leave-one-out.md'}")
    if failures:
        named = "; ".join(f"{name}, {network}: {why}" for name, network, why in failures)
        raise InputError(f"not measured: {named}; mend that and run the same command again")
    return metrics


def table(metrics: Sequence[FoldMetrics]) -> str:
    """The folds as Markdown: Dice and NSD before and after, what got worse by name, and the paper's metrics."""
    lines = [
        "| left out | target | prompt | DSC before | DSC after | NSD before | NSD after |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {f.case} | {f.target} | {f.prompt} | {_numbers(f.dice)} | {_numbers(f.nsd)} |" for f in metrics]
    for prompt in dict.fromkeys(f.prompt for f in metrics):
        own = [f for f in metrics if f.prompt == prompt]
        lines.append(
            f"| **mean** | {len(own)} targets | {prompt} | {_numbers(_mean(f.dice for f in own))} "
            f"| {_numbers(_mean(f.nsd for f in own))} |"
        )
    paper = "; ".join(f"{data} {before} and {after}" for data, before, after in _PAPER)
    parts = [
        "\n".join(lines),
        "Before: the model as it is. After: fine-tuned on the other cases.",
        *_worse(metrics),
        f"For comparison, as surveys quote the BioSAM-2 paper (mean Dice in % of SAM 2 and of BioSAM-2, on data and "
        f"with weights that are not these): {paper}.",
    ]
    return "\n\n".join(parts) + "\n"


def _worse(metrics: Sequence[FoldMetrics]) -> list[str]:
    """Folds and prompts that fine-tuning hurt, and corrections that lowered Dice after it, each by name."""
    found = []
    for case in dict.fromkeys(f.case for f in metrics):
        before, after = _mean(f.dice for f in metrics if f.case == case)
        if after < before - _WORTH:
            found.append(f"- the fold {case}: mean Dice {before:.3f} before, {after:.3f} after")
    for prompt in dict.fromkeys(f.prompt for f in metrics):
        before, after = _mean(f.dice for f in metrics if f.prompt == prompt)
        if after < before - _WORTH:
            found.append(f"- the prompt {prompt}: mean Dice {before:.3f} before, {after:.3f} after")
    for f in metrics:
        for number, (earlier, later) in enumerate(zip(f.rounds[1], f.rounds[1][1:], strict=False), start=1):
            if later < earlier - _WORTH:
                found.append(
                    f"- correction {number} of {f.case}, {f.target}, {f.prompt}: Dice {earlier:.3f} to {later:.3f}"
                )
    return ["Worse:\n\n" + "\n".join(found)] if found else ["No fold, prompt or correction got worse."]


def _paired(metrics: Sequence[dict[str, Any]], before: str, after: str) -> list[FoldMetrics]:
    """Metrics of two models put side by side; a target that one of them was not measured on is left out."""
    by_model = {
        model: {(f["case"], f["target"], f["prompt"]): f for f in metrics if f["model"] == model}
        for model in (before, after)
    }
    return [
        FoldMetrics(
            *key,
            dice=(one["dice"][0], other["dice"][0]),
            nsd=(one["nsd"][0], other["nsd"][0]),
            rounds=(tuple(one["dice"]), tuple(other["dice"])),
        )
        for key, one in by_model[before].items()
        if (other := by_model[after].get(key)) is not None
    ]


def _write(out: Path, metrics: Sequence[FoldMetrics], settings: FineTuneSettings) -> None:
    with atomic_path(out / "leave-one-out.json") as path:
        content = {"settings": asdict(settings), "figures": [asdict(figure) for figure in metrics]}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with atomic_path(out / "leave-one-out.md") as path:
        path.write_text(table(metrics), encoding="utf-8")


def _mean(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    before, after = np.mean(list(pairs), axis=0)
    return float(before), float(after)


def _numbers(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f} | {pair[1]:.3f}"


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m biosam2.evaluation.leave_one_out", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a manifest or a folder of labelled images")
    parser.add_argument("--root", type=Path, help="what a manifest's paths start from")
    parser.add_argument("--split", help="only the cases of this split")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="the cases that are left out, as in 'mr-*'")
    parser.add_argument("-o", "--out", type=Path, required=True, help="a folder for everything")
    parser.add_argument("--from", dest="model", default="nano", help="a model's name or a checkpoint's path")
    parser.add_argument("--recipe", choices=list(RECIPES), default="biosam2")
    parser.add_argument("--prompts", nargs="+", choices=KINDS, default=STANDARD)
    parser.add_argument("--rounds", type=int, default=1, help="of corrections")
    parser.add_argument("--beyond", type=int, default=20, help="slices propagated beyond each end of the target")
    for name in ("steps", "batch", "clips", "targets", "workers", "seed", "size"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--device", default="auto")
    options = vars(parser.parse_args(arguments))
    named = {name: options[name] for name in FineTuneSettings.__dataclass_fields__ if options.get(name) is not None}
    try:
        leave_one_out(
            options["out"],
            load_dataset(options["data"], options["split"], options["root"]),
            options["model"],
            replace(FineTuneSettings(), **named),
            only=options["only"],
            prompts=options["prompts"],
            engine=EvaluationSettings(rounds=options["rounds"], beyond=options["beyond"]),
            report=_say,
        )
    except BioSAM2Error as error:
        sys.stderr.write(f"biosam2: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
