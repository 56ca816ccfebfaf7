"""A page in the browser for those without a shell: `iddmbench app`."""
