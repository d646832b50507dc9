"""`make bench`: every benchmark, one after another, one table, and docs/performance.md.

`make bench BENCH="lanes page"` runs these and rewrites their sections of the page. A section is
written when its benchmark has ended, so that what an interrupted run has measured stays. Exit code
1 if a limit is missed.
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
    written = sections(PAGE.read_text()) if PAGE.exists() else {}
    worst, everything = 0, []
    for name in wanted:
        code, figures = run(name)
        worst = max(worst, code)
        everything += figures
        if figures:
            written[name] = section(name, figures)
        PAGE.write_text("\n".join([INTRODUCTION, *(written[name] for name in sorted(written))]))
    print("\n" + "\n".join(table(everything)))
    return worst


def run(name: str) -> tuple[int, list[Figure]]:
    """Run one benchmark; gives its exit code and its figures."""
    print(f"\n== {name} ==", flush=True)
    with tempfile.NamedTemporaryFile() as file:
        env = {**os.environ, FILE: file.name}
        done = subprocess.run([sys.executable, BENCHMARKS[name]], check=False, env=env)
        return done.returncode, read(Path(file.name))


def sections(page: str) -> dict[str, str]:
    """The sections of a page by the names of their benchmarks."""
    pieces = page.split("\n## ")[1:]
    return {piece.partition("\n")[0]: f"## {piece.rstrip()}\n" for piece in pieces}


def section(name: str, figures: list[Figure]) -> str:
    """What a benchmark measures, where and when it did, and its table."""
    about = BENCHMARKS[name].read_text().removeprefix('"""').partition("\n\n")[0]
    day = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    busy = f"load {os.getloadavg()[1]:.0f}"
    return "\n".join(
        [f"## {name}", "", about, "", f"{day}: {machine}, {busy}.", "", *table(figures), ""]
    )


if __name__ == "__main__":
    sys.exit(main())
