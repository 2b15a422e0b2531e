"""Size, speed and quality of a model, before and after."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Measured:
    """What a model is and does.

    Attributes:
        bytes: Its files.
        gzipped_bytes: Its files, each compressed.
        parameters: Its weights.
        rows_per_second: Rows of the test data that it takes a second, texts or blocks of text.
        quality: Its metrics on the test data, by name.
    """

    bytes: int
    gzipped_bytes: int
    parameters: int
    rows_per_second: float
    quality: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """A model before and after.

    Attributes:
        metric: The metric that the limit is for: the main metric of the task.
        higher_is_better: Whether more of it is better.
        limit: The largest part of it that may be lost.
        before: The model that there was.
        after: The smaller one.
        agreement: The part of the rows for which both decide the same; `None` where nothing is
            decided.
    """

    metric: str
    higher_is_better: bool
    limit: float
    before: Measured
    after: Measured
    agreement: float | None

    @property
    def lost(self) -> float:
        """The part of the quality that is lost; below 0 where the smaller model is better."""
        before, after = (one.quality[self.metric] for one in (self.before, self.after))
        difference = before - after if self.higher_is_better else after - before
        return difference / abs(before) if before else 0.0

    @property
    def within_limit(self) -> bool:
        """Whether no more quality is lost than may be; not so where it is no number."""
        return self.lost <= self.limit

    def as_json(self) -> dict:
        """Returns all of it, for `metrics.json`."""
        return {**asdict(self), "lost": self.lost, "within_limit": self.within_limit}


def bytes_of(folder: Path) -> tuple[int, int]:
    """Returns the size of a folder's files, as they are and each compressed as gzip does."""
    plain = compressed = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            packer = zlib.compressobj(6)
            with open(path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    plain += len(chunk)
                    compressed += len(packer.compress(chunk))
            compressed += len(packer.flush())
    return plain, compressed


def seconds_in_turn(jobs: Sequence[Callable[[], object]], rounds: int = 3) -> list[float]:
    """Returns the seconds of the fastest call of each job, all called in turn.

    So other load on the machine affects all of them alike. Each must have been called before:
    a first call traces.
    """
    fastest = [float("inf")] * len(jobs)
    for _ in range(rounds):
        for number, job in enumerate(jobs):
            started = time.perf_counter()
            job()
            fastest[number] = min(fastest[number], time.perf_counter() - started)
    return fastest
