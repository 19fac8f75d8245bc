"""The documents of a step, compared with the tokens that training read, over changes of ranks and batch sizes."""

import importlib
import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from distributed_runs import run_ranks
from real_code import real_texts
from small_corpus import write_corpus

from neox_code.config.neox import NeoXConfig
from neox_code.corpus.tokens.tokenize_shards import tokenize_corpus
from neox_code.data.megatron_datasets import build_datasets
from neox_code.errors import DataError
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.training import loop
from neox_code.training.pretrain import pretrain

TOOL = Path(__file__).parents[2] / "tools/which_documents.py"
BATCH, STEPS = 8, 2


def train_and_record(file: str, overrides: dict, folder: str) -> None:
    """Pretrain on this rank; write the tokens of each step [micro batch, row, token] to FOLDER/STEP-RANK.pt."""
    choose = loop.choose_step_functions

    def choose_recording(engine):
        step, evaluate = choose(engine)

        def record(engine, batches, grid):
            own = list(islice(batches, engine.gradient_accumulation_steps()))
            rows = [torch.cat([tokens, labels[:, -1:]], dim=1) for tokens, (labels, _) in own]
            torch.save(torch.stack(rows), Path(folder) / f"{len(list(Path(folder).glob(f'*-{grid.rank}.pt'))) + 1}-{grid.rank}.pt")
            return step(engine, iter(own), grid)

        return record, evaluate

    loop.choose_step_functions = choose_recording
    pretrain(NeoXConfig.load([file], overrides))


@pytest.fixture
def list_step(monkeypatch, capsys):
    """A function that returns the rows of `which_documents.py SAVE STEP --json`."""
    monkeypatch.syspath_prepend(TOOL.parent)
    main = importlib.import_module(TOOL.stem).main

    def run(save: Path, step: int) -> list[dict]:
        capsys.readouterr()
        assert main([str(save), str(step), "--json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


LEGS = [  # ranks, and the batch sizes of each leg of STEPS steps: each changes data ranks, micro batch or accumulation
    (2, {"train_micro_batch_size_per_gpu": 2}),
    (1, {"train_micro_batch_size_per_gpu": 2}),
    (1, {"train_micro_batch_size_per_gpu": 4}),
]


@pytest.mark.parametrize(
    "keys",
    [
        {"pack_impl": "best_fit", "language_weights": {"Python": 2, "C": 1}, "directory_alpha": 0.5},
        {"sample_order": "all_epochs", "train_data_weights": [1.0, 3.0]},
    ],
    ids=["rows of documents", "blend over all epochs"],
)
def test_a_step_names_its_documents_and_changed_sizes_go_on_with_the_next_sample(job, job_folder, tmp_path, list_step, keys):
    texts = real_texts(24)
    documents = write_corpus(tmp_path / "corpus", {"train": {"Python": texts[:14], "C": texts[14:]}})
    tokenizer = GPT2Tokenizer.from_files(job_folder / "code-vocab.json", job_folder / "code-merges.txt")
    tokenize_corpus(tmp_path / "corpus", tmp_path, tokenizer, by_language=["train"] if "train_data_weights" in keys else [])
    paths = sorted(str(path)[:-4] for path in tmp_path.glob("*.bin"))
    save, steps = tmp_path / "save", STEPS * len(LEGS)
    file = job(data_path=None, split=None, train_data_paths=paths, save=str(save), load=str(save), eval_iters=0, **keys)
    read = []  # of each step [rank, micro batch, row, token]
    for leg, (ranks, sizes) in enumerate(LEGS):
        folder = tmp_path / f"leg{leg}"
        folder.mkdir()
        overrides = {"train_batch_size": BATCH, "train_iters": steps, "exit_interval": STEPS, "pipe_parallel_size": 0, **sizes}
        run_ranks(ranks, train_and_record, str(file), overrides, str(folder))
        for step in range(1, STEPS + 1):
            read.append(torch.stack([torch.load(folder / f"{step}-{rank}.pt") for rank in range(ranks)]))
    data, seed = NeoXConfig.load([file], {}).data, NeoXConfig.load([file], {}).training.seed
    samples = build_datasets(data, read[0].shape[-1] - 1, (BATCH * steps, 0, 0), tokenizer, seed, None)[0]
    in_order = [row for step in read for micro in range(step.shape[1]) for rank in range(len(step)) for row in step[rank, micro]]
    for index, row in enumerate(in_order):
        assert row.tolist() == [*samples[index]["tokens"].tolist(), int(samples[index]["labels"][-1])]
    ids = {(entry.repository, entry.path): [*tokenizer.encode(entry.text), tokenizer.eod_id] for entry in documents}
    with pytest.raises(DataError, match=f"ends after step {steps}"):
        list_step(save, steps + 1)
    for step in (1, STEPS + 1, steps):
        rows = list_step(save, step)
        assert {row["row"] for row in rows} == set(range(BATCH))
        micro_batch_size = read[step - 1].shape[2]
        for row in rows:
            tokens = read[step - 1][row["data_rank"], row["micro_batch"], row["row"] % micro_batch_size].tolist()
            expected = ids[row["repository"], row["path"]][row["offset"] : row["offset"] + row["length"]]
            assert tokens[row["position"] : row["position"] + row["length"]] == expected
