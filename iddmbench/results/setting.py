"""The setting that a run was in, where it is not the usual one."""

from collections.abc import Mapping
from typing import Any


def followed(config: Mapping[str, Any]) -> str:
    """One sentence about the published protocol that the run follows, and where it departs from it; empty under ours."""
    name = config.get("protocol", {}).get("name")
    if not name:
        return ""
    departures = [str(text) for text in config.get("departures", [])]
    but = f", with other settings: {'; '.join(departures)}" if departures else ""
    return f"Under the published protocol {name}{but}. Its figures are not ranked."


def setting(config: Mapping[str, Any]) -> str:
    """One sentence about who personalized the model on which photos; empty for the authorized setting, and for given images."""
    if config.get("threat") != "unauthorized":
        return ""
    purified = f", purified by {config['purify']} first" if config.get("purify") else ""
    return f"Unauthorized setting: somebody else personalizes the model on the protected photos{purified}."
