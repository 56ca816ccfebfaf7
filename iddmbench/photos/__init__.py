DEFAULT_DATASET = "synthetic"
"""The dataset of a run, a sweep or `load_dataset` that names none; the base model follows the dataset. Light to import: the
command line shows it."""
