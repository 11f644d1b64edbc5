"""Measure a model on the shared cases and write the figures into its card.

python -m biosam2.evaluation.card --data ../shared/data
"""

from __future__ import annotations

import argparse
import json
import sys
from fnmatch import fnmatch
from pathlib import Path

from ..errors import BioSAM2Error
from ..io import atomic_path
from ..io.guards import existing
from ..models import load_model
from . import classical
from .cases import shared_cases, synthetic_cases
from .measure import CROP, EXACT, Results, measure
from .runs import EvaluationSettings
from .tables import insert, tables
from .ways import KINDS, STANDARD


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except BioSAM2Error as error:
        sys.stderr.write(f"biosam2: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m biosam2.evaluation.card", description=__doc__.partition("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder of the shared cases")
    source.add_argument("--synthetic", type=int, metavar="N", help="so many generated cases instead")
    parser.add_argument("--model", default="nano", help="a model's name or a checkpoint's path")
    parser.add_argument("--card", type=Path, help="model card whose figures are replaced; by default they are printed")
    parser.add_argument(
        "--json",
        type=Path,
        help="where every figure goes; classical tools' are taken from it where the image and the prompts are the same",
    )
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases, as in 'mr-*: tumour'")
    parser.add_argument("--seed", type=int, default=0, help="of the generated cases")
    parser.add_argument("--right", action="store_true", help="the atlas's right-hand structures instead")
    parser.add_argument("--prompts", nargs="+", choices=KINDS, default=STANDARD)
    methods = (CROP, EXACT, *classical.TOOLS)
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--rounds", type=int, default=3, help="of corrections")
    parser.add_argument("--beyond", type=int, default=20, help="slices propagated beyond each end of the target")
    return parser


def _run(options: argparse.Namespace) -> None:
    model = load_model(options.model)
    if options.synthetic is not None:
        cases = synthetic_cases(options.seed, options.synthetic)
    else:
        cases = shared_cases(options.data, options.right)
    known = None
    if options.json is not None and options.json.exists():
        known = Results.from_json(existing(options.json).read_bytes(), options.json)
    results = measure(
        (case for case in cases if fnmatch(case.title, options.only)),
        model,
        options.prompts,
        options.methods,
        EvaluationSettings(rounds=options.rounds, beyond=options.beyond),
        report=_report,
        known=known,
    )
    if options.json is not None:
        facts = {"model": model.name, "sha256": model.sha256, **results.to_json()}
        with atomic_path(options.json) as path:
            path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    figures = f"Measured with weights of SHA-256 `{model.sha256}`.\n\n{tables(results)}"
    if options.card is None:
        sys.stdout.write(figures + "\n")
        return
    text = insert(options.card.read_text(encoding="utf-8"), figures)
    with atomic_path(options.card) as path:
        path.write_text(text, encoding="utf-8")


def _report(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
