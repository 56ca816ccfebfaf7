"""The quick tour's output: runs the commands of docs/tour.md in an empty folder and writes what they print below each.

    python benchmarks/tour.py --write docs/tour.md

A block ```sh is run when `<!-- output -->` follows it; the block ```text after that is replaced. With a count in the marker
(`<!-- output: last 12 -->`) only the first or last lines are kept. Some minutes on two cores, seconds from the cache.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

STEP = re.compile(r"(```sh\n(.*?)```\n\n<!-- output(?:: (first|last) (\d+))? -->\n\n```text\n)(.*?)(```)", re.DOTALL)
WIDTH = 96


def printed(command: str, folder: Path) -> str:
    """What a command prints, without this machine's folders; stops for a command that fails."""
    scripts = str(Path(sys.executable).parent)
    environ = {
        **os.environ,
        "COLUMNS": str(WIDTH),
        "NO_COLOR": "1",
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(command, shell=True, cwd=folder, env=environ, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")
    cache = environ.get("IDDMBENCH_CACHE", "")
    output = done.stdout.replace(f"{folder}/", "").replace(cache or "\0", "~/.cache/iddmbench")
    return re.sub(r"on Linux-\S+", "on Linux", output)  # of the machine, only what matters to a reader


def kept(output: str, side: str | None, count: str | None) -> str:
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    if side and count and len(lines) > int(count):
        lines = ["...", *lines[-int(count) :]] if side == "last" else [*lines[: int(count)], "..."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, required=True, help="the Markdown file whose commands are run")
    page = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:

        def step(match: re.Match[str]) -> str:
            print(f"$ {match[2].strip()}", flush=True)
            return match[1] + kept(printed(match[2], Path(folder)), match[3], match[4]) + match[6]

        page.write_text(STEP.sub(step, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
