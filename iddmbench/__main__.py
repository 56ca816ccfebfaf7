"""`python -m iddmbench`: the same as the command `iddmbench`."""

from iddmbench.cli import main

if __name__ == "__main__":
    main()
