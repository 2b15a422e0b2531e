"""The parts of a benchmark of the suite: a case, its ways to do the job, and what it must reach.

A benchmark is a module `benchmarks/cases/NAME.py` with `CASE`, an instance of a subclass of `Case`:

    class Sum(Case):
        name = "sum"
        description = "adds numbers"
        targets = (Target("seconds", "numpy", 1.5),)

        def ways(self, folder, options):
            return [
                Way("kerasllm", "float32", [sys.executable, "-m", "benchmarks.workers.sum"]),
                Way("numpy", "float32", [str(options.peers / "bin/python"), "peers/numpy_sum.py"]),
            ]

    CASE = Sum()

A command prints one JSON object as the last line of its stdout: the figure of its case and any
more figures, `work` (must be equal for all ways, or the ratio would mean nothing), `quality`,
`versions`, and `note` if the reader of the table has to know something.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

OURS = "kerasllm"
REPEAT = "{repeat}"
PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Way:
    """One way of one side to do the job.

    Attributes:
        side: `"kerasllm"`, or the peer's name.
        name: What sets it apart from other ways of its side, as `"bfloat16"`. The best of a side's
            ways counts.
        command: What is started, in a process of its own. `{repeat}` in it becomes the number of
            the turn, from 0, for a seed that differs from turn to turn and not from side to side.
        env: Variables to set on top of the present ones.
    """

    side: str
    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.side} {self.name}"

    def command_of(self, repeat: int) -> list[str]:
        """Returns the command of a turn."""
        return [part.replace(REPEAT, str(repeat)) for part in self.command]


@dataclass(frozen=True)
class SuiteOptions:
    """What the command line says to every case.

    Attributes:
        peers: The environment that `benchmarks/peers/setup.sh` made.
        inputs: A folder that all cases share, for what several of them need.
        quick: Whether only the machinery is tried: the smallest job that runs.
        run: A run of the recipe bert_cls on movie_reviews; `None`: cases that need one train it.
        language_model: A decoder in Hugging Face's layout; `None`: SmolLM2-135M-Instruct.
        cold: How many turns kerasllm gets with a cache that was emptied; it then has one of its
            own, in `inputs`. `0`: none, and the user's cache.
    """

    peers: Path
    inputs: Path
    quick: bool = False
    run: Path | None = None
    language_model: Path | None = None
    cold: int = 0

    @property
    def peer_python(self) -> str:
        """The interpreter of the peers' environment."""
        return str(self.peers / "bin" / "python")


@dataclass
class WayResult:
    """What a way was measured to do.

    Attributes:
        way: The way.
        runs: For each turn what its command printed, and what is seen from outside:
            `whole_seconds`, `cpu_seconds`, `peak_memory`, `cores_of_others`.
        cold: The same of the turns that began with an emptied cache; none of peers.
    """

    way: Way
    runs: list[dict] = field(default_factory=list)
    cold: list[dict] = field(default_factory=list)

    def values(self, figure: str, cold: bool = False) -> list[float]:
        """Returns a figure, or a quality, of each turn that has it."""
        runs = self.cold if cold else self.runs
        found = ({**run.get("quality", {}), **run}.get(figure) for run in runs)
        return [value for value in found if value is not None]

    def median(self, figure: str, cold: bool = False) -> float | None:
        values = self.values(figure, cold)
        return median(values) if values else None

    def mean(self, figure: str) -> float | None:
        values = self.values(figure)
        return mean(values) if values else None


@dataclass
class Results:
    """What all ways of a case were measured to do."""

    ways: list[WayResult]

    @property
    def work(self) -> dict:
        """The work that each way did."""
        return next((run["work"] for found in self.ways for run in found.runs), {})

    def best(
        self, side: str, figure: str, more_is_better: bool, having: str | None = None
    ) -> WayResult | None:
        """Returns the way of a side with the best median of a figure.

        Args:
            side: The side.
            figure: Key of the figure.
            more_is_better: Of this figure.
            having: A quality that the way must tell. Defaults to `None`: any way.

        Returns:
            The way, or `None` if none was measured.
        """
        keys = (figure, having or figure)
        known = [
            found
            for found in self.ways
            if found.way.side == side and all(found.values(key) for key in keys)
        ]
        pick = max if more_is_better else min
        return pick(known, key=lambda r: r.median(figure), default=None)


@dataclass(frozen=True)
class Verdict:
    """Whether a target was reached; `reached` is `None` where it was not measured."""

    target: str
    found: str
    value: float | None
    reached: bool | None


@dataclass(frozen=True)
class Target:
    """How many times as fast as a peer kerasllm must be, best way against best way, by medians.

    Attributes:
        figure: Key of what is compared.
        peer: The side that it is compared with.
        at_least: The ratio; above 1 is ahead, whether more or less of the figure is better.
        more_is_better: Of this figure. Defaults to `None`: as the case says of its own.
        cold: Whether kerasllm begins with an emptied cache. The peer's are warm. Defaults to
            `False`.
    """

    figure: str
    peer: str
    at_least: float
    more_is_better: bool | None = None
    cold: bool = False

    def judge(self, case: Case, results: Results, floor: Mapping | None) -> Verdict:
        more = case.more_is_better if self.more_is_better is None else self.more_is_better
        cold = ", cold" if self.cold else ""
        text = f"{self.figure}{cold}: at least {self.at_least:g} times as good as {self.peer}"
        ours, theirs = (results.best(side, self.figure, more) for side in (OURS, self.peer))
        if ours is None or theirs is None:
            return _not_measured(text)
        pair = ours.median(self.figure, self.cold), theirs.median(self.figure)
        if pair[0] is None:
            return _not_measured(text)
        value = ratio(*pair, more)
        found = f"{number(pair[0])} ({ours.way.name}) to {number(pair[1])} ({theirs.way.name})"
        return Verdict(text, f"{value:.2f} times, {found}", value, value >= self.at_least)


@dataclass(frozen=True)
class NotBelow:
    """By how much the mean of a quality may stay below a peer's.

    Of each side that way counts which is the best of those that tell the quality.
    """

    figure: str
    peer: str
    by: float

    def judge(self, case: Case, results: Results, floor: Mapping | None) -> Verdict:
        text = f"{self.figure}: not below that of {self.peer} by more than {self.by:g}"
        best = [
            results.best(side, case.figure, case.more_is_better, having=self.figure)
            for side in (OURS, self.peer)
        ]
        means = [found.mean(self.figure) if found else None for found in best]
        if None in means:
            return _not_measured(text)
        value = means[0] - means[1]
        # Differences of decimal fractions are not exact: 0.850 - 0.855 is a hair below -0.005.
        found = f"{value:+.4f}, {means[0]:.4f} to {means[1]:.4f}"
        return Verdict(text, found, value, value >= -self.by - 1e-9)


@dataclass(frozen=True)
class AtLeast:
    """What the mean of a figure of kerasllm's fastest way must be, or the floor's share."""

    figure: str
    at_least: float

    def judge(self, case: Case, results: Results, floor: Mapping | None) -> Verdict:
        text = f"{self.figure}: at least {self.at_least:g}"
        if self.figure == "share":
            value = floor["share"] if floor else None
        else:
            ours = results.best(OURS, case.figure, case.more_is_better)
            value = ours.mean(self.figure) if ours else None
        if value is None:
            return _not_measured(text)
        return Verdict(text, f"{value:.3f}", value, value >= self.at_least)


@dataclass(frozen=True)
class AtMost:
    """What the median of a figure of kerasllm's fastest way may be."""

    figure: str
    at_most: float
    cold: bool = False

    def judge(self, case: Case, results: Results, floor: Mapping | None) -> Verdict:
        text = f"{self.figure}{', cold' if self.cold else ''}: at most {self.at_most:g}"
        ours = results.best(OURS, case.figure, case.more_is_better)
        value = ours.median(self.figure, self.cold) if ours else None
        if value is None:
            return _not_measured(text)
        return Verdict(text, f"{value:.3f}", value, value <= self.at_most)


class Case(abc.ABC):
    """A benchmark: one job, done by kerasllm and by its peers.

    Attributes:
        name: As on the command line.
        description: One line.
        figure: Key of the number that is compared.
        unit: Its unit.
        more_is_better: Whether more of it is better, as of tokens per second.
        targets: What must be reached.
        uses_peers: Whether a way runs in the environment of `benchmarks/peers/setup.sh`.
    """

    name: str
    description: str
    figure: str = "seconds"
    unit: str = "s"
    more_is_better: bool = False
    targets: tuple[Target | NotBelow | AtLeast | AtMost, ...] = ()
    uses_peers: bool = True

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        """Makes in `folder` what the ways need; what takes long belongs here."""

    @abc.abstractmethod
    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        """Returns the ways, in the order in which they take turns; called after `prepare`."""

    def floor(self, results: Results, ceilings: Mapping[str, float]) -> dict | None:
        """Returns what the machine allows.

        Args:
            results: What was measured.
            ceilings: `float32` and `bfloat16`: the fastest matrix product in operations a second;
                `bandwidth`: of the memory, in bytes a second.

        Returns:
            `seconds` that the job must take, the `share` of the ceiling that kerasllm reached (of
            its fastest way), and `how` it was reckoned in words; or `None`: not known.
        """
        return None


def ratio(ours: float, theirs: float, more_is_better: bool) -> float:
    """Returns how many times as good as theirs ours is."""
    return ours / theirs if more_is_better else theirs / ours


def number(value: float) -> str:
    """Returns a figure with three digits or so that count."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}"


def _not_measured(text: str) -> Verdict:
    return Verdict(text, "not measured", None, None)
