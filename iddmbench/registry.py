"""Plugins by name: a decorator for code that is imported, entry points for code that is only installed.

A third-party package adds a defense with no edit here:

    [project.entry-points."iddmbench.defenses"]
    mine = "my_package.mine:MyDefense"
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from iddmbench.errors import UserError, did_you_mean, one_line

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes of one base by name. Nothing is imported before it is used.

    Args:
        kind: what an entry is called in messages ("defense").
        base: every entry must be a subclass of it.
        builtin: name -> "module:attribute" of the ones that ship with the package.
        group: entry-point group that other packages add to.
        texts: class variables that every entry must set to a text.
    """

    def __init__(self, kind: str, base: type[T], builtin: dict[str, str], group: str, texts: tuple[str, ...] = ()):
        self.kind, self.base, self.group, self.texts = kind, base, group, texts
        self._builtin = builtin
        self._added: dict[str, type[T]] = {}
        self._loaded: dict[str, type[T]] = {}
        self._points: dict[str, list[str]] | None = None

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
        """All names, those of packages that can't be loaded included."""
        return sorted({*self._builtin, *self._added, *self._installed()})

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._added or name in self._installed()

    def loaded(self) -> list[tuple[str, "type[T] | UserError"]]:
        """(name, class), or (name, error) for a plugin that can't be loaded: one broken package hides no other."""
        found: list[tuple[str, type[T] | UserError]] = []
        for name in self.names():
            try:
                found.append((name, self.get(name)))
            except UserError as error:
                found.append((name, error))
        return found

    def get(self, name: str) -> type[T]:
        """The class of that name. Raises UserError, with the nearest name, when there is none, it can't be loaded, or two
        packages define it."""
        if name in self._added:
            return self._added[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> type[T]:
        if name not in self:
            self._points = None  # it may have been installed since
        targets = self._installed().get(name, [])
        if name in self._builtin:
            targets = [self._builtin[name], *(target for target in targets if target != self._builtin[name])]
        if not targets:
            raise UserError(f"unknown {self.kind} '{name}': {did_you_mean(name, self.names())}")
        if len(targets) > 1:
            raise UserError(f"{self.kind} '{name}' is defined twice, by {' and '.join(targets)}: uninstall one")
        module, _, attribute = targets[0].partition(":")
        try:
            cls = getattr(import_module(module), attribute)
        except (Exception, SystemExit) as error:  # a package may fail in any way while it is imported
            raise UserError(f"{self.kind} '{name}' can't be loaded from {targets[0]}: {one_line(error)}") from error
        try:
            self._check(name, cls)
        except TypeError as error:
            raise UserError(f"{error} (from {targets[0]})") from error
        return cls

    def _check(self, name: str, cls: object) -> None:
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise TypeError(f"{self.kind} '{name}' must be a subclass of {self.base.__name__}, got {cls!r}")
        for text in self.texts:
            if not isinstance(getattr(cls, text, None), str):
                raise TypeError(f"{self.kind} '{name}' must set its class variable `{text}` to a text")

    def _installed(self) -> dict[str, list[str]]:
        """Where each name of other packages is defined, usually in one place. Looked up once, as it reads many files."""
        if self._points is None:
            found: dict[str, list[str]] = {}
            for point in entry_points(group=self.group):
                targets = found.setdefault(point.name, [])
                if point.value not in targets:
                    targets.append(point.value)
            self._points = found
        return self._points
