"""Plugins by name: a decorator for code that is imported, entry points for code that is only installed.

A third-party package adds a defense with no edit here:

    [project.entry-points."iddmbench.defenses"]
    mine = "my_package.mine:MyDefense"
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from iddmbench.errors import UserError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes of one base by name. Nothing is imported before it is asked for.

    Args:
        kind: what an entry is called in messages ("defense").
        base: every entry must be a subclass of it.
        builtin: name -> "module:attribute" of the ones that ship with the package.
        group: entry-point group that other packages add to.
    """

    def __init__(self, kind: str, base: type[T], builtin: dict[str, str], group: str):
        self.kind, self.base, self.group = kind, base, group
        self._builtin = builtin
        self._added: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator. Raises ValueError when the name is taken by another class."""

        def add(cls: type[T]) -> type[T]:
            self._check(name, cls)
            if name in self._builtin or self._added.get(name, cls) is not cls:
                raise ValueError(
                    f"{self.kind} '{name}' is already registered; choose another name for {cls.__qualname__}"
                )
            self._added[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        return sorted({*self._builtin, *self._added, *self._installed()})

    def get(self, name: str) -> type[T]:
        """The class of that name. Raises UserError, with the nearest name, when there is none or it can't be loaded."""
        if name in self._added:
            return self._added[name]
        target = self._builtin.get(name) or self._installed().get(name)
        if target is None:
            raise UserError(f"unknown {self.kind} '{name}': {did_you_mean(name, self.names())}")
        module, _, attribute = target.partition(":")
        try:
            cls = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{self.kind} '{name}' can't be loaded from {target}: {error}") from error
        self._check(name, cls)
        return cls

    def _check(self, name: str, cls: object) -> None:
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise TypeError(f"{self.kind} '{name}' must be a subclass of {self.base.__name__}, got {cls!r}")

    def _installed(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for point in entry_points(group=self.group):
            if point.name in self._builtin:
                if point.value != self._builtin[point.name]:
                    raise UserError(
                        f"{self.kind} '{point.name}' is defined by {point.value} too: uninstall that package"
                    )
                continue
            if found.setdefault(point.name, point.value) != point.value:
                raise UserError(
                    f"{self.kind} '{point.name}' is defined twice: {found[point.name]} and {point.value}; uninstall one"
                )
        return found
