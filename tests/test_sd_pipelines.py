"""Whole runs on a base of Stable Diffusion's shape, two levels and two text layers: for either prediction, with the text
encoder trained. Two text encoders (Stable Diffusion XL) are refused before anything is computed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_base import write_base

from iddmbench.errors import UserError
from iddmbench.export.find import find_model
from iddmbench.results.run_folder import RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config

pytestmark = pytest.mark.usefixtures("plugins")

RUN: dict[str, Any] = {"dataset": "tiny-orl", "subjects": 1, "attackers": ("coarse",), "images_per_prompt": 1}
RUN |= {"defenses": ("iddm",), "defense_options": {"rounds": 1, "data_steps": 1}, "strengths": (1.0,)}
RUN |= {"memory": ("checkpoint", "offload"), "personalizer": "dreambooth"}
RUN["personalizer_options"] = {
    "preset": "anti-dreambooth",
    "steps": 4,
    "learning_rate": 2e-3,
    "class_images": 2,
    "prior_batch": 1,
}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_whole_run(prediction: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", prediction)
    assert json.loads((base / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == prediction
    config = make_config({**RUN, "base": str(base)})
    assert pipeline.run(config, tmp_path / "run", tmp_path / "cache") == 0
    run = RunFolder.open(tmp_path / "run")
    assert set(run.cells["status"]) == {"ok"} and len(run.cells) == 3
    images = [np.stack(run.pictures("images", name, "s29")) for name in ("none", "iddm-1.00", "generic")]
    assert all(x.std() > 1 for x in images) and not any(np.array_equal(images[0], other) for other in images[1:])
    weights = [find_model(run, "s29", name, None, tmp_path / "cache").weights for name in ("none", "iddm-1.00")]
    for part in ("unet.", "text_encoder."):
        assert any(
            name.startswith(part) and not np.array_equal(weights[0][name], weights[1][name]) for name in weights[0]
        )
    assert "memory" not in run.config, "it changes no result"


def test_two_text_encoders_are_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "epsilon")
    index = base / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "StableDiffusionXLPipeline"}))
    config = make_config({**RUN, "base": str(base)})
    with pytest.raises(
        UserError, match=r"it is a Stable Diffusion XL model .*, with two text encoders; give a Stable Diff"
    ):
        pipeline.run(config, tmp_path / "run", tmp_path / "cache")
    assert not (tmp_path / "run").exists() and not list(tmp_path.glob("cache/*/*/*"))
