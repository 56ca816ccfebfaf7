"""The command that makes a run again, from its config."""

import shlex
from typing import Any

from iddmbench.results.run_folder import EVALUATION

UNKNOWN = "unknown"
"""Name of a base model that nobody named."""
OPTIONS = {"baseline": "undefended", "baseline_adapter": "undefended-adapter"}


def command(config: dict[str, Any]) -> list[str]:
    """Arguments of `iddmbench run` with every setting spelled out, so that later defaults do not change the result.

    A folder of photos is named PHOTOS, one of protected photos PROTECTED: a path says nothing to others, and may say
    too much. Of an evaluation, the images are IMAGES, the adapters ADAPTER, and each further folder is called as its option.
    """
    if config.get("kind") == EVALUATION:
        return _evaluate(config)
    arguments = ["iddmbench", "run"]
    if name := config.get("protocol", {}).get("name"):
        arguments += ["--protocol", str(name)]
    arguments += [x for name in _list(config, "defenses") for x in ("--defense", str(name))]
    arguments += [x for value in _list(config, "strengths") for x in ("--strength", f"{value:g}")]
    for option in ("dataset", "base"):
        if option in config:
            arguments += [f"--{option}", str(config[option])]
    for name, value in config.get("dataset_options", {}).items():
        arguments += ["--root", "PHOTOS"] if name == "root" else ["--data", f"{name}={value}"]
    for key, option in (("subjects", "subject"), ("attackers", "attacker"), ("seeds", "seed"), ("prompts", "prompt")):
        arguments += [x for value in _list(config, key) for x in (f"--{option}", str(value))]
    if "images_per_prompt" in config:
        arguments += ["--images-per-prompt", str(config["images_per_prompt"])]
    for key, option in (
        ("defense_options", "set"),
        ("personalizer_options", "personalizer-set"),
        ("lora", "lora"),
        ("sampling", "sampling"),
    ):
        for name, value in config.get(key, {}).items():
            if (option, name) == ("set", "folder"):  # of protected photos
                value = "PROTECTED"
            if isinstance(value, str | int | float):
                arguments += [f"--{option}", f"{name}={value}"]
    for option, usual in (
        ("personalizer", "lora"),
        ("preset", ""),
        ("threat", "authorized"),
        ("purify", ""),
        ("precision", "fp32"),
        ("target", ""),
    ):
        if config.get(option, usual) != usual:
            arguments += [f"--{option}", str(config[option])]
    if config.get("anchors") is False:
        arguments.append("--no-anchors")
    return arguments


def _evaluate(config: dict[str, Any]) -> list[str]:
    roles = list(map(str, _list(config, "given")))
    arguments = ["iddmbench", "evaluate", *(["IMAGES"] if "adapter" not in roles else [])]
    for role in roles:
        option = OPTIONS.get(role, role)
        arguments += [f"--{option}", str(config.get("given_dataset", "")) if role == "dataset" else option.upper()]
    if config.get("base", UNKNOWN) != UNKNOWN:
        arguments += ["--base", str(config["base"])]
    for key, option in (("attackers", "attacker"), ("white_box", "white-box"), ("prompts", "prompt")):
        arguments += [x for value in _list(config, key) for x in (f"--{option}", str(value))]
    if "adapter" in roles:
        arguments += [x for name in _list(config, "subjects") for x in ("--subject", str(name))]
        arguments += ["--images-per-prompt", str(config.get("images_per_prompt", ""))]
        for name, value in config.get("sampling", {}).items():
            arguments += ["--sampling", f"{name}={value}"]
    arguments += ["--name", str(config.get("defense", ""))]
    for key, option in (("strengths", "strength"), ("seeds", "seed")):
        arguments += [x for value in _list(config, key) for x in (f"--{option}", f"{value:g}")]
    return arguments


def shell(arguments: list[str]) -> str:
    """Quoted for a POSIX shell, one option a line."""
    lines: list[list[str]] = [[]]
    for argument in arguments:
        if argument.startswith("--"):
            lines.append([])
        lines[-1].append(shlex.quote(argument))
    return " \\\n  ".join(" ".join(words) for words in lines)


def _list(config: dict[str, Any], key: str) -> list[Any]:
    value = config.get(key, [])
    return list(value) if isinstance(value, list | tuple) else []
