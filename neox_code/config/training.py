"""Keys of the length of a run, its intervals, checkpoints and metrics."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingConfig:
    size: str | None = None
    """Parameters of the model, vocabulary included, such as 160M or 2.7B. Depth, width, heads, batch, learning rate and length of
    the run follow from it, each unless a key sets it; a dry run lists them with rule and source (`config/sizes.py`)."""

    budget_flops: float | None = None
    """FLOPs of the run's forward and backward passes, such as 1e19. With `size` they set the length of the run; alone they set the
    size too, by 20 tokens a parameter."""

    budget_hours: float | None = None
    """The same in hours of all devices of this run, each at `device_tflops`."""

    device_tflops: float | None = None
    """Speed of one device for `budget_hours`, in TFLOP/s: tokens per second of a log line times FLOPs per token of the dry run.
    Default: 40% of `peak_theoretical_tflops` or of a known GPU's peak; without a GPU 0.1 a CPU core, 0.03 without bf16."""

    train_iters: int | None = None
    """Total number of optimizer steps. Needed for training."""

    train_seconds: float | None = None
    """Maximum seconds of training, over all restarts. Training ends after `train_iters` steps or this time, whichever comes first.
    The learning rate decays with the limit (steps or time) of which the greater share is used up."""

    @property
    def num_steps(self) -> int:
        """Total number of optimizer steps, `train_iters`. Call `NeoXConfig.require_training_keys` first: it checks the value."""
        assert self.train_iters is not None
        return self.train_iters

    train_batch_size: int | None = None
    """Samples per step over all ranks: micro batch * accumulation steps * data-parallel ranks. Derived if not set."""

    train_micro_batch_size_per_gpu: int | None = None
    """Samples that a rank processes at once. Derived if not set."""

    gradient_accumulation_steps: int | None = None
    """Micro batches per step and data-parallel rank. Derived if not set."""

    rampup_batch_size: tuple[int, int, int] | None = None
    """Warm-up of the batch size, as in Megatron-LM: the first size, the increment and the number of samples of the warm-up. Sizes
    from the first to `train_batch_size` have equal shares of these samples. The schedule counts steps, of which `train_iters` has
    more small ones then. Not with ZeRO stage 2 or 3."""

    seed: int = 1234
    """Seed of initialization, sample order, dropout and sampling."""

    log_interval: int = 100
    """Steps between two log lines."""

    gc_interval: int = 100
    """Steps between two runs of Python's garbage collector, which all ranks then make together; 0 leaves them to Python."""

    eval_interval: int = 1000
    """Steps between two validations."""

    eval_iters: int = 100
    """Batches in a validation; 0 for none."""

    save: str | None = None
    """Folder for the run's checkpoints. One run at a time uses it; a restarted run resumes from its newest checkpoint in it."""

    load: str | None = None
    """Folder from which the first start loads a checkpoint. If it is not set, or is `save` and empty, training starts from
    scratch."""

    iteration: int | None = None
    """Load `global_stepN` of `load` instead of the latest. Training is refused if it would replace later checkpoints in `save`."""

    checkpoint_factor: int | None = None
    """Steps between two checkpoints (`save-interval` in old files). Checkpoints are written while training continues."""

    checkpoint_scale: Literal["linear", "log"] = "linear"
    """`log`: a checkpoint is written after each step whose number is a power of `checkpoint_factor`."""

    checkpoint_interval_seconds: float | None = None
    """Seconds between two checkpoints."""

    extra_save_iters: tuple[int, ...] = ()
    """Additional step numbers after which a checkpoint is written; 0 writes the initial weights."""

    keep_last_n_checkpoints: int | None = None
    """Number of newest checkpoints to keep; older ones are deleted. Default: all are kept."""

    keep_best_checkpoint: bool = False
    """True: a checkpoint is written after each validation with the lowest loss so far. The last of them is never deleted, and the
    link `best` in `save` leads to it: `./deepy.py generate SAVE/best`."""

    early_stop_evaluations: int | None = None
    """Number of consecutive validations without a lower loss after which training ends. Default: no limit."""

    max_unsaved_steps: int | None = None
    """While saves fail (a full disk), training continues with a warning until this number of steps would be lost. Then it tries
    a last time to save, and ends if this fails too. Default: three times the unsaved steps at the first failure."""

    save_huggingface: bool = False
    """Write each checkpoint as a model of Hugging Face too, in `save`/global_stepN/huggingface, for transformers and vLLM. Training
    continues meanwhile, also after a failure, which is logged. Not available with ZeRO stage 3."""

    finetune: bool = False
    """True: the first start loads only the weights of `load` and begins at step 0. A restart resumes from `save`."""

    no_load_optim: bool = False
    """True: the first start does not load the optimizer's state; needed after a change of the optimizer."""

    max_skipped_steps: int | None = None
    """Number of consecutive steps with a non-finite loss or gradient after which training ends; default 5, in fp16 50. Such a step
    changes no weight; it is logged and counted."""

    max_spike_steps: int | None = None
    """Number of consecutive steps in a loss spike after which training ends. A loss is in a spike if it exceeds the median of the
    last 64 losses by 10% and by 6 standard deviations. Default: no limit; spikes are logged and counted."""

    max_rewinds: int = 0
    """Number of times that training may return to its newest checkpoint in place of ending by `max_skipped_steps` or
    `max_spike_steps`. The samples that were read meanwhile are skipped."""

    exit_interval: int | None = None
    """Save and end the run after the next step whose number is a multiple of this value. The exit status is 75, as after a signal:
    the same command resumes."""

    exit_duration: float | None = None
    """Minutes after the start of the ranks at which the run finishes its step, saves and ends with exit status 75
    (`exit_duration_in_mins` of Megatron-LM). Set it below the time limit of a job."""

    profile: bool = False
    """Write a trace of some steps of each rank for chrome://tracing and Perfetto: `save`/profile/rankN.json.gz
    (without `save` in `tensorboard_dir`)."""

    profile_step_start: int = 10
    """First step of the trace."""

    profile_step_stop: int = 12
    """Last step of the trace."""

    tensorboard_dir: str | None = None
    """Folder for TensorBoard's event files. Each run has its own folder in it, and keeps it when it resumes."""

    metrics_file: str | None = None
    """JSON Lines file with one row per log line; default `metrics.jsonl` in `save`. Several runs may share it: each row contains
    the name of its run."""

    log_dir: str | None = None
    """Folder for a copy of each rank's log lines, RUN/HOST_rankN.log."""

    use_wandb: bool = False
    """Report to Weights & Biases (package wandb; key from WANDB_API_KEY)."""

    wandb_project: str = "neox"
    """Name of the Weights & Biases project."""

    wandb_group: str | None = None
    """Name of the Weights & Biases group of runs."""

    wandb_run_name: str | None = None
    """Name of the run at Weights & Biases."""

    wandb_team: str | None = None
    """Name of the Weights & Biases team."""

    use_trackio: bool = False
    """Report to trackio, in a database on this machine (package trackio; TRACKIO_DIR names its folder)."""

    trackio_project: str = "neox"
    """Name of the project at trackio."""

    peak_theoretical_tflops: float | None = None
    """Peak of one device in TFLOP/s, for the model FLOPs utilization in the log; default: known for some GPUs."""
