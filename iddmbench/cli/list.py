"""`iddmbench list`: the plugins and metrics that there are, and what they can be told."""

import inspect
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iddmbench.errors import UserError, did_you_mean, escaped, one_line


class Kind(StrEnum):
    defenses = "defenses"
    attackers = "attackers"
    datasets = "datasets"
    metrics = "metrics"
    suites = "suites"


def list_plugins(
    kind: Annotated[
        str | None, typer.Argument(help="defenses, attackers, datasets, metrics or suites; all by default.")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One of them, with its options.")] = None,
) -> None:
    """List defenses, attackers, datasets, metrics and suites; with a name, show its options (`list defense iddm`)."""
    kinds = list(Kind) if kind is None else [_kind(kind)]
    tables = {
        Kind.defenses: (_defenses, _defense),
        Kind.attackers: (_attackers, _attacker),
        Kind.datasets: (_datasets, _dataset),
        Kind.metrics: (_metrics, _metric),
        Kind.suites: (_suites, _suite),
    }
    console = Console(emoji=False)
    for chosen in kinds:
        overview, detail = tables[chosen]
        for part in overview() if name is None else detail(name):
            console.print(part)


def _kind(text: str) -> Kind:
    for kind in Kind:
        if text in (kind.value, kind.value[:-1]):
            return kind
    raise UserError(f"there is no list of '{text}': {did_you_mean(text, [k.value for k in Kind])}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, style="cyan" if i == 0 else None)
    return table


def _add(table: Table, *cells: object) -> None:
    """A row of plain texts: nothing in them is markup, an emoji's code or a control character."""
    table.add_row(*(Text(escaped(str(cell))) for cell in cells))


def _loaded(registry: Any) -> list[tuple[str, Any]]:
    """(name, class), or (name, UserError) for a plugin that can't be loaded: one broken package hides no other."""
    found: list[tuple[str, Any]] = []
    for name in registry.names():
        try:
            found.append((name, registry.get(name)))
        except UserError as error:
            found.append((name, error))
    return found


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _facts(title: str, rows: dict[str, object]) -> Table:
    table = _table(title, "", "")
    table.show_header = False
    for key, value in rows.items():
        if value not in ("", None):
            _add(table, key, value)
    return table


def _defenses() -> list[Table]:
    from iddmbench.defense import DEFENSES

    table = _table("Defenses", "name", "what it is", "paper", "acts on")
    for name, cls in _loaded(DEFENSES):
        if isinstance(cls, UserError):
            _add(table, name, cls, "", "")
        else:
            _add(table, name, cls.title, cls.paper, _acts(cls))
    return [table]


def _acts(cls: Any) -> str:
    """Which of the three points a defense overrides."""
    if cls.anchor:
        return "control"
    points = {"protect": "photos", "personalize": "training", "release": "outputs"}
    return ", ".join(word for point, word in points.items() if cls.acts_on(point))


def _defense(name: str) -> list[Table]:
    from iddmbench.defense import DEFENSES

    cls = DEFENSES.get(name)
    rows: dict[str, object] = {
        "what it is": cls.title,
        "paper": cls.paper,
        "acts on": _acts(cls),
        "version": cls.version,
    }
    for preset, changes in cls.presets.items():
        rows[f"preset {preset}"] = ", ".join(f"{key}={value}" for key, value in changes.items()) or "the defaults"
    if cls.anchor:
        return [_facts(name, rows)]
    options = _table("Options (--set NAME=VALUE)", "name", "default", "what it does")
    for field_name, info in cls.model_fields.items():
        if field_name == "strength":  # it has an option of its own, --strength
            continue
        _add(options, field_name, _default(info.get_default(call_default_factory=True)), info.description or "")
    return [_facts(name, rows), options]


def _default(value: object) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _attackers() -> list[Table]:
    from iddmbench.adaptive import KINDS
    from iddmbench.attacker import ATTACKERS

    table = _table("Attackers", "name", "system", "licence of the weights", "available")
    for name, cls in _loaded(ATTACKERS):
        if isinstance(cls, UserError):
            _add(table, name, cls, "", "no")
        else:
            _add(table, name, cls.title, cls.licence, _state(_available(cls)))
    table.caption = (
        "needs weights: iddmbench fetch NAME. needs extra: list attacker NAME says which command installs it."
    )
    table.caption_justify = "left"
    prepared = _table("Adaptive attackers, around any of these", "name", "what it does")
    for kind in KINDS.values():
        _add(prepared, _adaptive_name(kind), kind.title)
    return [table, prepared]


def _adaptive_name(kind: Any) -> str:
    return f"{kind.kind}:NAME+NAME" if kind.several else f"{kind.kind}:NAME"


def _available(cls: Any) -> str | None:
    """`available`, of a plugin that may fail in any way."""
    try:
        return cls().available()
    except Exception as error:
        return f"no: {one_line(error)}"


def _state(problem: str | None) -> str:
    """In few words; `list attacker NAME` says it in full."""
    if problem is None:
        return "yes"
    kind, colon, _ = problem.partition(":")
    return kind if colon and kind in ("needs weights", "needs extra") else problem


def _attacker(name: str) -> list[Table]:
    from iddmbench.adaptive import FEWEST_SUBJECTS, KINDS, parse
    from iddmbench.attacker import build_attacker

    if name in KINDS or parse(name):
        kind = KINDS[name.partition(":")[0]]
        facts: dict[str, object] = {"what it does": kind.title, "written": _adaptive_name(kind)}
        return [_facts(name, facts | {"learns on": f"other subjects; needs {FEWEST_SUBJECTS} in all"})]
    cls = build_attacker(name)
    rows: dict[str, object] = {
        "system": cls.title,
        "embedding": f"{cls.dim} numbers, compared by {cls.similarity}",
        "licence": cls.licence,
        "weights": cls.source,
        "surrogate": "yes" if cls.differentiable else "no, it is not differentiable",
        "available": cls.available() or "yes",
        "file": cls.file.path if cls.file else "",
    }
    return [_facts(name, rows)]


def _datasets() -> list[Table]:
    from iddmbench.photos.dataset import DATASETS

    table = _table("Datasets", "name", "what it is", "licence")
    for name, cls in _loaded(DATASETS):
        if isinstance(cls, UserError):
            _add(table, name, cls, "")
        else:
            _add(table, name, cls.title, cls.licence)
    return [table]


def _dataset(name: str) -> list[Table]:
    from iddmbench.photos.dataset import DATASETS

    cls = DATASETS.get(name)
    facts: dict[str, object] = {"what it is": cls.title, "licence": cls.licence, "notes": _first_line(cls)}
    facts |= {("layouts" if i == 0 else " " * i): layout for i, layout in enumerate(cls.layouts)}
    tables = [_facts(name, facts)]
    if options := _constructor(cls):
        table = _table("Options (--root, and --data NAME=VALUE)", "name", "default", "what it does")
        meanings = _argument_texts(cls)
        variable = getattr(cls, "variable", "")  # of `LocalCopy`: a root that a shared configuration need not name
        none = f"what {variable} names; else it must be given" if variable else "none; must be given"
        for option, default in options.items():
            _add(table, option, _default(default) or none, meanings.get(option, ""))
        tables.append(table)
    return tables


def _argument_texts(cls: type) -> dict[str, str]:
    """What a docstring's section Args says of each: names before a colon, several with commas."""
    texts: dict[str, str] = {}
    names: list[str] = []
    _, _, section = (inspect.getdoc(cls) or "").partition("\nArgs:\n")
    for line in section.partition("\n\n")[0].splitlines():
        head, colon, rest = line.strip().partition(": ")
        if line.startswith("    ") and not line.startswith("     ") and colon:
            names = [name.strip() for name in head.split(",")]
            texts |= dict.fromkeys(names, rest)
        else:
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return texts


def _constructor(cls: type) -> dict[str, object]:
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: "" if p.default is p.empty else p.default for p in parameters if p.kind is not p.VAR_KEYWORD}


def _metrics() -> list[Table]:
    from iddmbench.results.metric_info import METRICS

    table = _table("Metrics", "name", "kind", "better", "what it says")
    for metric in METRICS:
        _add(table, metric.name, metric.kind, metric.better, metric.meaning)
    return [table]


def _metric(name: str) -> list[Table]:
    from iddmbench.results.metric_info import BY_NAME

    if name not in BY_NAME:
        raise UserError(f"unknown metric '{name}': {did_you_mean(name, BY_NAME)}")
    metric = BY_NAME[name]
    unit = "rate in [0, 1], shown in per cent" if metric.share else "number"
    rows: dict[str, object] = {
        "title": metric.title,
        "says": metric.meaning,
        "kind": metric.kind,
        "better": metric.better,
        "unit": unit,
    }
    return [_facts(name, rows)]


def _suites() -> list[Table]:
    from iddmbench.sweep.config import suites
    from iddmbench.yaml_text import read_yaml_file

    table = _table("Suites (sweep NAME)", "name", "what it is")
    for name, path in suites().items():
        _add(table, name, read_yaml_file(path)[0].get("description", ""))
    return [table]


def _suite(name: str) -> list[Table]:
    from iddmbench.sweep.config import suites

    known = suites()
    if name not in known:
        raise UserError(f"unknown suite '{name}': {did_you_mean(name, known)}")
    return [_facts(name, {"file": known[name], "settings": known[name].read_text(encoding="utf-8")})]
