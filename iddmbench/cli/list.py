"""`iddmbench list`: the plugins and metrics that there are, and what they can be told."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iddmbench.errors import UserError, did_you_mean, escaped, one_line
from iddmbench.plugins import Kind

OTHERS = ("protocols", "metrics", "suites")
LISTS = (*(kind.plural for kind in Kind), *OTHERS)


def list_plugins(
    kind: Annotated[str | None, typer.Argument(help=f"{', '.join(LISTS[:-1])} or {LISTS[-1]}; all by default.")] = None,
    name: Annotated[str | None, typer.Argument(help="Show only this one, with its options.")] = None,
) -> None:
    """List plugins of each kind, protocols, metrics and suites; with a name, show its options (`list defense iddm`)."""
    chosen = LISTS if kind is None else [_kind(kind)]
    tables = {
        Kind.defense.plural: (_defenses, _defense),
        Kind.attacker.plural: (_attackers, _attacker),
        Kind.adaptive.plural: (_adaptives, _adaptive),
        Kind.purifier.plural: (_purifiers, _purifier),
        Kind.personalizer.plural: (_personalizers, _personalizer),
        Kind.dataset.plural: (_datasets, _dataset),
        "protocols": (_protocols, _protocol),
        "metrics": (_metrics, _metric),
        "suites": (_suites, _suite),
    }
    console = Console(emoji=False)
    for one in chosen:
        overview, detail = tables[one]
        for part in overview() if name is None else detail(name):
            console.print(part)


def _kind(text: str) -> str:
    for known in LISTS:
        if text in (known, known.removesuffix("s")):
            return known
    raise UserError(f"there is no list of '{text}': {did_you_mean(text, LISTS)}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, style="cyan" if i == 0 else None)
    return table


def _add(table: Table, *cells: object) -> None:
    """A row of plain texts: nothing in them is markup, an emoji's code or a control character."""
    table.add_row(*(Text(escaped(str(cell))) for cell in cells))


def _overview(kind: Kind, table: Table, row: Callable[[Any], tuple[object, ...]]) -> Table:
    """A row per plugin, its name first; of one that can't be loaded, what is wrong with it."""
    for name, cls in kind.registry.loaded():
        cells = (cls, *[""] * (len(table.columns) - 2)) if isinstance(cls, UserError) else row(cls)
        _add(table, name, *cells)
    return table


def _options(title: str, model: Any, but: tuple[str, ...] = ()) -> list[Table]:
    """The options of a pydantic model, with their defaults; no table where there are none."""
    table = _table(title, "name", "default", "what it does")
    for name, info in model.model_fields.items():
        if name not in but:
            _add(table, name, _default(info.get_default(call_default_factory=True)), info.description or "")
    return [table] if table.row_count else []


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
    table = _table("Defenses", "name", "what it is", "paper", "acts on")
    return [_overview(Kind.defense, table, lambda cls: (cls.title, cls.paper, _acts(cls)))]


def _acts(cls: Any) -> str:
    """Which of the points where it may act a defense overrides."""
    if cls.anchor:
        return "control"
    points = {"prepare": "base model", "protect": "photos", "personalize": "training", "release": "outputs"}
    return ", ".join(word for point, word in points.items() if cls.acts_on(point))


def _defense(name: str) -> list[Table]:
    cls = Kind.defense.registry.get(name)
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
    # The strength has an option of its own, --strength.
    return [_facts(name, rows), *_options("Options (--set NAME=VALUE)", cls, but=("strength",))]


def _default(value: object) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _attackers() -> list[Table]:
    table = _table("Attackers", "name", "system", "licence of the weights", "available")
    for name, cls in Kind.attacker.registry.loaded():
        if isinstance(cls, UserError):
            _add(table, name, cls, "", "no")
        else:
            _add(table, name, cls.title, cls.licence, _state(_available(cls)))
    table.caption = (
        "needs weights: iddmbench fetch NAME. needs extra: list attacker NAME shows the command that installs it. "
        "Adaptive attackers wrap any of these: list adaptive."
    )
    table.caption_justify = "left"
    return [table]


def _adaptives() -> list[Table]:
    table = _table("Adaptive attackers, around any attacker", "name", "what it does")
    for name, cls in Kind.adaptive.registry.loaded():
        if isinstance(cls, UserError):
            _add(table, name, cls)
        else:
            _add(table, _adaptive_name(cls), cls.title)
    return [table]


def _adaptive(name: str) -> list[Table]:
    from iddmbench.adaptive import FEWEST_SUBJECTS

    cls = Kind.adaptive.registry.get(name.partition(":")[0])
    facts: dict[str, object] = {"what it does": cls.title, "written": _adaptive_name(cls)}
    facts["learns on"] = f"other subjects; needs {FEWEST_SUBJECTS} in all"
    options = _options(f"Options (--attacker-set {cls.name}.NAME=VALUE)", cls.Options)
    return [_facts(name, facts), *options]


def _adaptive_name(kind: Any) -> str:
    return f"{kind.name}:NAME+NAME" if kind.several else f"{kind.name}:NAME"


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
    from iddmbench.attacker import build_attacker

    if name.partition(":")[0] in Kind.adaptive.registry:
        return _adaptive(name)
    cls = build_attacker(name)
    rows: dict[str, object] = {
        "system": cls.title,
        "embedding": f"{cls.dim} numbers, compared by {'a score of its own' if cls.similarity == 'own' else cls.similarity}",
        "licence": cls.licence,
        "weights": cls.source,
        "surrogate": "yes" if cls.differentiable else "no, it is not differentiable",
        "available": cls.available() or "yes",
        "file": cls.file.path if cls.file else "",
    }
    return [_facts(name, rows), *_options(f"Options (--attacker-set {cls.name}.NAME=VALUE)", cls.Options)]


def _purifiers() -> list[Table]:
    table = _table("Purifiers (--purify, purify:NAME:ATTACKER)", "name", "what it does")
    return [_overview(Kind.purifier, table, lambda cls: (cls.title,))]


def _purifier(name: str) -> list[Table]:
    from iddmbench.perturb.purifier import purifier

    made = purifier(name)
    written = [made.name, *([f"{made.name}-VALUE, {made.name}:NAME=VALUE"] if type(made).model_fields else [])]
    facts: dict[str, object] = {"what it does": made.title, "written": ", ".join(written), "version": made.version}
    facts["base model"] = "it needs one" if made.needs_base else ""
    return [_facts(name, facts), *_options("Options", type(made))]


def _personalizers() -> list[Table]:
    table = _table("Personalizers (--personalizer)", "name", "what it trains", "paper")
    return [_overview(Kind.personalizer, table, lambda cls: (cls.title, cls.paper))]


def _personalizer(name: str) -> list[Table]:
    cls = Kind.personalizer.registry.get(name)
    facts: dict[str, object] = {"what it trains": cls.title, "paper": cls.paper, "version": cls.version}
    facts["presets"] = ", ".join(cls.presets)
    title = "Settings (--personalizer-set NAME=VALUE); a base model may have other defaults"
    return [_facts(name, facts), *_options(title, cls.Settings)]


def _datasets() -> list[Table]:
    table = _table("Datasets", "name", "what it is", "licence")
    return [_overview(Kind.dataset, table, lambda cls: (cls.title, cls.licence))]


def _dataset(name: str) -> list[Table]:
    cls = Kind.dataset.registry.get(name)
    facts: dict[str, object] = {"what it is": cls.title, "licence": cls.licence, "notes": _first_line(cls)}
    facts |= {("layouts" if i == 0 else " " * i): layout for i, layout in enumerate(cls.layouts)}
    tables = [_facts(name, facts)]
    if options := _constructor(cls):
        table = _table("Options (--root, and --data NAME=VALUE)", "name", "default", "what it does")
        meanings = _argument_texts(cls)
        variable = getattr(cls, "variable", "")  # of `LocalCopy`: a root that a shared configuration need not name
        none = f"from {variable}, otherwise required" if variable else "none; required"
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


def _protocols() -> list[Table]:
    from iddmbench.protocols import load_protocol, protocols

    table = _table("Protocols (--protocol)", "name", "what it is", "paper")
    for one in map(load_protocol, protocols()):
        _add(table, one.name, one.title, one.paper)
    return [table]


def _protocol(name: str) -> list[Table]:
    from iddmbench.protocols import load_protocol

    one = load_protocol(name)
    rows: dict[str, object] = {"what it is": one.title, "paper": one.paper, "code": one.code, **one.about}
    rows |= {f"knows {kind}": ", ".join(getattr(one, kind)) for kind in ("datasets", "attackers", "personalizers")}
    rows |= {("differs" if i == 0 else " " * (i + 1)): text for i, text in enumerate(one.differences)}
    tables = [_facts(name, rows)]
    if one.settings:
        table = _table("Settings that it fixes", "name", "value")
        for key, value in one.settings.items():
            told = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else _default(value)
            _add(table, key, told)
        tables.append(table)
    if one.thresholds:
        table = _table(f"Published thresholds, FAR {one.thresholds.far:g}", "attacker", "cosine")
        for attacker, value in one.thresholds.values.items():
            _add(table, attacker, value)
        tables.append(table)
    return tables


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
