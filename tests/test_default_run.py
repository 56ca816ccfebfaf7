"""What a run takes that names no dataset: generated people, their base, and none of those on whom settings are chosen."""

import inspect
from pathlib import Path
from typing import get_type_hints

import pytest

from iddmbench.api import load_dataset
from iddmbench.cli.run import run as cli_run
from iddmbench.datasets.synthetic import Synthetic
from iddmbench.errors import UserError
from iddmbench.linking.absent import absent
from iddmbench.photos import DEFAULT_DATASET
from iddmbench.run.config import ATTACKERS, RunConfig
from iddmbench.run.plan import RunPlan, choose
from iddmbench.sweep.config import load_sweep


def test_the_default_run_is_on_generated_people_whom_nothing_was_tuned_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever asks for it: Python, the command line, a sweep's file, `load_dataset`. Nothing is computed here."""
    command = inspect.signature(cli_run).parameters["dataset"].default
    (tmp_path / "bare.yaml").write_text("subjects: 4\n")
    bare = load_sweep(str(tmp_path / "bare.yaml")).runs["bare"]
    config = RunConfig()
    assert command == config.dataset == bare.dataset == load_dataset().name == DEFAULT_DATASET == "synthetic"
    assert config.base == bare.base == "micro-rgb"
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(tmp_path / "weights"))
    plan = RunPlan.of(config, tmp_path / "cache")
    assert [s.name for s in plan.subjects] == ["s01", "s02", "s03", "s04"]
    assert len(plan.cells) == 4 * 4, "undefended, un-personalized, IDDM at two strengths"
    assert plan.config.attackers == ("dlib", "sface", "faceres", "lbph:part=inner", "gabor", "finetune:sface")
    assert list(absent(plan.config.attackers)) == ["faceres"], "what has no file is named, and the others run"
    data = plan.stages.data
    assert len(data.subjects) + len(data.public) == 300
    resolved = plan.resolved()
    assert (resolved["people"], resolved["offered"], resolved["dataset"]) == (60, 48, "synthetic")


def test_the_help_names_the_default_attackers() -> None:
    """It is text, so that `--help` need not import them."""
    option = get_type_hints(cli_run, localns={"Progress": object}, include_extras=True)["attacker"].__metadata__[0]
    listed = option.help.partition("By default ")[2].rstrip(".")
    assert tuple(listed.replace(" and, from three subjects on", "").split(", ")) == ATTACKERS


def test_people_on_whom_settings_are_chosen_are_taken_by_name() -> None:
    data = Synthetic().load()
    tuning = {subject.name for subject in Synthetic(part="tuning").load().subjects}
    reported = [subject.name for subject in Synthetic(part="report").load().subjects]
    assert [s.name for s in choose(data, "all")] == [s.name for s in choose(data, 48)] == reported
    assert [s.name for s in choose(data, 9)] == reported[:9] and "s09" in tuning and "s09" not in reported
    assert [s.name for s in choose(data, ("s09", "s01"))] == ["s09", "s01"]
    with pytest.raises(
        UserError, match=r"has 48 subjects \(12 more by name, on whom settings are chosen\), 49 asked for"
    ):
        choose(data, 49)
    whole, chosen = Synthetic(part="all").load(), Synthetic(part="tuning").load()
    assert len(choose(whole, "all")) == 60 and {s.name for s in choose(chosen, "all")} == tuning
    assert data.fingerprint == whole.fingerprint, "figures of named people can be compared"
