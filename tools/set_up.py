"""Each tool imports this module before all packages. If one is not installed, the tool ends with one sentence and status 2."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # a checkout need not be installed

from neox_code.installation import report_missing_set_up

report_missing_set_up()
