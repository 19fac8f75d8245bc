"""Every tool imports this module first. If a package is not installed, the tool ends with one sentence and exit status 2."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # a checkout need not be installed

from neox_code.installation import report_missing_set_up

report_missing_set_up()
