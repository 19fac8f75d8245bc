"""Write a model of Hugging Face as a checkpoint: ./deepy.py convert SOURCE OUTPUT --to neox.

python tools/convert_from_huggingface.py SOURCE OUTPUT [OPTIONS]
"""

import sys

import set_up  # noqa: F401

from neox_code.commands.convert import main
from neox_code.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main, [*sys.argv[1:], "--to", "neox"]))
