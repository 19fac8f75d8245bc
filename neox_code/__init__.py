"""neox-code: train, run and evaluate language models of code.

Importing the package sets one variable before torch loads libgomp, which reads it: an idle OpenMP thread then spins for about 20
microseconds before it sleeps. Its default is milliseconds, on a core that the working threads may need: beside other work torch is
then 10 to 20 times slower. An environment that sets GOMP_SPINCOUNT or OMP_WAIT_POLICY keeps its value.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
