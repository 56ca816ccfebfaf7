"""A run's attackers, loaded once: their galleries, what embeds images for them, and on which images they failed."""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import torch

from iddmbench.attacker import Attacker
from iddmbench.errors import one_line
from iddmbench.linking.adaptive import AdaptiveLinker, Attackers, build_linkers
from iddmbench.linking.enrolment import Embed
from iddmbench.linking.linker import Linker
from iddmbench.models.base import BaseModel
from iddmbench.store.cache import digest, stops
from iddmbench.types import FaceData

log = logging.getLogger(__name__)


class AttackerPanel:
    """The attackers of a run by name, adaptive ones included. Networks and galleries are created on first use.

    Args:
        names: of the attackers. data: whose photos make the galleries. embed: embeds one person's photos.
        base: adaptive attackers may purify with it. own: attackers by name that are not plugins, or stand in for one.
    """

    def __init__(
        self,
        names: Sequence[str],
        data: FaceData,
        embed: Embed,
        base: BaseModel,
        own: Mapping[str, Attacker] = MappingProxyType({}),
    ):
        self.names, self._own = tuple(names), own
        self._data, self._embed, self._base = data, embed, base
        self._present: set[tuple[str, str]] = set()
        self._failures: dict[tuple[str, str], str] = {}

    @cached_property
    def attackers(self) -> Attackers:
        return Attackers.of(self.names, self._own)

    @cached_property
    def _built(self) -> tuple[dict[str, Linker], dict[str, AdaptiveLinker]]:
        return build_linkers(self.attackers, self._data, self._embed, self._base)

    @property
    def linkers(self) -> dict[str, Linker]:
        """The plain attackers with their galleries, by name. Raises UserError when one can't work on these photos."""
        return self._built[0]

    @property
    def adaptive(self) -> dict[str, AdaptiveLinker]:
        return self._built[1]

    @property
    def systems(self) -> dict[str, Linker]:
        """All plain systems by name, those that only adaptive attackers wrap included."""
        wrapped = {
            system: inner
            for name, how in self.attackers.adaptive.items()
            for system, inner in zip(how.bases, self.adaptive[name].linkers, strict=True)
        }
        return {**self.linkers, **wrapped}

    @cached_property
    def views_of(self) -> dict[str, list[Attacker]]:
        """What embeds the images for each attacker: itself, or the views of an adaptive one."""
        return {name: self.attackers.views(name, self._base) for name in self.names}

    @cached_property
    def views(self) -> list[Attacker]:
        """All that embeds a cell's images, each once."""
        return list({view.fingerprint(): view for views in self.views_of.values() for view in views}.values())

    @cached_property
    def fingerprints(self) -> dict[str, list[str]]:
        """What each attacker's scores depend on besides the photos and the images, by name."""
        prints = {name: [view.fingerprint() for view in views] for name, views in self.views_of.items()}
        keys = {name: self.attackers.keys(name) for name in prints}
        return {name: [*found, *([digest(keys[name])] if keys[name] else [])] for name, found in prints.items()}

    # ---- attackers that fail --------------------------------------------------------------------------------------------

    def embeds(self, view: Attacker, cell: str, embed: Callable[[], object]) -> bool:
        """Whether `embed` gives a view's embeddings of a cell, by its name. One that fails loses its own figures, and nobody
        else's; it is not asked again. Raises what no other cell would get over, as a full disk."""
        place = (view.fingerprint(), cell)
        if place in self._present or place in self._failures:
            return place in self._present
        try:
            embed()
        except Exception as error:
            if stops(error) or isinstance(error, MemoryError | torch.OutOfMemoryError):
                raise
            log.error("attacker '%s' fails on %s\n%s", view.name, cell, traceback.format_exc())
            self._failures[place] = one_line(error)
            return False
        self._present.add(place)
        return True

    def lost(self, cell: str, stored: Callable[[Attacker], bool]) -> dict[str, str]:
        """Attackers that have no embeddings of a cell's images, with what they raised. stored: whether a view's are kept."""
        found = {}
        for name, views in self.views_of.items():
            # What else an adaptive attacker's scores depend on follows its views' fingerprints.
            for view, fingerprint in zip(views, self.fingerprints[name][: len(views)], strict=True):
                place = (fingerprint, cell)
                if place in self._present:
                    continue
                if stored(view):
                    self._present.add(place)
                else:
                    found[name] = self._failures.get(place, f"it failed on {cell}")
        return found
