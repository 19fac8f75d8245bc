"""How long, how often, where from and where to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingConfig:
    train_iters: int | None = None
    """Optimizer steps in all. Needed for training."""

    train_seconds: float | None = None
    """Seconds of training in all, restarts included. Training ends after `train_iters` steps or this time, whichever comes first,
    and the learning rate follows whichever is nearer to its end."""

    @property
    def num_steps(self) -> int:
        """`train_iters`, which is set in every training (NeoXConfig.require_training)."""
        assert self.train_iters is not None
        return self.train_iters

    train_batch_size: int | None = None
    """Samples a step over all ranks: micro batch * accumulation steps * data-parallel ranks. Derived where missing."""

    train_micro_batch_size_per_gpu: int | None = None
    """Samples a rank processes at once. Derived where missing."""

    gradient_accumulation_steps: int | None = None
    """Micro batches a step. Derived where missing."""

    seed: int = 1234
    """Seed of initialization, sample order, dropout and sampling."""

    log_interval: int = 100
    """Steps between two log lines."""

    eval_interval: int = 1000
    """Steps between two validations."""

    eval_iters: int = 100
    """Batches in a validation; 0 for none."""

    save: str | None = None
    """Folder where checkpoints go. One run at a time uses it; a run resumes from the newest checkpoint of its own in it."""

    load: str | None = None
    """Folder that the first start loads a checkpoint from; without it, or where it is `save` and empty, training starts from
    scratch."""

    iteration: int | None = None
    """Load `global_stepN` of `load` instead of the latest. Training that would replace later ones in `save` is refused."""

    checkpoint_factor: int | None = None
    """Steps between two checkpoints (`save-interval` in old files)."""

    checkpoint_interval_seconds: float | None = None
    """Time between two checkpoints."""

    extra_save_iters: tuple[int, ...] = ()
    """Further steps after which a checkpoint is written; 0 for the weights that training begins with."""

    keep_last_n_checkpoints: int | None = None
    """Older checkpoints are deleted; default: all are kept."""

    finetune: bool = False
    """The first start loads the weights of `load` alone and begins at step 0. Restarted, it resumes from its own `save`."""

    no_load_optim: bool = False
    """The first start leaves the checkpoint's optimizer state, as where the optimizer or the number of ranks has changed."""

    max_skipped_steps: int | None = None
    """Steps in a row whose loss or gradient is not finite, so that they change no weight, after which training ends; default 5, in
    fp16 50. One such step is logged and counted."""

    exit_interval: int | None = None
    """End after a step that is a multiple of this, with a checkpoint."""

    tensorboard_dir: str | None = None
    """Folder for TensorBoard's event files; each run has a folder of its own in it, which a resumed run keeps."""

    metrics_file: str | None = None
    """JSON Lines file with one row per log line; default `metrics.jsonl` in `save`. Several runs may share it: rows name theirs."""

    log_dir: str | None = None
    """Folder for a copy of each rank's log lines, RUN/HOST_rankN.log."""

    use_wandb: bool = False
    """Report to Weights & Biases (package wandb; key from WANDB_API_KEY)."""

    wandb_project: str = "neox"
    """Weights & Biases project."""

    wandb_group: str | None = None
    """Weights & Biases group."""

    wandb_run_name: str | None = None
    """Weights & Biases run name."""

    wandb_team: str | None = None
    """Weights & Biases team."""

    peak_theoretical_tflops: float | None = None
    """Peak of one device in TFLOP/s, for the model FLOPs utilization in the log; default: known for some GPUs."""
