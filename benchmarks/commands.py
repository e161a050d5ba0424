"""How long a question about a store takes until the prompt is back: whole commands, process and imports included.

    python benchmarks/commands.py [--db demo/traces.duckdb] [--repetitions 7]

Medians of wall and CPU milliseconds, the commands in turn, beside a bare `import duckdb, numpy, typer` of the same
interpreter: what no command can be under. The rows are left in build/bench.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

OUT = Path(__file__).resolve().parents[1] / "build" / "bench.json"
RRTI = Path(sys.executable).with_name("rrti")
BARE = {"imports": [sys.executable, "-c", "import duckdb, numpy, typer"], "rrti --version": [str(RRTI), "--version"]}
QUESTIONS = (["sql", "SELECT 1"], ["runs"], ["samples", "--flipped"], ["stats", "accuracy"])


def measured(command: list[str]) -> tuple[float, float]:
    """Wall and CPU milliseconds of one process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * wall, 1000 * cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", type=Path, default=Path("demo/traces.duckdb"), help="a store of the demonstration")
    parser.add_argument("--repetitions", type=int, default=7)
    given = parser.parse_args()
    asked = BARE | {" ".join(["rrti", *typed]): [str(RRTI), *typed, "--db", str(given.db)] for typed in QUESTIONS}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
    for repetition in range(given.repetitions + 1):  # the first one fills the caches of the file system
        for name, command in asked.items():
            times = measured(command)
            if repetition:
                found[name].append(times)
    rows = [
        {"suite": "commands", "command": name, "wall_ms": median(w for w, _ in times), "cpu_ms": median(c for _, c in times)}
        for name, times in found.items()
    ]
    OUT.parent.mkdir(exist_ok=True)
    others = json.loads(OUT.read_text()) if OUT.exists() else []
    temporary = OUT.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps([row for row in others if row.get("suite") != "commands"] + rows, indent=1))
    temporary.replace(OUT)
    print("| command | wall, ms | CPU, ms |\n|---|---|---|")
    for row in rows:
        print(f"| `{row['command']}` | {row['wall_ms']:.0f} | {row['cpu_ms']:.0f} |")


if __name__ == "__main__":
    main()
