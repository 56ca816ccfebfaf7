"""`hf://OWNER/NAME` as a root: a dataset of Hugging Face's hub, in its client's own cache."""

import re
from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.hub import check_repo, endpoint, hub_errors
from iddmbench.photos.files import suffixes

ROOT = re.compile(r"hf:/{1,2}(?:datasets/)?([^@]*)(?:@(.+))?")
"""A path turns two slashes into one."""
TABLES = ("*.parquet", "*.arrow", "*state.json", "*dataset_info.json", "*dataset_dict.json")


def on_hub(root: str | Path) -> bool:
    return str(root).startswith("hf:/")


def address(root: str | Path) -> str:
    """The root as it is written: "hf://OWNER/NAME", or "hf://OWNER/NAME@REVISION". Raises UserError for anything else."""
    found = ROOT.fullmatch(str(root))
    repo = (found[1] if found else "").strip("/")
    check_repo(repo, "--root hf://")
    return f"hf://{repo}" + (f"@{found[2]}" if found and found[2] else "")


def download(root: str) -> Path:
    """The folder of a dataset's tables and photos; what is there already is not fetched again.

    Args:
        root: as `address` writes it.

    Raises UserError where it is neither in the client's cache nor can be fetched.
    """
    repo, _, revision = address(root).removeprefix("hf://").partition("@")
    instead = "fetch it where there is a network, or give a folder with --root"
    with hub_errors(f"--root {root}", repo, instead):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        photos = sorted({f"*{s}" for suffix in suffixes() for s in (suffix, suffix.upper())})
        try:
            return Path(
                snapshot_download(
                    repo,
                    repo_type="dataset",
                    revision=revision or None,
                    allow_patterns=[*TABLES, *photos],
                    endpoint=endpoint(),
                )
            )
        except LocalEntryNotFoundError as error:  # offline, and nothing in the cache
            raise UserError(f"--root {root}: the hub can't be reached and nothing of it is here: {instead}") from error
