"""IDDM-Bench: how well can face recognition link the outputs of a personalized diffusion model to a person?"""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout the plugin folders (attackers/, datasets/, defenses/, leaderboard/) stand beside this package. They are
# part of it, under these names only: a top-level `datasets` would shadow the Hugging Face package.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))
del _root
