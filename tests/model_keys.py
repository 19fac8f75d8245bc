"""Keys of models that several tests compare over layouts."""

LLAMA = {
    "norm": "rmsnorm",
    "num_kv_heads": 2,
    "activation": "swiglu",
    "mlp_multiple_of": 16,
    "use_bias_in_attn_linear": False,
    "use_bias_in_mlp": False,
    "init_method": "xavier_normal",
}
DOCUMENTS = {"reset_position_ids": True, "reset_attention_mask": True}
