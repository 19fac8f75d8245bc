"""neox-code: train, run and evaluate language models of code.

Importing the package sets GOMP_SPINCOUNT before torch loads libgomp: an idle OpenMP thread then spins for 0.05 to 0.5 milliseconds
before it sleeps, so that it is still awake after the Python code between two matrix products. By default it spins for several
milliseconds on a core that other threads may need, and torch is 10 to 20 times slower when other programs run. If the environment
sets GOMP_SPINCOUNT or OMP_WAIT_POLICY, its value stays.

In the package's commands, Ctrl-C ends the process without a traceback while it imports; errors.run_command handles it from then on.
"""

import os
import signal
import sys

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

if (
    sys.argv[0].rpartition(os.sep)[2] in ("-m", "deepy.py", "neox-code")
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
