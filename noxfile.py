"""What a developer does, each as one command: `nox -s lint`, `types`, `quick`, `docs`, `wheel`; and `coverage`, which CI runs.

Sessions use the environment that nox runs in (`python -m pip install -e ".[dev]"`): one for each would download torch again.
`.ci/run` does everything in a clean environment.
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "quick"]

FLOOR = 50
"""Percent of lines and branches that the quick tests must reach. A cautious start: the share has not been measured yet. Raise
it to just below the first measured one, and never lower it for a change."""


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting; `nox -s lint -- --fix` mends what can be mended."""
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), ".", external=True)
    session.run("ruff", "format", *([] if fix else ["--check"]), ".", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """mypy over everything that is installed as iddmbench, and the benchmarks."""
    session.run(".ci/types", external=True)
    session.run("mypy", *map(str, sorted(Path("benchmarks").glob("*.py"))), external=True)


@nox.session
def quick(session: nox.Session) -> None:
    """The tests that train nothing; all of them are `python -m pytest -n auto --dist loadfile`."""
    session.run("python", "-m", "pytest", "-m", "not slow", *session.posargs, external=True)


@nox.session
def coverage(session: nox.Session) -> None:
    """The quick tests again, with the share of lines and branches that they reach and its floor."""
    session.run(
        *("python", "-m", "pytest", "-m", "not slow", "--cov", f"--cov-fail-under={FLOOR}"),
        *("--cov-report=term:skip-covered", *session.posargs),
        external=True,
    )


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site; `nox -s docs -- serve` shows it while writing."""
    command = ["serve"] if "serve" in session.posargs else ["build", "--strict", "--site-dir", "build/site"]
    session.run("mkdocs", *command, external=True, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def wheel(session: nox.Session) -> None:
    """Source archive and wheel: their sizes, and the main job from the wheel alone."""
    session.run(".ci/wheel", *session.posargs, external=True)
