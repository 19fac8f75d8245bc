"""Prepare a folder in which the converters of GPT-NeoX and Code-LMs, TRL and Stanford Alpaca run unmodified.

    python tools/peer_environment.py FOLDER --gpt-neox REPOSITORY [--code-lms REPOSITORY] [--alpaca REPOSITORY]

    cd FOLDER; export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1          # these programs execute pickles: for checkpoints that you trust
    2024/bin/python gpt-neox/tools/ckpts/convert_neox_to_hf.py --input_dir CHECKPOINT --config_file YAML --output_dir OUT
    2024/bin/python gpt-neox-2024/tools/ckpts/convert_sequential_to_hf.py           # the same arguments
    2022/bin/python code-lms/Convert2HF/convert_neox_pt_to_huggingface_neox.py --help

REPOSITORY is a clone with or without a work tree. FOLDER/2022, FOLDER/2024 and FOLDER/2026 are virtual environments with a few
packages of their own, of these years. All other packages, such as PyTorch, are those of the environment of this command. Parts of
FOLDER that exist are kept.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path

import set_up  # noqa: F401

from neox_code.errors import ConfigError, run_command

PACKAGES = {
    "2022": ("transformers==4.23.1", "numpy==1.26.4"),
    "2024": ("transformers==4.49.0", "tokenizers==0.21.4", "setuptools==69.5.1"),
    "2026": ("trl==1.16.0", "accelerate==1.15.0"),
}
"""Environment -> its own packages. GPT-NeoX imports pkg_resources.packaging, which setuptools 69 is the last version to have."""

SOURCES = {
    "gpt-neox": ("gpt_neox", "HEAD"),
    "gpt-neox-2024": ("gpt_neox", "f7373f80^"),
    "code-lms": ("code_lms", "HEAD"),
    "stanford-alpaca": ("alpaca", "HEAD"),
}
"""Folder -> option with its repository, and commit. Commit f7373f80 removed convert_sequential_to_hf.py."""


def main(argv: Sequence[str]) -> int:
    """Make the source trees and environments that are missing in the folder; return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--gpt-neox", type=Path, metavar="REPOSITORY", help="clone of github.com/EleutherAI/gpt-neox")
    parser.add_argument("--code-lms", type=Path, metavar="REPOSITORY", help="clone of github.com/VHellendoorn/Code-LMs")
    parser.add_argument("--alpaca", type=Path, metavar="REPOSITORY", help="clone of github.com/tatsu-lab/stanford_alpaca")
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, (option, commit) in SOURCES.items():
        repository = getattr(options, option)
        if repository and not (options.folder / name).exists():
            export_tree(repository, commit, options.folder / name)
    for name, packages in PACKAGES.items():
        if not (options.folder / name).exists():
            make_environment(options.folder / name, packages)
    return 0


def export_tree(repository: Path, commit: str, target: Path) -> None:
    """Write the files of a commit to the folder `target`. Raise ConfigError if the repository or the commit is missing."""
    result = subprocess.run(["git", "-C", str(repository), "archive", commit], capture_output=True, check=False)
    if result.returncode:
        reason = result.stderr.decode(errors="replace").strip()
        raise ConfigError(f"{repository} has no commit {commit}: {reason}. Give a complete clone (not a shallow one).")
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        archive.extractall(target, filter="data")


def make_environment(folder: Path, packages: Sequence[str]) -> None:
    """Make a virtual environment with these packages. It uses all other packages of this process's environment."""
    partial = folder.with_name(f"{folder.name}.partial")
    venv.create(partial, clear=True, with_pip=True)
    (site_packages,) = partial.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site_packages / "shared.pth").write_text("\n".join(shared) + "\n", encoding="utf-8")
    command = [str(partial / "bin" / "python"), "-m", "pip", "install", *packages]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise ConfigError(f"pip could not install {' '.join(packages)} for {folder}:\n{result.stdout.strip()}")
    partial.rename(folder)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
