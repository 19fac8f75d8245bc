"""Serve a model to editors and other clients over HTTP.

    ./deepy.py serve CONFIG... [--host HOST] [--port PORT] [--model-name NAME] [--iteration N]

The addresses are OpenAI's (/v1/completions, /v1/models), llama.cpp's (/infill, /completion, /tokenize, /props), /health, and
/metrics for Prometheus. The server listens on this machine alone unless --host names another address. If the environment variable
NEOX_CODE_API_KEY is set, clients must send its value as their key. docs/editors.md has the settings of editors.
"""

import sys
from collections.abc import Sequence

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import build_config_parser, parse_non_negative_integer, read_shared_options
from neox_code.errors import ConfigError, run_command
from neox_code.planning.missing import require_files

try:
    from neox_code.serving.server import HOST, MODEL_NAME, PORT, run_server
except ModuleNotFoundError as error:
    missing_package = error.name
else:
    missing_package = None


def main(argv: Sequence[str]) -> int:
    """Serve until a signal; return 0."""
    if missing_package:
        raise ConfigError(f"serve needs the package {missing_package}. Run: pip install -e '.[serve]'")
    parser = build_config_parser(__doc__, "serve")
    parser.add_argument(
        "--host", default=HOST, help=f"address to listen on; 0.0.0.0 is every address of this machine (default: {HOST})"
    )
    parser.add_argument(
        "--port", type=parse_non_negative_integer, default=PORT, help=f"port; 0 chooses a free one (default: {PORT})"
    )
    parser.add_argument("--model-name", default=MODEL_NAME, metavar="NAME", help=f"name that clients see (default: {MODEL_NAME})")
    parsed = parser.parse_intermixed_args(list(argv))
    config = load_config(read_shared_options(parsed))
    require_files(config, "serve")
    run_server(config, parsed.host, parsed.port, parsed.model_name)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
