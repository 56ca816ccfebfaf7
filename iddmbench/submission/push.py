"""A bundle, its card and its tables into a dataset of Hugging Face's hub."""

from dataclasses import dataclass
from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.hub import check_login, check_repo, endpoint, hub_errors
from iddmbench.submission.card import dataset_card, tables
from iddmbench.submission.schema import Submission

OPTION = "--push"


@dataclass(frozen=True)
class Push:
    """What goes to OWNER/NAME. files: by name in the repository; a path is read when it is sent."""

    repo: str
    name: str
    files: dict[str, bytes | Path]

    @classmethod
    def of(cls, meta: Submission, bundle: Path, repo: str) -> "Push":
        card = dataset_card(meta, bundle.name).encode()
        return cls(repo, meta.name, {"README.md": card, bundle.name: bundle, **tables(meta)})

    def lines(self) -> list[str]:
        """What would be sent: the repository, then each file with its size."""
        sizes = {n: len(f) if isinstance(f, bytes) else f.stat().st_size for n, f in self.files.items()}
        return [
            f"dataset {self.repo} (private, if it is new):",
            *(f"  {n}: {size:,} bytes" for n, size in sizes.items()),
        ]


def check_push(repo: str, dry_run: bool) -> None:
    """Raises UserError, before anything is made, where `push` could not work."""
    check_repo(repo, OPTION)
    if not dry_run:
        check_login(f"{OPTION} {repo}", "see what would be pushed with --dry-run")


def push(what: Push) -> str:
    """Send it in one commit; a new dataset is private. Returns the commit's address.

    Raises UserError where the hub can't be reached or refuses.
    """
    with hub_errors(f"{OPTION} {what.repo}", what.repo, "the bundle is written; the same command pushes it again"):
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(endpoint=endpoint())
        api.create_repo(what.repo, repo_type="dataset", private=True, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in what.files.items()]
        done = api.create_commit(what.repo, operations, commit_message=f"IDDM-Bench: {what.name}", repo_type="dataset")
        return str(done.commit_url)


def refuse_dry_run_alone(push_to: str | None, dry_run: bool) -> None:
    """Raises UserError for --dry-run without --push."""
    if dry_run and push_to is None:
        raise UserError("--dry-run shows what --push OWNER/NAME would send: give both")
