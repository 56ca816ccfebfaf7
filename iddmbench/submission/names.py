"""Attackers' names as strangers may see them: one that is a file of somebody's disk is named without its path."""

import re
from collections.abc import Iterable, Mapping
from pathlib import PureWindowsPath
from typing import Any

from iddmbench.adaptive import ADAPTIVE, build_adaptive, parse, roots
from iddmbench.attacker import ATTACKERS, build_attacker, split_detector

STEM, DIGITS = 20, 8

OPTIONS = re.compile(r"\w+=[\w-]*(\.\d+)?(,\w+=[\w-]*(\.\d+)?)*", re.ASCII)
"""Options of an attacker ("part=inner"): words and numbers, which can't be a path."""


def public_name(name: str, fingerprints: Mapping[str, str]) -> str:
    """ "onnx:/home/me/w600k.onnx,bgr" as "onnx:w600k-1a2b3c4d": the file's own name, cut, and the first digits of the
    fingerprint, which covers weights and options. Inside an adaptive attacker's name too; all other names stay as they are,
    those with options ("lbph:part=inner") among them.

    Args:
        fingerprints: of the run's plain attackers. One that is not there is computed, which needs its file: UserError without.
    """
    adaptive = parse(name)
    if adaptive is not None:
        options = ADAPTIVE.get(adaptive.kind).write_argument(build_adaptive(adaptive).options)
        bases = "+".join(public_name(base, fingerprints) for base in adaptive.bases)
        return ":".join(filter(None, [adaptive.kind, options, bases]))
    system, detector = split_detector(name)
    kind, _, argument = system.partition(":")
    if not argument or kind not in ATTACKERS.names() or OPTIONS.fullmatch(argument):
        return name
    # Read as a path of any system: a folder's name says nothing to others, and may say too much.
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PureWindowsPath(argument.partition(",")[0]).stem)[:STEM].strip("-._")
    digits = (fingerprints.get(name) or build_attacker(name).fingerprint())[:DIGITS]
    return f"{kind}:{stem or 'file'}-{digits}{detector and ':' + detector}"


def own_names(public: Iterable[str], attackers: Iterable[str]) -> tuple[str, ...]:
    """Systems of `attackers` that are files here and the same network as one with a public name, whatever it is called."""
    files = {_digits(name) for name in public if ":" in name}
    mine = dict.fromkeys(root for name in attackers for root in roots(name) if ":" in root)
    return tuple(name for name in mine if files and _digits(public_name(name, {})) in files)


def _digits(public: str) -> tuple[str, str]:
    """Kind and fingerprint of a public name, without the file's own name."""
    kind, _, rest = public.partition(":")
    return kind, rest.partition(":")[0][-DIGITS:]


def public_options(options: Mapping[str, Any], fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """A defense's options with every surrogate that is a file under its public name."""

    def shown(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [shown(item) for item in value]
        if isinstance(value, str) and ":" in value:
            parts = [value] if value in fingerprints else value.split(",")
            return ",".join(public_name(part.strip(), fingerprints) for part in parts)
        return value

    return {key: shown(value) for key, value in options.items()}
