"""Compute the memory (bytes) that a training run needs on one GPU, from the configuration, without building the model.

    layout = Layout.from_config(config, world_size=8)
    compute_memory_per_gpu(config, layout, padded_vocab_size).total / 2**30          # GiB on the fullest stage

weights      bytes of the precision, on the fullest pipeline stage, divided by tensor parallelism
gradients    4 bytes each; with DeepSpeed's engine as many bytes as the weights, unless micro batches are summed in fp32
optimizer    fp32 weights and moments: 12 bytes per parameter with Adam, none if ZeRO offloads them
             ZeRO divides the optimizer (stage 1), gradients (stage 2) and weights (stage 3) over the data-parallel ranks
             (Rajbhandari et al. 2020, "ZeRO", section 5)
activations  tensors saved for the backward pass: bytes of a block (Korthikanti et al. 2022, "Reducing Activation
             Recomputation", section 4.1, equations 1 and 2) x blocks of a stage x micro batches that a stage holds at once.
             These are at most stages - stage (1F1B; Narayanan et al. 2021, "Efficient Large-Scale Language Model
             Training", section 2.2; DeepSpeed's TrainSchedule.num_pipe_buffers)
buffers      DeepSpeed's buckets for the reduction of gradients, two if it overlaps with computation; none without DeepSpeed

Temporary tensors within operations and fragmentation are not counted. `LIBRARIES` is added for the libraries' own memory.
"""

from dataclasses import dataclass, fields

from neox_code.config.deepspeed import find_need_of_deepspeed, sums_gradients_in_fp32
from neox_code.config.deepspeed_settings import is_default
from neox_code.config.derive import compute_data_parallel_size
from neox_code.config.model import ModelConfig
from neox_code.config.model_size import (
    Parameters,
    compute_projection_width,
    count_block_parameters,
    count_embedding_parameters,
    count_head_parameters,
    count_norm_parameters,
)
from neox_code.config.neox import NeoXConfig
from neox_code.config.optimizer import OptimizerConfig, is_offloaded
from neox_code.errors import ConfigError

BYTES = {"fp32": 4, "fp16": 2, "bfloat16": 2}
"""Precision -> bytes of one weight or activation."""

MOMENTS = {"adam": 2, "adamw": 2, "cpu_adam": 2, "lion": 1, "sgd": 1, "muon": 1, "adafactor": 1}
"""Optimizer -> values it stores for each parameter, besides the fp32 weight."""

KEPT_WIDTHS = {"relu": 1, "bilinear": 3}
"""Activation -> values per token that the feed-forward layer saves for the backward pass, in multiples of its width.

All other activations save 2 (input and result of the activation), or 4 if they are gated.
"""

PLAIN_SCORE_BYTES = 13
"""Bytes of a score of attention with dropout, besides two values in 16 bits: an fp32 probability, its mask and its random bits."""

POSITIONS_AT_ONCE = 2048
"""Positions whose logits are in a GPU's memory together (`model.loss.count_rows_at_once`)."""

LIBRARIES = 2**30
"""Estimated bytes of the CUDA context and the workspaces of NCCL and cuBLAS."""


@dataclass(frozen=True)
class Layout:
    pipeline_size: int
    tensor_size: int
    data_size: int
    micro_batch_size: int
    accumulation_steps: int
    recompute: bool
    recompute_interval: int
    """Number of blocks from one saved activation to the next."""
    sequence_parallel: bool = False

    @classmethod
    def from_config(cls, config: NeoXConfig, world_size: int) -> "Layout":
        """Return the layout over `world_size` ranks. Raise ConfigError if ranks or batches cannot be divided evenly."""
        section = config.parallelism
        data_size = compute_data_parallel_size(world_size, section.pipe_parallel_size, section.model_parallel_size)
        batch = config.batch_sizes(data_size)
        return cls(
            pipeline_size=max(1, section.pipe_parallel_size),
            tensor_size=section.model_parallel_size,
            data_size=data_size,
            micro_batch_size=batch.micro_batch_size,
            accumulation_steps=batch.accumulation_steps,
            recompute=section.recomputes_blocks,
            recompute_interval=section.checkpoint_num_layers if section.pipe_parallel_size else 1,
            sequence_parallel=section.sequence_parallel,
        )


def require_memory(config: NeoXConfig, world_size: int, padded_vocab_size: int, available: int) -> None:
    """Raise ConfigError if weights and optimizer state alone need more than the `available` bytes of a rank."""
    memory = compute_memory_per_gpu(config, Layout.from_config(config, world_size), padded_vocab_size)
    if memory.weights + memory.optimizer > available and not config.optimizer.offloads_optimizer:
        keys = ", ".join(config.format_key(key) for key in ("num_layers", "hidden_size"))
        raise ConfigError(
            f"{keys}: weights and optimizer need {(memory.weights + memory.optimizer) / 2**30:,.0f} GiB on each rank, which has "
            f"{available / 2**30:,.0f} GiB. Use a smaller model, or more ranks: --dry-run --gpu-memory-gib proposes a layout."
        )


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    buffers: int
    libraries: int = LIBRARIES

    @property
    def total(self) -> int:
        return sum(getattr(self, part.name) for part in fields(self))


def compute_memory_per_gpu(config: NeoXConfig, layout: Layout, padded_vocab_size: int) -> Memory:
    """Return the memory on a GPU of the fullest pipeline stage."""
    stages = {0, layout.pipeline_size - 1}  # the first holds most micro batches, the last the head
    return max(
        (compute_stage_memory(config, layout, stage, padded_vocab_size) for stage in stages), key=lambda memory: memory.total
    )


def compute_stage_memory(config: NeoXConfig, layout: Layout, stage: int, padded_vocab_size: int) -> Memory:
    """Return the memory on a GPU of one pipeline stage."""
    model, optimizer = config.model, config.optimizer
    count = count_stage_parameters(model, layout, stage, padded_vocab_size).count_on_rank(layout.tensor_size)
    size = BYTES[model.precision]
    zero, is_plain = max(1, optimizer.zero_stage), not find_need_of_deepspeed(config)
    has_masters = not (is_plain and size == 4)  # the plain engine's fp32 weights are the optimizer's
    trained = 0 if config.adapter.keeps_base else count  # an adapter's few parameters are left out
    is_fp32_sum = is_plain or sums_gradients_in_fp32(config)
    return Memory(
        weights=divide_rounding_up(count * size, layout.data_size if zero >= 3 else 1),
        gradients=divide_rounding_up(trained * (4 if is_fp32_sum else size), layout.data_size if zero >= 2 else 1),
        optimizer=0
        if is_offloaded(optimizer.zero_optimization)
        else divide_rounding_up(trained * (compute_optimizer_bytes(optimizer) - (0 if has_masters else 4)), layout.data_size),
        activations=compute_stage_activations(model, layout, stage, padded_vocab_size),
        buffers=0 if is_plain or has_bf16_optimizer(config) else compute_bucket_bytes(optimizer, size),
    )


def divide_rounding_up(amount: int, ranks: int) -> int:
    """Return `amount / ranks`, rounded up: the largest part if an amount is divided over ranks."""
    return -(-amount // ranks)


def count_stage_blocks(model: ModelConfig, layout: Layout) -> int:
    """Return the number of transformer blocks on the fullest stage."""
    return divide_rounding_up(model.num_layers, layout.pipeline_size)


def count_stage_parameters(model: ModelConfig, layout: Layout, stage: int, padded_vocab_size: int) -> Parameters:
    """Return the number of parameters of one pipeline stage. The first and the last stage both hold a tied embedding."""
    is_first, is_last = stage == 0, stage == layout.pipeline_size - 1
    result = count_block_parameters(model) * count_stage_blocks(model, layout)
    if is_first or (is_last and not model.no_weight_tying):
        result += count_embedding_parameters(model, padded_vocab_size)
    if is_last:
        result += count_norm_parameters(model) + count_head_parameters(model, padded_vocab_size)
    return result


def compute_optimizer_bytes(optimizer: OptimizerConfig) -> int:
    moments = 0 if optimizer.optimizer_type == "sgd" and not optimizer.momentum else MOMENTS[optimizer.optimizer_type]
    return 4 + moments * (1 if optimizer.use_bnb_optimizer else 4) + (4 if optimizer.average_decay is not None else 0)


def has_bf16_optimizer(config: NeoXConfig) -> bool:
    """Return True if DeepSpeed uses its bf16 optimizer. It needs no buckets, because it reduces the fp32 gradient sums in place."""
    optimizer = config.optimizer
    is_bf16 = config.model.precision == "bfloat16" and sums_gradients_in_fp32(config)
    return is_bf16 and optimizer.zero_stage <= 1 and not optimizer.offloads_optimizer


def compute_bucket_bytes(optimizer: OptimizerConfig, size: int) -> int:
    settings = {name: value for name, value in optimizer.zero_optimization.items() if not is_default(value)}
    elements = int(settings.get("reduce_bucket_size", 500_000_000))
    return elements * size * (2 if settings.get("overlap_comm") else 1) if settings.get("contiguous_gradients", True) else 0


def compute_stage_activations(model: ModelConfig, layout: Layout, stage: int, padded_vocab_size: int) -> int:
    """Return the bytes of the tensors that a stage saves for its backward passes."""
    tokens = model.sample_length * layout.micro_batch_size
    size, blocks = BYTES[model.precision], count_stage_blocks(model, layout)
    parts = layout.tensor_size if layout.sequence_parallel else 1
    block = compute_block_activations(model, layout.tensor_size, parts) * tokens
    held = count_held_micro_batches(layout, stage)
    if layout.recompute:
        interval = min(layout.recompute_interval, blocks)
        kept = held * divide_rounding_up(blocks, interval) * model.hidden_size * size * tokens // parts + interval * block
    else:
        kept = held * blocks * block
    if model.pos_emb == "alibi":
        kept += divide_rounding_up(model.num_attention_heads, layout.tensor_size) * model.sample_length**2 * size
    if model.attention_dropout:  # of one block at a time, in plain operations
        scores = divide_rounding_up(model.num_attention_heads, layout.tensor_size) * model.sample_length * tokens
        kept += scores * (PLAIN_SCORE_BYTES + 2 * size)
    if stage == 0 and model.hidden_dropout:
        kept += held * model.hidden_size * tokens
    if stage == 0 and model.token_smear:
        kept += held * model.hidden_size * size * tokens
    kept += held * compute_passed_width(model, layout.tensor_size, parts) * size * tokens
    if stage == layout.pipeline_size - 1:
        kept += compute_head_activations(model, layout.tensor_size, padded_vocab_size, tokens)
    return kept


def compute_passed_width(model: ModelConfig, tensor_size: int, parts: int) -> int:
    """Return the values per token that all blocks of a stage receive besides the hidden state: see model.form.LayerState."""
    embedded = divide_rounding_up(model.hidden_size, parts) if model.embedding_skip else 0
    return embedded + (divide_rounding_up(model.kv_heads * model.head_dim, tensor_size) if model.value_residual else 0)


def count_held_micro_batches(layout: Layout, stage: int) -> int:
    """Return the maximum number of micro batches that a stage holds between their forward and backward passes."""
    return min(layout.pipeline_size - stage, layout.accumulation_steps)


def compute_block_activations(model: ModelConfig, tensor_size: int, parts: int = 1) -> int:
    """Return the bytes per token that one block saves for the backward pass: Korthikanti et al.'s 34 h. Scores are recomputed.

    Every tensor-parallel rank holds these tensors whole, or with `sequence_parallel` one of the `parts`: inputs and outputs of the
    norms, dropout masks (1 byte each), and with `embedding_skip` the input before it is mixed. A rank holds only its part of the
    others: the fused projection, a second copy of queries and keys (with rotary positions or qk_norm) and of values (with
    `value_residual`), the result of attention with one fp32 sum per head, and the inner tensors of the feed-forward layer.
    """
    size, hidden = BYTES[model.precision], model.hidden_size
    masks = 2 * hidden if model.hidden_dropout else 0
    inputs = (1 if model.gpt_j_residual else 2) + model.embedding_skip
    whole = (inputs + 2) * hidden * size + masks
    has_copies = model.pos_emb == "rotary" or model.qk_norm
    copies = (model.num_attention_heads + model.kv_heads) * model.head_dim if has_copies else 0
    copies += model.kv_heads * model.head_dim if model.value_residual else 0
    attention = (compute_projection_width(model) + copies + model.attention_width) * size + 4 * model.num_attention_heads
    feed_forward = KEPT_WIDTHS.get(model.activation, 4 if model.is_gated else 2) * model.feed_forward_size * size
    return divide_rounding_up(whole, parts) + divide_rounding_up(attention + feed_forward, tensor_size)


def compute_head_activations(model: ModelConfig, tensor_size: int, padded_vocab_size: int, tokens: int) -> int:
    """Return the bytes of the head and its loss: the last norm's input, output and its gradient, and in chunks of POSITIONS_AT_ONCE
    tokens the logits and their fp32 exponentials, with the fp32 gradient of the head's weight."""
    size, rows = BYTES[model.precision], divide_rounding_up(padded_vocab_size, tensor_size)
    chunk = min(tokens, POSITIONS_AT_ONCE) * rows * (size + 4)
    return 3 * model.hidden_size * size * tokens + chunk + 4 * rows * model.hidden_size
