"""Tables of keys from GPT-NeoX's older files and branches, and of other programs' names for our keys.

A key in RENAMED or SWITCHED is read as the current key. A key in REFUSED is refused with a reason or a replacement. A word in
OTHER_WORDS is unknown, and the message suggests our key ("did you mean"). `legacy_keys` makes rules from these tables.
"""

from typing import Any

RENAMED = {
    "batch_size": "train_micro_batch_size_per_gpu",
    "clip_grad": "gradient_clipping",
    "gas": "gradient_accumulation_steps",
    "genfile": "sample_output_file",
    "gptj_residual": "gpt_j_residual",
    "llama_mlp_multiple_of": "mlp_multiple_of",
    "max_tokens": "maximum_tokens",
    "micro_batch_size_per_gpu": "train_micro_batch_size_per_gpu",
    "save_interval": "checkpoint_factor",
    "exit_duration_in_mins": "exit_duration",
    "test_data_path": "test_data_paths",
    "topk": "top_k",
    "train_data_path": "train_data_paths",
    "valid_data_path": "valid_data_paths",
    "wandb_name": "wandb_run_name",
    "wandb_run": "wandb_run_name",
}
"""Former key -> current field of the same meaning."""

SWITCHED: dict[str, tuple[str, Any]] = {
    "cpu_optimizer": ("optimizer_type", "cpu_adam"),
    "cpu_torch_adam": ("optimizer_type", "cpu_adam"),
    "deepspeed_mpi": ("launcher", "openmpi"),
    "deepspeed_slurm": ("launcher", "slurm"),
    "geglu": ("activation", "geglu"),
    "half_precision": ("precision", "fp16"),
    "openai_gelu": ("bias_gelu_fusion", True),
    "rms_norm": ("norm", "rmsnorm"),
}
"""Former switch -> the field and the value that `true` sets; `false` sets nothing."""

DISTILLATION = "distillation is not built. Remove it"
ENDLESS_SCHEDULE = "schedules without an end are not built. Use lr_decay_style, lr_decay_iters and min_lr"
ENCODERS = "only decoders trained on the next token are built. Remove it"
REPLAY = "replay is not built. Name the earlier token files in train_data_paths, and set train_data_weights"
TENSOR_PARALLEL = "tensor parallelism has one size. Use model_parallel_size"
UNLEARNING = "gradient ascent is not built. Remove it"

REFUSED = {
    **dict.fromkeys(("adam_beta1", "adam_beta2"), "both moments' rates stand in one list. Set optimizer.params.betas"),
    "adam_eps": "it is a parameter of the optimizer. Set optimizer.params.eps",
    "adapter_config": "its keys stand at the top level. Set lora_rank, lora_alpha and lora_target_modules",
    "apply_residual_connection_post_layernorm": "BERT's order of residual and norm is not built. Remove it",
    "attention_type": "the number of heads of keys and values decides. Set num_kv_heads",
    "batch_scheduling": "the batch has one size. Use train_batch_size",
    "constant_lr": ENDLESS_SCHEDULE,
    **dict.fromkeys(("constant_iters_perc", "constant_iters_percent"), ENDLESS_SCHEDULE),
    **dict.fromkeys(("cooldown_iters_perc", "cooldown_iters_percent", "timescale", "num_repeats"), ENDLESS_SCHEDULE),
    "context_parallel_size": "a sequence is not divided over ranks. Remove it",
    "decay_lr_to": "the least learning rate is a number, not a share. Set min_lr",
    "deepspeed_jsrun": "jsrun does not start ranks. Use launcher: openmpi, or start each rank by jsrun python -m "
    "neox_code.commands.train",
    "deepspeed_mosaic": "MosaicML's launcher is not built. Use torchrun -m neox_code.commands.train",
    "do_distillation": DISTILLATION,
    "greedy": "temperature 0, which is the default, takes the most probable token. Remove it",
    **dict.fromkeys(("ga_dataset", "ga_interval", "ga_iters", "gradient_ascent_loss_scale"), UNLEARNING),
    **dict.fromkeys(("inner_model_parallel_size", "outer_model_parallel_size"), TENSOR_PARALLEL),
    **dict.fromkeys(("row_model_parallel_size", "column_model_parallel_size", "depth_model_parallel_size"), TENSOR_PARALLEL),
    "model_arch": ENCODERS,
    "no_adamw": "weight decay is decoupled, as AdamW's. Remove it",
    "normformer": "NormFormer's norms are not built. Remove it",
    "onebitadam": "OneBitAdam is not built. Set optimizer.type to adam, and remove it",
    "out_seq_length": "the length is counted without the prompt. Use maximum_tokens",
    **dict.fromkeys(("is_replay_enabled", "replay_config"), REPLAY),
    "rpe": "T5's relative positions are not built. Use pos_emb: alibi, which also adds to attention's scores, or rotary",
    "save_iters": "steps with a checkpoint are worked out. Use checkpoint_factor and extra_save_iters",
    "sequence_parallel_size": TENSOR_PARALLEL,
    "sm3": "SM3 is not built. Set optimizer.type to adam, and remove it",
    "soft_prompt_config": "soft prompts are not built. Remove it",
    **dict.fromkeys(("train_mlm", "train_mtf", "training_objective", "num_encoder_layers"), ENCODERS),
    **dict.fromkeys(("use_axonn_model_parallelism",), TENSOR_PARALLEL),
    **dict.fromkeys(("use_sparse_ffn", "use_topk_ffn"), "sparse feed-forward layers are not built. Remove it"),
    **dict.fromkeys(("warmup_iter", "warmup_iters"), "warm-up is a share of lr_decay_iters. Set warmup, such as 0.01"),
    "warup_eval_interval": "validations come at equal distances. Use eval_interval",
}
"""Former key -> reason of its refusal, and its replacement. In a message this text follows "cannot be used:"."""

HARMLESS: dict[str, tuple[Any, ...]] = {
    "context_parallel_size": (1,),
    "model_arch": ("gpt2",),
    "sequence_parallel_size": (1,),
    "training_objective": ("lm",),
    **dict.fromkeys(("inner_model_parallel_size", "outer_model_parallel_size"), (1,)),
    **dict.fromkeys(("row_model_parallel_size", "column_model_parallel_size", "depth_model_parallel_size"), (1,)),
}
"""Refused former key -> values that request no feature and are ignored, besides null and false."""

OTHER_WORDS = {
    word: ours
    for ours, words in {
        "activation": "activation_function hidden_act swiglu",
        "base_bits": "load_in_4bit",
        "checkpoint_activations": "gradient_checkpointing recompute_activations",
        "checkpoint_factor": "checkpoint_interval checkpoint_every save_every save_steps",
        "eval_interval": "eval_every eval_steps validate_every",
        "gpt_j_residual": "parallel_residual use_parallel_residual",
        "gradient_clipping": "grad_clip gradient_clip_val max_grad_norm",
        "hidden_size": "d_model dim hidden_dim model_dim n_embd",
        "intermediate_size": "ffn_hidden_size feedforward_size n_inner",
        "keep_last_n_checkpoints": "save_total_limit",
        "kv_channels": "d_head head_dim",
        "layernorm_epsilon": "layer_norm_epsilon layer_norm_eps norm_epsilon",
        "load": "load_dir resume_from_checkpoint",
        "log_interval": "log_every logging_steps",
        "lora_rank": "lora_r",
        "lora_target_modules": "target_modules",
        "lr_decay_style": "lr_scheduler_type",
        "make_vocab_size_divisible_by": "pad_vocab_size_multiple_of",
        "max_position_embeddings": "context_length n_ctx n_positions",
        "maximum_tokens": "generate_length max_new_tokens n_predict",
        "merge_file": "merges_file",
        "model_parallel_size": "mp_size tensor_model_parallel_size tensor_parallel_size tp_size",
        "no_weight_tying": "tie_word_embeddings untie_embeddings_and_output_weights",
        "norm": "normalization",
        "num_attention_heads": "n_head n_heads num_heads",
        "num_epochs": "epochs num_train_epochs",
        "num_kv_heads": "n_kv_heads num_key_value_heads num_query_groups",
        "num_layers": "depth n_layer n_layers num_hidden_layers",
        "optimizer.params.eps": "adam_epsilon epsilon",
        "optimizer.params.lr": "learning_rate max_lr",
        "optimizer.type": "optim",
        "pipe_parallel_size": "pipeline_model_parallel_size pipeline_parallel_size pp_size",
        "pos_emb": "position_embedding_type",
        "precision": "dtype torch_dtype mixed_precision",
        "qk_norm": "qk_layernorm use_qk_norm",
        "rms_norm_epsilon": "rms_norm_eps",
        "rotary_emb_base": "rope_theta rotary_base",
        "rotary_pct": "partial_rotary_factor rotary_percent",
        "save": "checkpoint_dir out_dir output_dir save_dir",
        "seq_length": "block_size encoder_seq_length max_length max_seq_len max_seq_length seq_len sequence_length",
        "temperature": "do_sample",
        "tokenizer_type": "tokenizer",
        "train_batch_size": "global_batch_size",
        "train_data_paths": "dataset train_data train_dataset",
        "train_iters": "max_steps num_steps train_steps",
        "trained_token_rows": "trainable_token_indices",
        "train_micro_batch_size_per_gpu": "micro_batch_size per_device_train_batch_size",
        "use_dora": "peft_use_dora",
        "use_rslora": "peft_use_rslora",
        "vocab_file": "tokenizer_file tokenizer_model tokenizer_path vocab_size",
        "warmup": "lr_warmup_fraction lr_warmup_iters warmup_ratio warmup_steps",
    }.items()
    for word in words.split()
}
"""A key of Megatron-LM, Hugging Face, nanoGPT or the first GPT-NeoX -> our key, which was probably meant."""
