"""Rows in the order of infilling prompts: the middle of a row is learned after its prefix and suffix.

    middles = build_row_middles(config, tokenizer, "train")      # None without infilling
    ids, targets, is_divided = middles.maybe_rearrange(ids, targets, seed)

The middle is the one that a row of `row_format: infilling` has, or is drawn in each epoch from source code (`fim_rate`). The parts
are joined as in pretraining (neox_code/data/fill_in_the_middle.py), and the end-of-document token follows the middle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neox_code.config.neox import NeoXConfig
from neox_code.data.fill_in_the_middle import DividedText, MiddleTransform, build_middle_transform, require_markers
from neox_code.errors import ConfigError
from neox_code.syntax.grammars import list_grammars, load_grammar
from neox_code.tokenizer.infilling import Order, order_parts
from neox_code.tokenizer.protocol import Tokenizer

NUM_MARKERS = 3
MOST_GROWTH = 6
"""Most tokens that cuts at borders of characters may add to a row; a row that would become longer is cut at borders of tokens."""


@dataclass(frozen=True)
class RowMiddles:
    """The rearrangement of the rows of a split. A caller's seed decides everything."""

    transform: MiddleTransform
    language: str | None
    """Language of the rows, whose syntax trees are read."""
    is_given: bool
    """True if the targets of a row are its middle; False if a middle is drawn."""
    learns_all: bool
    """True if prefix and suffix enter the loss too."""

    @property
    def most_added(self) -> int:
        """The most tokens that are added to a piece."""
        return NUM_MARKERS if self.is_given else NUM_MARKERS + MOST_GROWTH

    def maybe_rearrange(
        self, ids: NDArray[np.integer], targets: NDArray[np.bool_], seed: Sequence[int]
    ) -> tuple[Sequence[int] | NDArray[np.integer], Sequence[bool] | NDArray[np.bool_], bool]:
        """Return the ids of a piece, in the order of an infilling prompt as `rate` decides, True for each id that enters the loss,
        and True if the piece was rearranged."""
        generator = np.random.default_rng(seed)
        if generator.random() >= self.transform.rate:
            self.transform.counts["unchanged"] += 1
            return ids, targets, False
        if self.is_given:
            begin = int(targets.argmax())
            end = begin + int(targets.sum())
            order: Order = "spm" if generator.random() < self.transform.spm_rate else "psm"
            prompt = order_parts(self.transform.markers, ids[:begin].tolist(), ids[end:].tolist(), order)
            divided = DividedText(prompt, ids[begin:end].tolist(), order, "given")
        else:
            divided = self.transform.divide_ids(ids.tolist(), self.language, generator, MOST_GROWTH)
        self.transform.counts[f"{divided.order} {divided.cut}"] += 1
        learned = [self.learns_all] * len(divided.prompt) + [True] * len(divided.middle)
        return [*divided.prompt, *divided.middle], learned, True


def build_row_middles(config: NeoXConfig, tokenizer: Tokenizer, split: str) -> RowMiddles | None:
    """Return the rearrangement of a split; None if its rows stay as they are. Rows of source code are rearranged in training alone.

    Raise DataError if the vocabulary has no infilling tokens, ConfigError for keys that do not fit.
    """
    section, data = config.finetuning, config.data
    learns_all = not section.completion_only_loss
    if section.row_format == "infilling":
        if section.long_rows == "split":
            message = "excludes row_format infilling, whose rows have one middle. Set it to cut, drop or refuse."
            raise ConfigError(f"{config.format_key('long_rows')} {message}")
        require_markers(tokenizer, data, "row_format infilling")
        return RowMiddles(MiddleTransform(tokenizer, 1.0, data.fim_spm_rate, 0.0, cuts_tokens=True), None, True, learns_all)
    if not data.fim_rate:
        return None
    if section.row_format != "text":
        remedy = "Set row_format: text for source code, or infilling for rows of prefix, middle and suffix; or remove fim_rate."
        raise ConfigError(f"{config.format_key('fim_rate')} excludes {config.format_key('row_format')} in fine-tuning. {remedy}")
    if data.fim_syntax_rate:
        grammars = list_grammars()
        if section.row_language not in grammars:
            known = f"Set row_language to one of {', '.join(grammars)}."
            raise ConfigError(f"{config.format_key('fim_syntax_rate')} needs a grammar of the rows' language. {known}")
        load_grammar(grammars[section.row_language])
    transform = build_middle_transform(data, tokenizer)
    if transform is None or split != "train":
        return None
    return RowMiddles(transform, section.row_language, False, learns_all)
