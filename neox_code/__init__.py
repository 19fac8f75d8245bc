"""neox-code: train, run and judge language models of code.

Importing the package sets one default of the process, as libgomp reads it when torch is loaded: an idle OpenMP thread spins for
about 20 microseconds and then sleeps. By default it spins for milliseconds on the core that the thread it waits for needs, which
makes torch 10 to 20 times slower beside other work. An environment that sets GOMP_SPINCOUNT or OMP_WAIT_POLICY keeps its value.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
