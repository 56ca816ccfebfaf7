"""What is doubtful about the photos or systems of a run: said before anything is trained, kept in the run folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iddmbench.errors import UserErrors

FILE = "premise.parquet"
WARNING, NOTE, FACT = "warning", "note", "fact"
SEVERITIES = {
    WARNING: "figures of this person or attacker may be meaningless",
    NOTE: "figures hold, with a caveat",
    FACT: "declared and known; not an error under --strict",
}
KINDS = {
    "unrecognized": "an attacker does not recognize a subject on real reference photos",
    "stranger": "an enrolment photo does not look like the person's other photos",
    "same-person": "two identities in the gallery look like one person",
    "duplicate": "one picture appears in two places",
    "several-faces": "a photo shows several faces, and the largest was taken",
    "turned": "a face is upright only when the photo is rotated",
    "small": "a photo or the face on it is very small",
    "foreign": "distractors and thresholds come from another dataset",
    "unverified": "nothing verifies that photos show the person they are named after",
    "gray": "the base model knows gray photos only, and these are in colour",
    "absent": "a requested attacker is not available",
    "trained-on": "an attacker or the base model was trained on these people",
    "simulated": "an attacker trains models of its own",
}
"""In the order in which they are shown."""
SHOWN = 8
"""Lines in the terminal."""


@dataclass(frozen=True)
class Finding:
    """One row of the table `premise`.

    Attributes:
        kind: one of KINDS. severity: one of SEVERITIES.
        subject: whom it is about; empty when it is about the whole run.
        photo: whose names it is about, joined by ", "; empty when it is about none in particular.
        attacker: who found it; empty when no attacker did.
        text: one line that stands for itself.
    """

    kind: str
    severity: str
    subject: str
    photo: str
    attacker: str
    text: str

    @property
    def row(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def strict(self) -> bool:
        """Whether `--strict` makes it an error."""
        return self.severity != FACT


def from_rows(rows: Iterable[Mapping[Any, Any]]) -> list[Finding]:
    """Findings of a table's rows."""
    names = [field.name for field in fields(Finding)]
    return [Finding(**{name: str(row[name]) for name in names}) for row in rows]


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Warnings first, then by kind; otherwise as they come."""
    severities, kinds = list(SEVERITIES), list(KINDS)
    return sorted(findings, key=lambda f: (severities.index(f.severity), kinds.index(f.kind)))


def read_findings(folder: Path) -> list[Finding]:
    """Of a run folder, finished or not; empty where there is no readable table."""
    try:
        return from_rows(pq.read_table(folder / FILE).to_pylist())
    except (OSError, KeyError, pa.ArrowException):
        return []


def lines(findings: Sequence[Finding], most: int = SHOWN, where: str = FILE) -> list[str]:
    """One line each, those of one kind on one subject together; after `most` of them a count, and where the rest is."""
    grouped: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        grouped.setdefault((finding.severity, finding.kind, finding.subject), []).append(finding)
    told = []
    for (severity, kind, _), several in grouped.items():
        head = "" if severity == FACT else f"{severity}: "
        rest = f" (and {len(several) - 1} more like it: {kind} in {where})" if len(several) > 1 else ""
        told.append(f"{head}{several[0].text}{rest}")
    if len(told) > most:
        told[most:] = [f"and {len(told) - most} more in {where}"]
    return told


def check_strict(findings: Sequence[Finding], where: str = FILE) -> None:
    """Raises UserErrors, a line each, unless all findings are mere facts."""
    wrong = [finding for finding in findings if finding.strict]
    if wrong:
        count = f"{len(wrong)} finding{'s' if len(wrong) > 1 else ''}"
        raise UserErrors([*lines(wrong, 20, where), f"--strict: {count}, so nothing was trained"])
