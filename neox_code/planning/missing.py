"""What a run needs and this machine lacks, a sentence each: no mistakes of the configuration. Imports no torch.

    for sentence in lacking(config, "train"):
        print(f"not here: {sentence}")

A dry run lists them; a run is refused for those of them that are `stopping`. Where a hostfile names other machines than this one,
their ranks look for their data and packages themselves.
"""

import importlib.util
from collections.abc import Container, Iterator
from pathlib import Path

from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError, LaunchError
from neox_code.launch.hosts import MISSING, is_here, resources, visible_gpus
from neox_code.planning.planned_world import planned_world

TOKENS = (".bin", ".idx")
TYPES_WITHOUT_FILES = ("CharLevelTokenizer", "TiktokenTokenizer")
"""Tokenizers whose vocab_file need not be a file: the second's may be the name of an encoding."""
VOCABULARY = (("vocab_file", ("",)), ("merge_file", ("",)))
STANDARD_INPUT = "-"

WITHOUT_PART = (
    "Training goes on without it. To divide one token file into training, validation and test, set data_path and split instead of "
    "the *_data_paths."
)

FILES = {
    "train": (*((key, TOKENS) for key in ("data_path", "train_data_paths", "valid_data_paths", "test_data_paths")), *VOCABULARY),
    "generate": (("load", ("",)), *VOCABULARY, ("sample_input_file", ("",))),
    "evaluate": (("load", ("",)), *VOCABULARY, ("heldout_path", ("",))),
}
"""Of each script, the keys that name what it reads, and the endings of their files."""

TOKEN_FILES = "Make token files with tools/preprocess_data.py, or correct the path."
OWN_VOCABULARY = "Copy the one that the model was trained with, or correct the path."

REMEDIES = {
    **dict.fromkeys(("data_path", "train_data_paths", "valid_data_paths", "test_data_paths"), TOKEN_FILES),
    "heldout_path": "Make a corpus with tools/build_corpus.py, or correct the path.",
    "load": "Set it to the folder that training saved to.",
    **dict.fromkeys(("vocab_file", "merge_file"), OWN_VOCABULARY),
}
"""What to do about a missing file, by the key that names it."""

NEW_VOCABULARY = "Copy the one that the token files were made with; for new token files tools/train_tokenizer.py makes one."


def remedy(key: str, script: str, config: NeoXConfig) -> str:
    """What to do about a file that a key names. Weights that there are have a vocabulary, of which no new one takes the place."""
    if key in ("vocab_file", "merge_file") and script == "train" and not config.training.finetune:
        return NEW_VOCABULARY
    return REMEDIES.get(key, "Correct the path.")


def lacking(config: NeoXConfig, script: str) -> list[str]:
    """Everything that is not here, in sentences that go after "not here: "."""
    training = (*gpu_for_fp16(config), *(list(hosts(config)) or gpus(config))) if script == "train" else ()
    return [*unset(config, script), *files(config, script), *packages(config), *missing_hostfile(config), *training]


def stopping(config: NeoXConfig, script: str) -> list[str]:
    """Data, files, packages and hosts without which the script ends."""
    if script != "train":
        return [*files(config, script), *packages(config)]
    optional = set(left_out(config))
    here = (*files(config, script, optional), *packages(config)) if has_ranks_here(config) else ()
    return [*unset(config, script), *here, *gpu_for_fp16(config), *hosts(config)]


def require_files(config: NeoXConfig, script: str) -> None:
    """Raise ConfigError with everything that the script needs and this machine lacks."""
    if missing := stopping(config, script):
        raise ConfigError("\n".join(f"not here: {sentence}" for sentence in missing))


def has_ranks_here(config: NeoXConfig) -> bool:
    """Whether this machine is one of the run's, which it is as far as nothing else is known."""
    if not config.parallelism.hostfile:
        return True
    try:
        return any(map(is_here, resources(config.parallelism)))
    except LaunchError:
        return True


def unset(config: NeoXConfig, script: str) -> list[str]:
    return [*config.missing_data(), *merges(config)] if script == "train" else []


def merges(config: NeoXConfig) -> Iterator[str]:
    data = config.data
    if data.tokenizer_type == "GPT2BPETokenizer" and data.vocab_file and not data.merge_file:
        yield "merge_file: it is not set, and GPT2BPETokenizer needs it beside vocab_file. Set it to the file of merges."


def left_out(config: NeoXConfig) -> Iterator[str]:
    """Yield the keys of validation and test files none of which exists: training goes on without them."""
    for key in ("valid_data_paths", "test_data_paths"):
        if not any(Path(f"{path}{ending}").exists() for path in config.values()[key] for ending in TOKENS):
            yield key


def files(config: NeoXConfig, script: str, skipped: Container[str] = ()) -> Iterator[str]:
    """Yield a sentence for each file that is missing; `skipped` keys are not looked at."""
    values = config.values()
    optional = set(left_out(config))
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
                advice = WITHOUT_PART if key in optional else remedy(key, script, config)
                yield f"{' and '.join(missing)} ({key}, {config.origins[key]}). {advice}"


PACKAGES = (
    ("use_wandb", True, "wandb", "pip install -e '.[wandb]', or leave the key out"),
    ("use_bnb_optimizer", True, "bitsandbytes", "pip install -e '.[bitsandbytes]', or leave the key out"),
)
"""Key, the value with which it needs an optional package, the package, and the remedy."""


def packages(config: NeoXConfig) -> Iterator[str]:
    values = config.values()
    for key, value, package, remedy in PACKAGES:
        if values[key] == value and importlib.util.find_spec(package) is None:
            yield f"the package {package}, which {config.said(key)} needs. Run {remedy}."


def missing_hostfile(config: NeoXConfig) -> Iterator[str]:
    if config.origins["hostfile"].endswith(MISSING):
        yield f"hostfile {config.origins['hostfile']}"


def hosts(config: NeoXConfig) -> Iterator[str]:
    """Hosts or devices that are not there."""
    try:
        resources(config.parallelism)
    except LaunchError as error:
        yield f"hosts to run on: {error}"


def gpu_for_fp16(config: NeoXConfig) -> Iterator[str]:
    if config.model.precision == "fp16" and not config.parallelism.hostfile and not visible_gpus():
        yield f"a GPU, without which {config.said('precision')} cannot be trained. On a CPU use --set precision=bfloat16."


def gpus(config: NeoXConfig) -> Iterator[str]:
    """GPUs of this machine, where it is the only one; `gpu_for_fp16` speaks of those that fp16 needs."""
    if config.parallelism.hostfile:
        return
    ranks, here = planned_world(config).ranks, len(visible_gpus())
    if here >= ranks:
        return
    if here:
        yield f"{ranks} GPUs, of which this machine has {here}. Run on a machine with more, or on several with a hostfile."
    elif config.model.precision != "fp16":
        yield f"{'a GPU' if ranks == 1 else f'{ranks} GPUs'}: a run here has {ranks} CPU process{'es' * (ranks > 1)}."
