#!/usr/bin/env python3
"""Run a command of neox_code/commands: ./deepy.py COMMAND CONFIG... is the console command `neox-code` in a checkout."""

import sys

from neox_code.installation import report_missing_set_up

report_missing_set_up()
from neox_code.commands.__main__ import start  # noqa: E402  after the check of the packages

if __name__ == "__main__":
    sys.exit(start())
