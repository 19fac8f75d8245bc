"""Complete code in an editor, as a language server that the editor starts.

    ./deepy.py lsp CONFIG... [--time-limit SECONDS] [--iteration N]

The editor's language client needs textDocument/inlineCompletion of LSP 3.18; docs/editors.md has the settings to paste. The
protocol uses standard input and output; log lines go to standard error. maximum_tokens, stop, stop_rules, infilling_order and the
sampling keys of the configuration apply. If neither stop nor stop_rules is set, a completion ends with the block that the cursor's
line opens, or with the line if it opens none.
"""

import os
import signal
import sys
from collections.abc import Sequence

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import build_config_parser, read_shared_options
from neox_code.errors import ConfigError, run_command
from neox_code.generation.generator import Generator
from neox_code.generation.loading import load_model
from neox_code.planning.missing import require_files

try:
    from neox_code.serving.language_server import SECONDS, Completer, run_language_server
except ModuleNotFoundError as error:
    missing_package = error.name
else:
    missing_package = None


def main(argv: Sequence[str]) -> int:
    """Serve one editor; return 0 if it ended the session in order."""
    if missing_package:
        raise ConfigError(f"lsp needs the package {missing_package}. Run: pip install -e '.[serve]'")
    parser = build_config_parser(__doc__, "lsp")
    parser.add_argument(
        "--time-limit",
        type=float,
        default=SECONDS,
        metavar="SECONDS",
        help=f"most seconds for generation, once the text around the cursor has been read (default: {SECONDS:g})",
    )
    parsed = parser.parse_intermixed_args(list(argv))
    if not parsed.time_limit > 0:
        raise ConfigError(f"--time-limit ({parsed.time_limit:g}) must be greater than 0 seconds.")
    config = load_config(read_shared_options(parsed))
    require_files(config, "lsp")
    with os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)  # what a library prints would break the protocol
        generator = Generator(load_model(config), config.generation, config.training.seed)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # otherwise Ctrl-C waits for the thread that reads standard input
        return run_language_server(Completer(generator, parsed.time_limit), sys.stdin.buffer, sink)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
