"""What a benchmark has measured: printed as it comes, and a row in the table of `make bench`."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "SICKBAY_BENCH_FIGURES"  # the environment names a file to which figures are added


@dataclass(frozen=True)
class Figure:
    """A measured value; `limit` is the most that it may be, or the least where `at_least`.

    `peer` is the other program that did the same work in the same run, `peer_value` its figure.
    """

    measure: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False
    peer: str = ""
    peer_value: float | None = None

    @property
    def missed(self) -> bool:
        """Whether the value is on the wrong side of its limit."""
        if self.limit is None:
            return False
        return self.value < self.limit if self.at_least else self.value > self.limit

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Value, limit, value as a multiple of the peer's (or of the limit), and the peer."""
        word = "at least" if self.at_least else "at most"
        limit = "" if self.limit is None else f"{word} {shown(self.limit)} {self.unit}".rstrip()
        if self.missed:
            limit += " (missed)"
        base = self.limit if self.peer_value is None else self.peer_value
        ratio = f"{self.value / base:.2f}" if base else ""
        peer = (
            "" if self.peer_value is None else f"{self.peer}: {shown(self.peer_value)} {self.unit}"
        )
        return f"{shown(self.value)} {self.unit}".rstrip(), limit, ratio, peer.rstrip()


def shown(value: float) -> str:
    """A number to three digits, whole from a hundred on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def tell(figures: Iterable[Figure]) -> int:
    """Print figures, hand them to `make bench` if it runs; 1 if a limit is missed, else 0."""
    missed = 0
    for figure in figures:
        missed |= figure.missed
        print(f"{figure.measure}: {', '.join(filter(None, figure.cells))}", flush=True)
        if path := os.environ.get(FILE):
            with Path(path).open("a") as file:
                file.write(json.dumps(asdict(figure)) + "\n")
    return int(missed)


def read(path: Path) -> list[Figure]:
    """The figures that a benchmark has handed over."""
    return [Figure(**json.loads(line)) for line in path.read_text().splitlines()]


def table(figures: Iterable[Figure]) -> list[str]:
    """The lines of a table in Markdown."""
    head = [
        "| measure | value | limit | ratio | peer in the same run |",
        "|---|---:|---:|---:|---|",
    ]
    rows = (" | ".join((figure.measure.replace("|", "\\|"), *figure.cells)) for figure in figures)
    return [*head, *(f"| {row} |" for row in rows)]
