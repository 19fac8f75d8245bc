"""A random model without a tokenizer, whose tokens are compared, and a scripted one with a tokenizer, whose text is known."""

from pathlib import Path

import pytest
import torch
from model.conftest import as_transformers, build_gpt, model_config  # noqa: F401
from scripted_checkpoint import KEYS, scripted_gpt, write_vocabulary

from neox_code.config.model import ModelConfig
from neox_code.generation.loading import LoadedModel


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """The model of scripted_checkpoint, in memory."""
    tokenizer = write_vocabulary(tmp_path_factory.mktemp("vocabulary"))
    return LoadedModel(
        scripted_gpt(tokenizer), tokenizer, ModelConfig(**KEYS), torch.device("cpu"), torch.float32, Path("global_step1")
    )
