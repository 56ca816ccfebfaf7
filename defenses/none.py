"""Undefended personalization: the upper anchor of leakage and of utility."""

from iddmbench.defense import Defense


class NoDefense(Defense):
    name = "none"
    title = "undefended personalization"
    anchor = True
