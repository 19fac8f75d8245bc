"""The places of this installation: a checkout with ./deepy.py, or a wheel with the console command neox-code."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "deepy.py").is_file() else None
"""The folder with deepy.py, configs/ and tools/; None if the package was installed from a wheel."""

PACKAGED_CONFIGS = (PACKAGE / "configs").resolve()
"""The project's configuration files: a link to configs/ in a checkout, package data in a wheel."""

LAUNCHER = "./deepy.py" if CHECKOUT else "neox-code"
"""The first word of a command, as help and reports print it."""
