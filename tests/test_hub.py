"""Hugging Face's hub: what is pushed there, what a model's page shows, and what is said where it can't be reached."""

import io
import json
import shutil
import socket
from pathlib import Path

import pandas as pd
import pytest
import yaml
from bundles import valid
from command_line import refused
from huggingface_hub import constants, parse_eval_result_entries
from local_hub import LocalHub, local_hub
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.errors import UserError
from iddmbench.export.eval_results import TASKS, check_benchmark, eval_results
from iddmbench.results.run_folder import CONFIG, RunFolder
from iddmbench.results.summary import Condition, Summary
from iddmbench.submission.push import Push, push
from iddmbench.submission.read import open_bundle

runner = CliRunner()
IDDM = Condition("iddm", 0.5)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with local_hub() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return valid(tmp_path / "a-method.zip")


def what(bundle: Path) -> Push:
    return Push.of(open_bundle(bundle).meta, bundle, "ann/a-method")


# ---- --push -----------------------------------------------------------------------------------------------------------


def test_a_push_is_one_commit_of_bundle_card_and_tables(hub: LocalHub, bundle: Path) -> None:
    assert push(what(bundle)).endswith(f"/datasets/ann/a-method/commit/{'a' * 40}")
    assert hub.created[0]["name"] == "a-method" and hub.created[0]["type"] == "dataset"
    assert hub.created[0].get("private") or hub.created[0].get("visibility") == "private"
    files = hub.pushed["ann/a-method"]
    assert set(files) == {"README.md", "a-method.zip", "claims.parquet", "cells.parquet"}
    assert files["a-method.zip"] == bundle.read_bytes()
    claims = pd.read_parquet(io.BytesIO(files["claims.parquet"]))
    assert claims.to_dict("records") == [
        {"defense": "iddm", "strength": 1.0, "attacker": "dlib", "metric": "r1u", "policy": "headline", "value": 0.9}
    ]
    cells = pd.read_parquet(io.BytesIO(files["cells.parquet"]))
    assert len(cells) == 12 and cells["strength"].isna().sum() == 6 and set(cells["status"]) == {"ok"}


def test_the_card_is_read_by_the_hub(bundle: Path) -> None:
    text = what(bundle).files["README.md"].decode()
    _, head, body = text.split("---\n", 2)
    meta = yaml.safe_load(head)
    assert meta["pretty_name"] == "A method" and "privacy" in meta["tags"]
    assert [c["data_files"] for c in meta["configs"]] == ["claims.parquet", "cells.parquet"]
    assert "12 generated images of 3 people on `orl` under `none`, `generic`, `iddm-0.50` and `iddm-1.00`" in " ".join(
        body.split()
    )
    assert "iddmbench verify a-method.zip" in body and "[Paper](https://arxiv.org/abs/2604.00903)" in body


def test_a_dry_run_says_what_would_be_pushed(run: Path, here: Path) -> None:
    result = runner.invoke(app, ["submit", str(run), "--name", "IDDM", "--push", "ann/iddm", "--dry-run"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "would push to the dataset ann/iddm (private, if it is new):" in lines
    size = f"{(here / 'iddm.zip').stat().st_size:,} bytes"
    assert f"  iddm.zip: {size}" in lines and any(line.startswith("  README.md: ") for line in lines)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """The finished run, with what a bundle needs beside the tables."""
    path = shutil.copytree(finished_run, tmp_path / "orl-iddm")
    config = json.loads((path / CONFIG).read_text())
    config |= {"data_fingerprint": "a" * 64, "base_fingerprint": "b" * 64, "plan": []}
    config |= {"lora_settings": {"rank": 16}, "sampling_settings": {"steps": 12}}
    (path / CONFIG).write_text(json.dumps(config))
    return path


# ---- where nothing can be pushed ---------------------------------------------------------------------------------------


def test_without_a_token_nothing_is_made(here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    result = runner.invoke(app, ["submit", "run", "--name", "A", "--push", "ann/a"])
    refused(result, "no Hugging Face token here", "HF_TOKEN", "--dry-run")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(runner.invoke(app, ["submit", "run", "--name", "A", "--push", "ann/a"]), "HF_HUB_OFFLINE")
    refused(runner.invoke(app, ["submit", "run", "--name", "A", "--push", "a"]), "--push a", "OWNER/NAME")
    refused(runner.invoke(app, ["submit", "run", "--name", "A", "--dry-run"]), "--push OWNER/NAME", "give both")
    assert not list(here.iterdir())


@pytest.mark.parametrize(("status", "text"), [(401, "may not see it"), (403, "may not do that"), (400, "answered 400")])
def test_a_refusal_is_one_line(hub: LocalHub, bundle: Path, status: int, text: str) -> None:
    hub.refuses = status
    with pytest.raises(UserError, match=text) as caught:
        push(what(bundle))
    assert "the same command pushes it again" in str(caught.value) and "\n" not in str(caught.value)


def test_no_network_is_one_line(hub: LocalHub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UserError, match="the hub can't be reached") as caught:
            push(what(bundle))
    assert "\n" not in str(caught.value)


# ---- .eval_results -----------------------------------------------------------------------------------------------------


def test_eval_results_are_read_by_the_hubs_client(finished_run: Path) -> None:
    run = RunFolder.open(finished_run)
    entries = parse_eval_result_entries(yaml.safe_load(eval_results(run, IDDM, "ann/benchmark")))
    summary = Summary(run)
    known = [task for task, (attacker, name) in TASKS.items() if summary.get(IDDM, name, attacker)]
    assert [entry.task_id for entry in entries] == known and "r1u" in known and "utility_index" in known
    assert {entry.dataset_id for entry in entries} == {"ann/benchmark"}
    first = entries[known.index("r1u")]
    expected = summary.get(IDDM, "r1u", "worst-case")
    assert first.value == pytest.approx(expected.value, abs=1e-6)
    assert f"strongest attacker {expected.by}" in first.notes and "2 people of orl on base micro" in first.notes


def test_eval_results_that_can_not_be(finished_run: Path) -> None:
    with pytest.raises(UserError, match="OWNER/NAME"):
        check_benchmark("benchmark")
    with pytest.raises(UserError, match=r"no figure of mist-1\.00"):
        eval_results(RunFolder.open(finished_run), Condition("mist", 1.0), "ann/benchmark")
