"""What the documentation promises holds: commands, options and files that it names exist, addresses and versions agree."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import iddmbench
from iddmbench.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "leaderboard").glob("*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `iddmbench` command in the shell blocks of a page."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        line = ""
        for one in block.replace("\\\n", " ").splitlines():
            line = f"{line}\n{one}" if line else one
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a quotation goes on in the next line
                continue
            line = ""
            while words:
                end = next((i for i, word in enumerate(words) if word in ("&&", "|", ";")), len(words))
                if words[0] == "iddmbench":
                    yield words[1:end]
                words = words[end + 1 :]


def unknown(words: list[str]) -> list[str]:
    """What of a command does not exist."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0].startswith("-") or words[0].isupper():
            break
        if words[0] not in command.commands:
            return [words[0]]
        command, words = command.commands[words[0]], words[1:]
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)} | {"--help"}
    return [word for word in words if word.startswith("--") and word.split("=")[0] not in known]


def test_the_check_of_commands_finds_what_is_wrong() -> None:
    found = list(
        commands("```sh\npip install x && iddmbench run --defence iddm \\\n  --out x  # note\niddmbench walk\n```")
    )
    assert found == [["run", "--defence", "iddm", "--out", "x"], ["walk"]]
    assert [unknown(words) for words in found] == [["--defence"], ["walk"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    assert {
        " ".join(words): bad for words in commands(page.read_text(encoding="utf-8")) if (bad := unknown(words))
    } == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_linked_exist(page: Path) -> None:
    """mkdocs checks links and anchors within docs/; forges show the other pages too."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    assert [link for link in links if link and "://" not in link and not (page.parent / link).exists()] == []


def test_ci_runs_the_readmes_test_command() -> None:
    """The command that .ci/run takes from README.md, by its own line."""
    script = (ROOT / ".ci" / "run").read_text()
    taken = re.search(r'^command="\$\((.*)\)"$', script, re.MULTILINE)
    assert taken and 'eval "$command"' in script
    done = subprocess.run(taken[1], shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "python -m pytest -n auto --dist loadfile"


def test_versions_agree() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited and PROJECT["version"] == iddmbench.__version__ == cited[1]


def test_addresses_agree() -> None:
    """One repository and one site, wherever they are named."""
    urls = PROJECT["urls"]
    names = (
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "mkdocs.yml",
        "docs/index.md",
    )
    texts = {name: (ROOT / name).read_text() for name in (*names, ".github/ISSUE_TEMPLATE/config.yml")}
    owner = urls["Repository"].rsplit("/", 2)[1]
    for name, text in texts.items():
        for url in re.findall(rf"https://[a-z.]*(?:github\.com/{owner}|{owner}\.github\.io)[^\s)'\"]*", text):
            assert url.startswith((urls["Repository"], urls["Documentation"])), (name, url)
    for name in ("README.md", "CITATION.cff", "mkdocs.yml", "docs/index.md"):
        assert urls["Repository"] in texts[name], name


def test_the_recipe_for_submissions_is_the_workflow() -> None:
    recipe = re.search(r"```yaml\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert recipe and recipe[1] == (ROOT / ".github" / "workflows" / "verify-submissions.yml").read_text()
