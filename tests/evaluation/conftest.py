"""One job on disk for all tests of this folder, and its model."""

from pathlib import Path

import pytest
from judged_model import write_job

from neox_code.config.neox import NeoXConfig
from neox_code.generation.loading import LoadedModel, load_model


@pytest.fixture(scope="session")
def job_config(tmp_path_factory: pytest.TempPathFactory) -> NeoXConfig:
    """The configuration of a job that nothing is missing from."""
    return NeoXConfig.load([write_job(tmp_path_factory.mktemp("judged"))])


@pytest.fixture(scope="session")
def model(job_config: NeoXConfig) -> LoadedModel:
    return load_model(job_config)


@pytest.fixture(scope="session")
def files(model: LoadedModel) -> list[list[int]]:
    """Tokens of files of many lengths, about the context's and far above it."""
    ids = model.tokenizer.encode((Path(__file__)).read_text())
    return [ids[:length] for length in (1, 5, 31, 32, 33, 48, 49, 7, 90)]
