"""Print rows as the model reads them: tokens that do not enter the loss are grey (`finetune --show`)."""

from rich.console import Console
from rich.text import Text

from neox_code.config.neox import NeoXConfig
from neox_code.finetuning.row_loaders import read_row_data
from neox_code.finetuning.templates import list_special_ids
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import build_tokenizer

MASKED, LEARNED, SPECIAL = "bright_black", "bold", "cyan"


def show_rows(config: NeoXConfig, count: int, console: Console | None = None) -> None:
    """Print the first `count` samples of training."""
    tokenizer = build_tokenizer(config.data)
    data = read_row_data(config, tokenizer)
    samples = data.make_samples(config, tokenizer.eod_id)
    console = console or Console(soft_wrap=True, highlight=False)
    special = set(list_special_ids(tokenizer))
    for index in range(min(count, len(samples))):
        sample = samples[index]
        places = ", ".join(f"{part.prefix} row {part.document:,}" for part in samples.list_parts(index))
        learned = int(sample["loss_mask"].sum())
        console.rule(f"sample {index}: {places}: {len(sample['tokens']):,} tokens, {learned:,} in the loss")
        ids = [*sample["tokens"].tolist(), int(sample["labels"][-1])]
        console.print(format_tokens(ids, [False, *(sample["loss_mask"] > 0).tolist()], special, tokenizer))


def format_tokens(ids: list[int], is_learned: list[bool], special: set[int], tokenizer: Tokenizer) -> Text:
    """Return the text of the ids with colors. Ids of one color are decoded together, so that characters stay whole."""
    text, begin = Text(), 0
    kinds = [(flag, token in special) for token, flag in zip(ids, is_learned, strict=True)]
    for end in range(1, len(ids) + 1):
        if end == len(ids) or kinds[end] != kinds[begin]:
            flag, is_special = kinds[begin]
            style = LEARNED if flag else MASKED
            text.append(tokenizer.decode(ids[begin:end]), f"{style} {SPECIAL}" if is_special and flag else style)
            begin = end
    return text
