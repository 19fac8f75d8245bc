"""List the files, packages, hosts and GPUs that a run needs and this machine lacks, one sentence each. Imports no torch.

    for sentence in list_all_missing(config, "train"):
        print(f"missing: {sentence}")

A dry run prints the sentences of `list_all_missing`. A run does not start if `list_blocking_problems` returns a sentence. If the
hostfile contains only other machines, the ranks there check their own data and packages.
"""

import importlib.util
from collections.abc import Container, Iterator
from pathlib import Path

from neox_code.config.command_line import LAYOUT_COMMANDS
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError, LaunchError
from neox_code.launch.hosts import MISSING, find_resources, find_visible_gpus, is_this_machine
from neox_code.planning.planned_world import plan_world

TOKENS = (".bin", ".idx")
TYPES_WITHOUT_FILES = ("CharLevelTokenizer", "TiktokenTokenizer")
"""Tokenizers that need no vocabulary file. CharLevelTokenizer has none; for TiktokenTokenizer vocab_file may name an encoding."""
VOCABULARY = (("vocab_file", ("",)), ("merge_file", ("",)))
STANDARD_INPUT = "-"

WITHOUT_PART = (
    "Training continues without it. To divide one token file into training, validation and test, set data_path and split instead "
    "of the *_data_paths."
)

FILES = {
    "train": (*((key, TOKENS) for key in ("data_path", "train_data_paths", "valid_data_paths", "test_data_paths")), *VOCABULARY),
    "finetune": (*((key, ("",)) for key in ("load", "train_rows", "valid_rows", "test_rows")), *VOCABULARY),
    "generate": (("load", ("",)), *VOCABULARY, ("sample_input_file", ("",))),
    "serve": (("load", ("",)), *VOCABULARY),
    "lsp": (("load", ("",)), *VOCABULARY),
    "evaluate": (("load", ("",)), *VOCABULARY, ("heldout_path", ("",))),
}
"""Command -> keys that name files to read, each with the endings of its files (.bin and .idx for a token file)."""

TOKEN_FILES = "Make token files with tools/preprocess_data.py, or correct the path."
OWN_VOCABULARY = "Copy the file that the model was trained with into the folder of the checkpoint, or correct the path."
POLYCODER_VOCABULARY = {"code-vocab.json", "code-merges.txt"}
POLYCODER_SOURCE = " PolyCoder's is published in the folder Data of github.com/VHellendoorn/Code-LMs."

REMEDIES = {
    **dict.fromkeys(("data_path", "train_data_paths", "valid_data_paths", "test_data_paths"), TOKEN_FILES),
    "heldout_path": "Make a corpus with tools/build_corpus.py, or correct the path.",
    "load": "Set it to the folder that training saved to.",
}
"""Key -> what to do about its missing file."""

NEW_VOCABULARY = (
    "Copy the file that the token files were made with, or make new token files with a vocabulary of tools/train_tokenizer.py."
)


def find_remedy(key: str, script: str, config: NeoXConfig) -> str:
    """Return the remedy for a missing file. If weights exist, a missing vocabulary must be the one of their training."""
    if key in ("vocab_file", "merge_file"):
        if script == "train" and not config.training.finetune:
            return NEW_VOCABULARY
        is_polycoder = Path(config.values()[key]).name in POLYCODER_VOCABULARY
        return OWN_VOCABULARY + (POLYCODER_SOURCE if is_polycoder else "")
    return REMEDIES.get(key, "Correct the path.")


def list_all_missing(config: NeoXConfig, script: str) -> list[str]:
    """Return a sentence for everything that is missing on this machine."""
    training = (*check_fp16_gpu(config), *(list(check_hosts(config)) or check_gpus(config))) if script in LAYOUT_COMMANDS else ()
    return [
        *list_unset_keys(config, script),
        *find_missing_files(config, script),
        *find_missing_packages(config),
        *check_hostfile(config),
        *training,
    ]


def list_blocking_problems(config: NeoXConfig, script: str) -> list[str]:
    """Return a sentence for each missing file, package, host or setting that the command needs."""
    if script not in LAYOUT_COMMANDS:
        return [*find_missing_files(config, script), *find_missing_packages(config)]
    optional = set(find_unused_splits(config))
    here = (*find_missing_files(config, script, optional), *find_missing_packages(config)) if is_host_of_run(config) else ()
    return [*list_unset_keys(config, script), *here, *check_fp16_gpu(config), *check_hosts(config)]


def require_files(config: NeoXConfig, script: str) -> None:
    """Raise ConfigError with everything that blocks the command on this machine."""
    if missing := list_blocking_problems(config, script):
        raise ConfigError("\n".join(f"missing: {sentence}" for sentence in missing))


def is_host_of_run(config: NeoXConfig) -> bool:
    """Return True if this machine is one of the run's hosts, or if the hosts cannot be determined."""
    if not config.parallelism.hostfile:
        return True
    try:
        return any(map(is_this_machine, find_resources(config.parallelism)))
    except LaunchError:
        return True


def list_unset_keys(config: NeoXConfig, script: str) -> list[str]:
    """Return a sentence for each key that a training needs and that is not set."""
    if script not in LAYOUT_COMMANDS:
        return []
    unset = config.find_missing_data() if script == "train" else config.find_missing_vocabulary()
    return [*unset, *check_merge_file(config)]


def check_merge_file(config: NeoXConfig) -> Iterator[str]:
    data = config.data
    if data.tokenizer_type == "GPT2BPETokenizer" and data.vocab_file and not data.merge_file:
        yield "merge_file: it is not set, but GPT2BPETokenizer needs it beside vocab_file. Set it to the file of merges."


def find_unused_splits(config: NeoXConfig) -> Iterator[str]:
    """Yield each key of validation or test files of which no file exists. Training continues without such a split."""
    for key in ("valid_data_paths", "test_data_paths"):
        if not any(Path(f"{path}{ending}").exists() for path in config.values()[key] for ending in TOKENS):
            yield key


def find_missing_files(config: NeoXConfig, script: str, skipped: Container[str] = ()) -> Iterator[str]:
    """Yield a sentence for each missing file, except those of `skipped` keys."""
    values = config.values()
    optional = set(find_unused_splits(config))
    for key, endings in FILES.get(script, ()):
        if key in skipped:
            continue
        if key == "vocab_file" and config.data.tokenizer_type in TYPES_WITHOUT_FILES:
            continue
        named = values[key] if isinstance(values[key], tuple) else (values[key],)
        for path in filter(None, named):
            if key == "sample_input_file" and path == STANDARD_INPUT:
                continue
            missing = [f"{path}{ending}" for ending in endings if not Path(f"{path}{ending}").exists()]
            if missing:
                advice = WITHOUT_PART if key in optional else find_remedy(key, script, config)
                yield f"{' and '.join(missing)} ({key}, {config.origins[key]}). {advice}"


PACKAGES = (
    ("use_wandb", True, "wandb", "pip install -e '.[wandb]', or leave the key out"),
    ("use_bnb_optimizer", True, "bitsandbytes", "pip install -e '.[bitsandbytes]', or leave the key out"),
)
"""Key, the value of the key that needs an optional package, the package, and the remedy."""


def find_missing_packages(config: NeoXConfig) -> Iterator[str]:
    values = config.values()
    for key, value, package, remedy in PACKAGES:
        if values[key] == value and importlib.util.find_spec(package) is None:
            yield f"the package {package}, which {config.format_key(key)} needs. Run {remedy}."


def check_hostfile(config: NeoXConfig) -> Iterator[str]:
    if config.origins["hostfile"].endswith(MISSING):
        yield f"hostfile {config.origins['hostfile']}"


def check_hosts(config: NeoXConfig) -> Iterator[str]:
    """Yield a sentence if the run's hosts or devices do not exist."""
    try:
        find_resources(config.parallelism)
    except LaunchError as error:
        yield f"hosts to run on: {error}"


def check_fp16_gpu(config: NeoXConfig) -> Iterator[str]:
    if config.model.precision == "fp16" and not config.parallelism.hostfile and not find_visible_gpus():
        yield f"a GPU, without which {config.format_key('precision')} cannot be trained. On a CPU use --set precision=bfloat16."


def check_gpus(config: NeoXConfig) -> Iterator[str]:
    """Yield a sentence if this machine has fewer GPUs than the run needs. (`check_fp16_gpu` reports a missing GPU for fp16.)"""
    if config.parallelism.hostfile:
        return
    ranks, here = plan_world(config).ranks, len(find_visible_gpus())
    if here >= ranks:
        return
    if here:
        yield f"{ranks} GPUs, of which this machine has {here}. Run on a machine with more, or on several with a hostfile."
    elif config.model.precision != "fp16":
        yield f"{'a GPU' if ranks == 1 else f'{ranks} GPUs'}: a run here has {ranks} CPU process{'es' * (ranks > 1)}."
