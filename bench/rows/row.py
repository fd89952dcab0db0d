"""What a row is: work that is measured the same way for each contender, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from bench.bench import Bench

#: Contender → metric → its median.
Medians = Mapping[str, Mapping[str, float]]

OURS: Final = "encounters"


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how often: everything that `make bench-quick` does smaller."""

    quick: bool
    runs: int
    seconds: float
    warmup: float


FULL: Final = Scale(quick=False, runs=5, seconds=3.0, warmup=1.0)
QUICK: Final = Scale(quick=True, runs=1, seconds=1.0, warmup=0.4)


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached: `value` at most `most`, or at least `least`."""

    says: str
    value: Callable[[Medians], float]
    most: float | None = None
    least: float | None = None

    def met(self, value: float) -> bool:
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the summary: a metric, its unit and its goals. `lower`: the less, the better."""

    title: str
    metric: str
    unit: str
    goals: Sequence[Goal] = ()
    lower: bool = True
    digits: int = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a row's own table. `factor` turns the metric into what is shown."""

    title: str
    metric: str
    factor: float = 1
    digits: int = 1


class Row(Protocol):
    """One measurement. `note` says how it is done, where that is not plain."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def note(self) -> str: ...

    @property
    def contenders(self) -> Sequence[str]: ...

    @property
    def lines(self) -> Sequence[Line]: ...

    @property
    def columns(self) -> Sequence[Column]: ...

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        """One run of one contender. Raises RunFailed when anything was lost."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a row: medians, and why a contender has none."""

    row: Row
    medians: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def ratio(metric: str, to: str) -> Callable[[Medians], float]:
    """This project's metric by another's."""
    return lambda medians: medians[OURS][metric] / medians[to][metric]


def own(metric: str) -> Callable[[Medians], float]:
    return lambda medians: medians[OURS][metric]
