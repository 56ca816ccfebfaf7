"""The base model without personalization: the lower anchor of linkability."""

import numpy as np

from iddmbench.defense import Defense, Personalization, Workbench
from iddmbench.personalize.trainer import PersonalizedModel


class GenericModel(Defense):
    name = "generic"
    title = "no personalization"
    anchor = True

    def personalize(self, references: np.ndarray, bench: Workbench) -> Personalization:
        return Personalization(PersonalizedModel(None, bench.lora))
