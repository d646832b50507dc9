"""`make bench`: every benchmark, one after another. Exit code 1 if a figure is over its limit."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = sorted(Path(__file__).parent.glob("bench_*.py"))


def main() -> int:
    """Run each in a process of its own, so that none warms another's caches."""
    wanted = sys.argv[1:]
    worst = 0
    for path in BENCHMARKS:
        if wanted and path.stem.removeprefix("bench_") not in wanted:
            continue
        print(f"\n== {path.stem} ==", flush=True)
        worst = max(worst, subprocess.run([sys.executable, path], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
