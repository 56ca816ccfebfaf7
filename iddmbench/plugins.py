"""All kinds of plugins in one table: what `list`, `new`, `check`, `doctor` and `iddmbench.register` know of each.

Nothing is imported before a kind's registry is used.
"""

from enum import StrEnum
from importlib import import_module
from typing import Any

from iddmbench.registry import Registry


class Kind(StrEnum):
    """The name of a kind on the command line; a package's entry points are in the group "iddmbench.PLURAL"."""

    defense = "defense"
    attacker = "attacker"
    adaptive = "adaptive"
    purifier = "purifier"
    personalizer = "personalizer"
    dataset = "dataset"

    @property
    def plural(self) -> str:
        return self.value if self is Kind.adaptive else f"{self.value}s"

    @property
    def registry(self) -> Registry[Any]:
        module, _, attribute = REGISTRIES[self].partition(":")
        return getattr(import_module(module), attribute)

    @property
    def called(self) -> str:
        """In messages: "adaptive attacker"."""
        return self.registry.kind


REGISTRIES = {
    Kind.defense: "iddmbench.defense:DEFENSES",
    Kind.attacker: "iddmbench.attacker:ATTACKERS",
    Kind.adaptive: "iddmbench.adaptive:ADAPTIVE",
    Kind.purifier: "iddmbench.perturb.purifier:PURIFIERS",
    Kind.personalizer: "iddmbench.personalize.personalizer:PERSONALIZERS",
    Kind.dataset: "iddmbench.photos.dataset:DATASETS",
}


def kind_of(cls: object) -> Kind | None:
    """The kind whose base class `cls` derives from."""
    return next((kind for kind in Kind if isinstance(cls, type) and issubclass(cls, kind.registry.base)), None)


def kinds_with(name: str) -> list[Kind]:
    """The kinds in which a plugin has that name; options and what it wraps ("onnx:PATH", "finetune:dlib") are left aside."""
    return [kind for kind in Kind if name.partition(":")[0] in kind.registry]


def taken(kind: Kind, name: str) -> Kind | None:
    """The kind in which a new plugin's name is taken. A plain and an adaptive attacker can't share one: an attacker's name says
    which of them is meant."""
    together = {Kind.attacker: (Kind.attacker, Kind.adaptive), Kind.adaptive: (Kind.adaptive, Kind.attacker)}
    return next((other for other in together.get(kind, (kind,)) if name in other.registry), None)
