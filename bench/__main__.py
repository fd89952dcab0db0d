"""``python -m bench``: measure, print the tables, and write docs/performance.md with its picture."""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench import contenders, machine, report
from bench.bench import Bench
from bench.load import RunFailed
from bench.picture import picture
from bench.processes import ProgramFailed
from bench.report import Circumstances
from bench.rows import rows
from bench.rows.row import FULL, OURS, QUICK, Measured, Row, Scale

DOCS = contenders.ROOT / "docs"


def main() -> int:
    """0; 1 when this project failed in a row."""
    arguments = _arguments()
    scale = QUICK if arguments.quick else FULL
    scale = replace(scale, runs=arguments.runs or scale.runs, seconds=arguments.seconds or scale.seconds)
    wanted = [row for row in rows(quick=scale.quick) if not arguments.rows or row.name in arguments.rows]
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended then, too
    with Bench() as bench:
        results = [_measure(bench, row, scale, arguments.contenders) for row in wanted]
        versions = contenders.versions(bench.database.version())
    circumstances = Circumstances(
        machine=machine.description(),
        date=datetime.now(UTC).date().isoformat(),
        versions=versions,
        runs=scale.runs,
        seconds=scale.seconds,
        quick=scale.quick,
    )
    print(f"{report.summary(results)}\n\n{report.details(results)}")
    _say(f"{time.monotonic() - started:.0f} s")
    if not arguments.dry:
        _write(arguments.to, results, circumstances)
    return int(any(OURS in measured.failures for measured in results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [row.name for row in rows(quick=False)]
    parser.add_argument("--quick", action="store_true", help="one short run of each, in less than three minutes")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help=f"some rows only: {', '.join(names)}")
    parser.add_argument(
        "--contenders", nargs="+", metavar="NAME", help="some contenders only, such as: encounters node"
    )
    parser.add_argument("--runs", type=int, help="alternated runs of each row")
    parser.add_argument("--seconds", type=float, help="length of one measurement")
    parser.add_argument("--to", type=Path, default=DOCS, help="folder to write performance.md and .svg to")
    parser.add_argument("--dry", action="store_true", help="print only")
    return parser.parse_args()


def _measure(bench: Bench, row: Row, scale: Scale, only: Sequence[str] | None) -> Measured:
    """The medians of alternated runs. A contender that failed once has none."""
    runs: dict[str, list[dict[str, float]]] = {}
    measured = Measured(row)
    for run in range(scale.runs):
        for name in row.contenders:
            if name in measured.failures or (only and name not in only):
                continue
            started = time.monotonic()
            try:
                runs.setdefault(name, []).append(row.measure(bench, name, scale))
            except (RunFailed, ProgramFailed) as error:
                measured.failures[name] = str(error).partition("\n")[0]
                _say(f"{row.name} {run + 1}: {name} FAILED: {error}")
                continue
            _say(f"{row.name} {run + 1}: {name} {_shown(runs[name][-1])} ({time.monotonic() - started:.1f} s)")
    for name, figures in runs.items():
        if name not in measured.failures:
            measured.medians[name] = {
                metric: statistics.median(one[metric] for one in figures) for metric in figures[0]
            }
    return measured


def _shown(figures: dict[str, float]) -> str:
    return ", ".join(f"{metric} {value:.4g}" for metric, value in figures.items())


def _write(folder: Path, results: Sequence[Measured], circumstances: Circumstances) -> None:
    svg = folder / "performance.svg"
    svg.write_text(picture(results), "utf-8")
    (folder / "performance.md").write_text(report.document(results, circumstances, svg.name), "utf-8")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
