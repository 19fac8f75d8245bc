"""Make a PNG picture of an HTML page, such as the quickstart's report, by a headless Chromium.

python tools/picture_of_page.py checkpoints/quickstart/report.html docs/quickstart-report.png --height 1340
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import set_up  # noqa: F401

from neox_code.config.command_line import Parser
from neox_code.errors import DataError, run_command

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main(argv: Sequence[str]) -> int:
    """Write the picture; return 0. Raise DataError if there is no page or no browser, or if the browser fails."""
    parser = Parser(__doc__)
    parser.add_argument("page", help="HTML file, or the address of a server's page")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    parser.add_argument("--width", type=int, default=1000, metavar="PIXELS", help="width of the window (default: %(default)s)")
    parser.add_argument("--height", type=int, default=1400, metavar="PIXELS", help="height of the window (default: %(default)s)")
    parsed = parser.parse_args(argv)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise DataError(f"no browser is installed. Install one of {', '.join(BROWSERS)}.")
    address = parsed.page
    if not address.startswith(("http://", "https://")):
        if not Path(address).is_file():
            raise DataError(f"{address} does not exist. Give the path of an HTML file.")
        address = Path(address).resolve().as_uri()
    with tempfile.TemporaryDirectory() as profile:
        size = f"--window-size={parsed.width},{parsed.height}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}", size]
        options.append("--virtual-time-budget=60000")  # milliseconds of the page's scripts and requests
        command = [browser, *options, f"--screenshot={parsed.picture.resolve()}", address]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if result.returncode or not parsed.picture.is_file():
        raise DataError(f"{browser} made no picture of {parsed.page}: {result.stderr.strip()[-500:]}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
