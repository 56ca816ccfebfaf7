"""A defense and an attacker in a package of their own."""
