"""`make bench`: every benchmark, one after another, one table, and docs/performance.md.

`python -m tests.benchmarks NAME...` runs some and writes no page. Exit code 1 if a limit is missed.
"""

import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.figures import FILE, Figure, read, table

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "performance.md"
BENCHMARKS = {path.stem.removeprefix("bench_"): path for path in sorted(FOLDER.glob("bench_*.py"))}
INTRODUCTION = """# Performance

What `make bench` measures, as it wrote it. A *ratio* is the value divided by the peer's where there
is one, otherwise by the limit. A peer did the same work in the same run on the same machine. Times
of verbs are those of whole processes, start-up and imports included. A figure on the wrong side of
its limit is marked *(missed)*, and `make bench` ends with exit code 1 then.
"""


def main() -> int:
    """Run each in a process of its own, so that none warms another's caches."""
    wanted = sys.argv[1:] or list(BENCHMARKS)
    if unknown := sorted(set(wanted) - set(BENCHMARKS)):
        print(f"no benchmark {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
        return 2
    measured = {name: run(name) for name in wanted}
    codes = [code for code, _ in measured.values()]
    figures = {name: figures for name, (_, figures) in measured.items()}
    print("\n" + "\n".join(table(figure for each in figures.values() for figure in each)))
    if not sys.argv[1:]:
        PAGE.write_text(page(figures))
    return max(codes)


def run(name: str) -> tuple[int, list[Figure]]:
    """Run one benchmark; gives its exit code and its figures."""
    print(f"\n== {name} ==", flush=True)
    with tempfile.NamedTemporaryFile() as file:
        env = {**os.environ, FILE: file.name}
        done = subprocess.run([sys.executable, BENCHMARKS[name]], check=False, env=env)
        return done.returncode, read(Path(file.name))


def page(figures: dict[str, list[Figure]]) -> str:
    """The page of all figures, a table for each benchmark."""
    day = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    lines = [INTRODUCTION, f"Measured on {day}: {machine}.", ""]
    for name, each in figures.items():
        about = BENCHMARKS[name].read_text().removeprefix('"""').partition("\n")[0]
        lines += [f"## {name}", "", about.removesuffix('"""'), "", *table(each), ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
