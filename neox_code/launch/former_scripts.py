"""The replacements of GPT-NeoX's scripts, for users who pass the name of such a script to ./deepy.py.

find_replacement("tools/datasets/preprocess_data.py", tools)        # "Run: python tools/preprocess_data.py"
"""

from pathlib import Path

ALIASES = {"eval": "evaluate", "text_gen_gpt2": "generate", "pretrain_gpt2": "train"}
"""Former name of a command -> its current name. Both names are accepted. Code-LMs' instructions (2021) use text_gen_gpt2.py."""

TOKENS = "Run: python tools/preprocess_data.py"
EXPORT = "GPT-NeoX's own convert_neox_to_hf.py reads the checkpoints of one tensor-parallel rank as they are"

REPLACEMENTS = {
    "corpora": "Data sets are not downloaded by name: tools/build_corpus.py and tools/preprocess_data.py read local files",
    "prepare_data": "Run: python tools/build_corpus.py for source code, or python tools/preprocess_data.py for a data set of rows; "
    "no data set is downloaded by name",
    "preprocess_data": TOKENS,
    "preprocess_data_with_mask": f"Masks of the loss are not built. {TOKENS}",
    "preprocess_data_with_chat_template": f"Chat templates are not built. {TOKENS}",
    "merge_datasets": "Run: python tools/merge_datasets.py",
    "train_tokenizer": "Run: python tools/train_tokenizer.py",
    "dataset_token_count": "tools/preprocess_data.py prints the number of tokens, and PREFIX_tokens.json holds it",
    "multinode_prepare_data": "Run: python tools/build_corpus.py --executor slurm",
    "gen_docs": "Run: python tools/describe_config.py",
    "convert_neox_to_hf": EXPORT,
    "convert_module_to_hf": EXPORT,
    "convert_sequential_to_hf": EXPORT,
    "human_eval": "Run: ./deepy.py evaluate CONFIG... --tasks humaneval",
    "gh_crawler": "Run: python tools/crawl_github.py",
    "collect_data": "Run: python tools/crawl_github.py, then python tools/build_corpus.py",
    "extract_code": "Run: python tools/build_corpus.py --recipe polycoder",
    "deduplicate": "Run: python tools/build_corpus.py, which leaves duplicates out",
    "kill": "Ctrl-C, or SIGTERM to the launcher, ends all ranks of a run",
    "killall": "Ctrl-C, or SIGTERM to the launcher, ends all ranks of a run",
}
"""Name of a script of GPT-NeoX or Code-LMs, without suffix -> a remedy, without a full stop."""


def find_replacement(script: str, tools: Path) -> str | None:
    """Return the replacement of a script of GPT-NeoX or Code-LMs; None if the script is unknown.

    `tools` is the folder with the scripts of this project.
    """
    stem = Path(script).stem
    if stem in REPLACEMENTS:
        return REPLACEMENTS[stem]
    return f"Run: python tools/{stem}.py" if (tools / f"{stem}.py").is_file() else None
