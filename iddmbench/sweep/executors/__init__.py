"""Where tasks run. Engines that exist, adapted; the results are the same from all of them."""

from iddmbench.errors import UserError, did_you_mean
from iddmbench.sweep.executors.base import Executor, Resources

EXECUTORS = ("local", "ray", "slurm")


def make_executor(name: str, resources: Resources) -> Executor:
    """Raises UserError for an unknown name, a missing package, or an engine that can't be reached."""
    if name == "local":
        from iddmbench.sweep.executors.local import LocalExecutor

        return LocalExecutor(resources)
    if name == "ray":
        from iddmbench.sweep.executors.ray import RayExecutor

        return RayExecutor(resources)
    if name == "slurm":
        from iddmbench.sweep.executors.slurm import SlurmExecutor

        return SlurmExecutor(resources)
    raise UserError(f"--executor {name}: {did_you_mean(name, EXECUTORS)}")
