"""One example job on disk, and its model, for all tests of this folder."""

from pathlib import Path

import pytest
from example_model import write_job

from neox_code.config.neox import NeoXConfig
from neox_code.generation.loading import LoadedModel, load_model


@pytest.fixture(scope="session")
def job_config(tmp_path_factory: pytest.TempPathFactory) -> NeoXConfig:
    """Return the configuration of a complete job."""
    return NeoXConfig.load([write_job(tmp_path_factory.mktemp("example"))], {"mask_padded_vocab": True})


@pytest.fixture(scope="session")
def model(job_config: NeoXConfig) -> LoadedModel:
    return load_model(job_config)


@pytest.fixture(scope="session")
def files(model: LoadedModel) -> list[list[int]]:
    """Return the tokens of files shorter than, as long as and longer than the context."""
    ids = model.tokenizer.encode((Path(__file__)).read_text())
    return [ids[:length] for length in (1, 5, 31, 32, 33, 48, 49, 7, 90)]
