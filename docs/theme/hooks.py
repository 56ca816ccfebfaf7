"""What the site needs beyond mkdocs' plugins, so that the same Markdown also reads well in the repository.

- A link out of docs/ (`../CONTRIBUTING.md`) goes to the file in the repository, and must exist there.
- `$$...$$` on lines of its own and $`...`$ within a line, which forges render, become MathML, which needs no script.
- `<!-- command line -->` becomes the tables of all commands and options.
"""

import re
from html import escape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)((?:#[^)\s]*)?\))")
BLOCK = re.compile(r"^\$\$\n(.+?)\n\$\$$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$`([^`\n]+)`\$")
PLACE = "FORMULA{}PLACE"
COMMANDS = "<!-- command line -->"

formulas: list[str] = []


def on_page_markdown(markdown, page, config, files):
    markdown = LINK.sub(lambda match: outside(match, page, config), markdown)
    markdown = BLOCK.sub(lambda match: stored(match[1], "block"), markdown)
    markdown = INLINE.sub(lambda match: stored(match[1], "inline"), markdown)
    return markdown.replace(COMMANDS, command_line()) if COMMANDS in markdown else markdown


def on_page_content(html, page, config, files):
    return re.sub(PLACE.format(r"(\d+)"), lambda match: formulas[int(match[1])], html)


def outside(match: re.Match, page, config) -> str:
    """The link as it is where it stays within docs/, else to the repository."""
    docs = Path(config.docs_dir)
    target = (docs / page.file.src_uri).parent.joinpath(match[2]).resolve()
    if target.is_relative_to(docs):
        return match[0]
    if not target.exists():
        raise PluginError(f"{page.file.src_uri}: {match[2]} does not exist")
    kind = "tree" if target.is_dir() else "blob"
    return f"{match[1]}{config.extra['repository']}/{kind}/main/{target.relative_to(ROOT).as_posix()}{match[3]}"


def stored(latex: str, display: str) -> str:
    math = convert(" ".join(latex.split()), display=display)
    formulas.append(f'<span class="formula">{math}</span>' if display == "block" else math)
    return PLACE.format(len(formulas) - 1)


def command_line() -> str:
    """Every command with its options, from the commands themselves."""
    import typer.main

    from iddmbench.cli import app

    return "\n".join(command_text(typer.main.get_command(app), ("iddmbench",)))


def command_text(command, path: tuple[str, ...]) -> list[str]:
    commands = getattr(command, "commands", None)
    if commands is not None:
        lines = [f"\n{text(command.help)}\n"] if len(path) > 1 else []
        heads = [f"\n## {' '.join(path)}\n", *lines] if len(path) > 1 else []
        return heads + [line for name, one in commands.items() for line in command_text(one, (*path, name))]
    level = "#" * len(path)
    given = " ".join(p.name.upper() for p in command.params if p.param_type_name == "argument")
    lines = [
        f"\n{level} {' '.join(path)}\n",
        text(command.help),
        "",
        "```sh",
        f"{' '.join(path)} {given}".strip(),
        "```",
        "",
    ]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    if options:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| {', '.join(f'`{o}`' for o in p.opts + p.secondary_opts)} | {text(p.help)} |" for p in options]
    return lines


def text(help: str | None) -> str:
    """Help as one line of Markdown."""
    return (
        escape(" ".join((help or "").split()), quote=False).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
    )
