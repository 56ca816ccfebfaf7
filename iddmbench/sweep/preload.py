"""What the process that workers are forked from has read: the large packages, once for all workers, in time and in memory.

Only what starts no thread, as a fork would lose it: so not pyarrow, and numpy with one thread (`LocalExecutor`).
"""

import gc

import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion  # noqa: F401

gc.collect()
gc.freeze()  # otherwise each worker's collector writes to all of it, and has a copy then
