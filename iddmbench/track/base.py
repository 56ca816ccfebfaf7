"""The base class of trackers."""

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import ClassVar

from iddmbench.errors import UserError, first_line
from iddmbench.track.record import Record

PROJECT = "iddmbench"
"""Name of the project that runs are logged to, where a tracker has projects and the user chose none."""


class Tracker(ABC):
    """A program that collects runs. Building one is cheap: its package is imported when a run is logged."""

    name: ClassVar[str]
    package: ClassVar[str]
    """What must be importable; the extra of that name (`iddmbench[name]`) brings it."""
    leaves: bool = False
    """Whether what is logged may leave this machine: it is told no picture of a private dataset then."""

    def check(self) -> None:
        """Raises UserError if nothing could be logged here, before anything is computed."""
        if find_spec(self.package) is None:
            raise UserError(
                f"--track {self.name} needs the package {self.package}: pip install 'iddmbench[{self.name}]'"
            )

    def log(self, record: Record) -> str:
        """Log a finished run; logging it again replaces the old entry, where the tracker can do that.

        Returns where it is, in one line. Raises UserError if the tracker refuses, for any reason; the run stays.
        """
        try:
            return self._log(record.without_people() if self.leaves and record.private else record)
        except Exception as error:
            raise UserError(
                f"--track {self.name}: {first_line(error)}; the run is finished and in {record.folder}: the same command "
                "logs it again"
            ) from error

    @abstractmethod
    def _log(self, record: Record) -> str:
        """`log`, with what may be told."""
