"""Keys of fine-tuning a few parameters: low-rank adapters, frozen layers, rows of new tokens, and a base in 8 or 4 bits."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AdapterConfig:
    lora_rank: int = 0
    """Rank r of LoRA: each chosen linear layer W gets the trained product B A of two matrices, [outputs, r] and [r, inputs], and W
    itself is frozen. 0 trains the weights."""

    lora_alpha: float = 16.0
    """LoRA's product is multiplied by lora_alpha / lora_rank."""

    use_rslora: bool = False
    """True: LoRA's product is multiplied by lora_alpha / sqrt(lora_rank) instead (rsLoRA), which suits high ranks."""

    use_dora: bool = False
    """True: train the length of each row of the changed weight too (DoRA)."""

    lora_dropout: float = 0.0
    """Share of a layer's inputs that LoRA's product reads as 0 in training."""

    lora_target_modules: tuple[str, ...] = ("all-linear",)
    """Linear layers of the blocks that get LoRA: names of Hugging Face's model of this shape (query_key_value, dense; q_proj,
    gate_proj) or of ours (query_key_value, attention.dense, dense_h_to_4h, dense_4h_to_h); all-linear is all of them."""

    loraplus_lr_ratio: float = 1.0
    """Learning rate of LoRA's B divided by that of A; LoRA+ recommends 16."""

    neftune_noise_alpha: float = 0.0
    """NEFTune: uniform noise of at most this number / sqrt(tokens * hidden_size) is added to the embedding in training; 0 for
    none."""

    frozen_layers: tuple[int, ...] = ()
    """Numbers of the blocks, from 0, that are not trained. They get no LoRA."""

    frozen_modules: tuple[str, ...] = ()
    """Parts of names of parameters that are not trained, such as word_embeddings, mlp or 3.attention.dense."""

    trained_token_rows: tuple[int, ...] = ()
    """Ids of tokens whose rows of the embedding and of the head are trained; the weights without LoRA, and all other rows, keep
    their bits."""

    first_trained_token_row: int | None = None
    """The same for all ids of the vocabulary from this one on, such as tokens that were added to it."""

    base_bits: Literal[16, 8, 4] = 16
    """Bits of the frozen weights under LoRA: 8 rounds them to integers with a scale for each row; 4 is nf4 (QLoRA), on GPUs by
    the package bitsandbytes; 16 keeps them."""

    adapters: tuple[str, ...] = ()
    """Folders of adapters in PEFT's format, such as SAVE/adapter. `generate` and `evaluate` use one, with the model in `load`;
    `serve` serves each under the name of its folder (of its parent, if the folder is called adapter)."""

    @property
    def trains_rows(self) -> bool:
        """True if rows of single tokens are trained."""
        return bool(self.trained_token_rows) or self.first_trained_token_row is not None

    @property
    def keeps_base(self) -> bool:
        """True if training leaves the weights of the base unchanged, so that a checkpoint holds only what was added to it."""
        return self.lora_rank > 0 or self.trains_rows

    @property
    def is_random(self) -> bool:
        """True if training draws random numbers for these keys."""
        return self.neftune_noise_alpha > 0 or (self.lora_rank > 0 and self.lora_dropout > 0)
