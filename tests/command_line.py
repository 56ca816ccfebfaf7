"""What tests ask of the command line."""

from click.testing import Result


def refused(result: Result, *parts: str) -> None:
    """One line of error that holds `parts`; only typer's own messages (wrong types, unknown options) have its box around."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.exit_code == 2, result.output
    assert len(lines) == 1 and "Traceback" not in result.output, result.stderr
    for part in parts:
        assert part in lines[0]
