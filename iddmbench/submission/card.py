"""The card of a dataset on the hub that holds a bundle: README.md, whose head the hub and `datasets` read."""

import io
from collections.abc import Iterable

import pandas as pd
import yaml

from iddmbench import __version__
from iddmbench.results.metric_info import metric
from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE, label
from iddmbench.results.summary import figure_text
from iddmbench.submission.schema import Submission
from iddmbench.submission.text import markdown

TABLES = ("claims", "cells")
SHOWN = ((WORST_CASE, "r1u"), (WORST_CASE, "psr@1e-2"), (WORST_CASE_ADAPTIVE, "r1u"), ("", "utility_index"))
TAGS = ["benchmark", "face-recognition", "identity-linkability", "iddm-bench", "privacy", "text-to-image"]

CARD = """---
{head}---

# {name}

A submission to IDDM-Bench, which measures how well face recognition links the images of personalized diffusion models to the
people they show. `{bundle}` holds {images} generated images of {people} on `{dataset}` under {conditions}, with settings, seeds
and hashes. It holds no photo of the dataset. **The images are made to resemble the dataset's people: its terms apply.**

{about}

| condition | {titles} |
|---|{columns}
{rows}

Figures are the submitter's claims. `iddmbench verify {bundle}` recomputes every one of them from the images.

## Reading it

```python
import pandas as pd

claims = pd.read_parquet("claims.parquet")  # every figure: defense, strength, attacker, metric, policy, value
cells = pd.read_parquet("cells.parquet")  # every model: defense, strength, subject, seed, status
```

Strength is empty for the undefended (`none`) and the un-personalized model (`generic`); attacker is empty for utility. The
images lie in the bundle as `images/CONDITION-seedN/SUBJECT/NNNN.png`, in the order of prompts and repetitions;
`submission.json` in it names everything else.

Made by iddmbench {version}.
"""


def tables(meta: Submission) -> dict[str, bytes]:
    """Parquet files by name: the claims and the cells."""
    rows = {"claims": meta.claims, "cells": meta.cells}
    return {f"{name}.parquet": _parquet([row.model_dump() for row in rows[name]]) for name in TABLES}


def _parquet(rows: Iterable[dict]) -> bytes:
    frame = pd.DataFrame(rows)
    frame["strength"] = frame["strength"].astype(float)  # of anchors alone it would have no type
    stream = io.BytesIO()
    frame.to_parquet(stream, index=False)
    return stream.getvalue()


def dataset_card(meta: Submission, bundle: str) -> str:
    """README.md for a repository with the file `bundle` and `tables`."""
    head = {
        "pretty_name": meta.name,
        "tags": TAGS,
        "configs": [{"config_name": name, "data_files": f"{name}.parquet"} for name in TABLES],
    }
    links = [f"[{word}]({url})" for word, url in (("Paper", meta.paper), ("Code", meta.code)) if url]
    about = [
        f"*{markdown(meta.title)}*",
        markdown(meta.description),
        ", ".join(map(markdown, meta.authors)),
        ", ".join(links),
    ]
    return CARD.format(
        head=yaml.safe_dump(head, sort_keys=False, allow_unicode=True),
        name=markdown(meta.name),
        bundle=bundle,
        images=sum(len(meta.images_of(cell)) for cell in meta.cells),
        people="one person" if len(meta.run.subjects) == 1 else f"{len(meta.run.subjects)} people",
        dataset=meta.run.dataset,
        conditions=_and([label(*condition) for condition in meta.conditions]),
        about="\n\n".join(part for part in about if part.strip("*")),
        titles=" | ".join(_title(attacker, name) for attacker, name in SHOWN),
        columns="---|" * len(SHOWN),
        rows="\n".join(_rows(meta)),
        version=__version__,
    )


def _title(attacker: str, name: str) -> str:
    return f"{metric(name).title}{f', {attacker}' if attacker else ''}"


def _rows(meta: Submission) -> Iterable[str]:
    found = {
        (c.defense, c.strength, c.attacker, c.metric): c.value for c in meta.claims if c.policy in ("headline", "")
    }
    for defense, strength in meta.conditions:
        values = [found.get((defense, strength, *shown)) for shown in SHOWN]
        cells = ["–" if v is None else figure_text(name, v) for v, (_, name) in zip(values, SHOWN, strict=True)]
        yield f"| {label(defense, strength)} | {' | '.join(cells)} |"


def _and(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
