"""The stages that a finished run was made in, opened again: whoever needs what it left in the cache starts here."""

from pathlib import Path

from iddmbench.cells.cell import UnauthorizedTrainer
from iddmbench.cells.stages import CellStages
from iddmbench.models.base import open_base
from iddmbench.photos.dataset import DATASETS
from iddmbench.results.run_folder import RunFolder
from iddmbench.run.config import make_config
from iddmbench.store.cache import Store
from iddmbench.types import Subject

SETTINGS = (
    "dataset",
    "dataset_options",
    "base",
    "precision",
    "personalizer",
    "personalizer_options",
    "lora",
    "sampling",
    "images_per_prompt",
    "threat",
    "purify",
)
"""What stages depend on, of a run's configuration."""


def stages_of_run(run: RunFolder, cache: Path) -> tuple[CellStages, dict[str, Subject]]:
    """The stages on the photos and base of this machine, and the dataset's subjects by name; compare the fingerprints.

    Raises UserError when the dataset or the base is not there.
    """
    config = make_config({key: run.config[key] for key in SETTINGS if key in run.config})
    data = DATASETS.get(config.dataset)(**config.dataset_options).load()
    base = open_base(config.base, precision=config.precision)
    settings, sampling = config.training_settings(base.recipe), config.sampling_settings(base.recipe)
    prompts = tuple(run.config["prompts"])
    trainer = UnauthorizedTrainer.of(config.threat, config.purify)
    parts = (base, data, Store(cache), settings, sampling, prompts, config.images_per_prompt, trainer)
    stages = CellStages(*parts, config.personalizer_plugin())
    return stages, {subject.name: subject for subject in data.subjects}
