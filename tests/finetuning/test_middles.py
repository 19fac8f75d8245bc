"""Rows for infilling, against their texts: order, bytes, mask, samples, long rows and mistakes."""

from pathlib import Path

import pytest
from finetuning_job import write_finetuning, write_rows
from infilling_vocabularies import BUILDERS, merged

from neox_code.config.neox import NeoXConfig
from neox_code.data.index_cache import IndexCache
from neox_code.errors import ConfigError, DataError
from neox_code.finetuning.row_loaders import RowData, make_row_data
from neox_code.tokenizer.char_level import CharLevelTokenizer

PARTS = [
    {"prefix": f"def f{number}(x):\n    ", "middle": f"print(x + {number}) # é", "suffix": "\n\n" * (number % 3)}
    for number in range(12)
]
TEXTS = [{"text": f"def f{number}(x):\n    print({number}, 'é')\n" + "    x += 1\n" * (number % 9)} for number in range(60)]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finetuning(tmp_path_factory.mktemp("job"), row_template=[], completion_column="completion")


def read_data(job: Path, path: Path, rows: list, tokenizer, **keys) -> tuple[RowData, NeoXConfig]:
    config = NeoXConfig.load([str(job)], {"train_rows": write_rows(path, rows), **keys}).for_finetuning()
    return make_row_data(config, tokenizer, IndexCache(None)), config


def join(tokenizer, ids) -> str:
    """Return the bytes of the ids, each as a character."""
    bytes_of_id = tokenizer.read_token_bytes()
    return b"".join(bytes_of_id[token] for token in ids).decode("latin-1")


def read_bytes(text: str) -> str:
    return text.encode().decode("latin-1")


def list_rows(samples, tokenizer) -> list[tuple[list[int], list[int]]]:
    """Return the ids of each row, without end-of-document tokens, and those of them and of the end that enter the loss."""
    found = []
    for index in range(len(samples)):
        sample = samples[index]
        ids, begin = [*sample["tokens"].tolist(), int(sample["labels"][-1])], 1
        mask = [0.0, *sample["loss_mask"].tolist()]
        for part in samples.list_parts(index):
            assert part.place == begin and ids[begin - 1] == tokenizer.eod_id
            end = begin + part.length
            learned = [token for token, flag in zip(ids[begin : end + 1], mask[begin : end + 1], strict=True) if flag]
            found.append((ids[begin:end], learned))
            begin = end + 1
        assert not any(mask[begin:]) and len(ids) <= samples.sample_length + 1
    return found


def divide(tokenizer, ids: list[int]) -> tuple[str, str, str, str] | None:
    """Return prefix and suffix, the text after both and the order, by the markers alone; None without markers."""
    before, after, middle = (tokenizer.infilling_ids[f"fim_{part}"] for part in ("prefix", "suffix", "middle"))
    if before not in ids:
        return None
    first, second = ids.index(after), ids.index(middle)
    assert ids[0] == before and first < second
    return *(
        join(tokenizer, part) for part in (ids[1:first], ids[first + 1 : second], ids[second + 1 :])
    ), "spm" if first == 1 else "psm"


@pytest.mark.parametrize("name", ["merged", "code llama"])
@pytest.mark.parametrize("pack", [True, False])
def test_the_middle_of_a_row_and_the_end_after_it_are_learned(job, tmp_path, name, pack):
    tokenizer = merged() if name == "merged" else BUILDERS[name]()
    data, config = read_data(job, tmp_path / "a.jsonl", PARTS, tokenizer, row_format="infilling", pack_rows=pack)
    samples = data.make_samples(config, tokenizer.eod_id)
    assert len(samples) < 12 if pack else len(samples) == 12
    found, orders = set(), set()
    for ids, learned in list_rows(samples, tokenizer):
        prefix, suffix, middle, order = divide(tokenizer, ids)
        if order == "spm":
            prefix, middle = (middle[: middle.index("print")], middle[middle.index("print") :])
        found.add((prefix.removeprefix(" "), middle, suffix))
        orders.add(order)
        assert learned[-1] == tokenizer.eod_id and join(tokenizer, learned[:-1]) == middle
    assert found == {tuple(map(read_bytes, row.values())) for row in PARTS} and orders == {"psm", "spm"}
    data, config = read_data(job, tmp_path / "a.jsonl", PARTS, tokenizer, row_format="infilling", completion_only_loss=False)
    for ids, learned in list_rows(data.make_samples(config, tokenizer.eod_id), tokenizer):
        assert learned == [*ids, tokenizer.eod_id]


@pytest.mark.parametrize("keys", [{}, {"fim_cut": "token"}, {"fim_syntax_rate": 1.0, "row_language": "Python"}])
def test_source_code_gets_other_middles_in_each_epoch_and_keeps_its_bytes(job, tmp_path, keys):
    tokenizer = merged()
    given = {"row_format": "text", "fim_rate": 0.5, "seq_length": 64, "long_rows": "split", **keys}
    data, config = read_data(job, tmp_path / "a.jsonl", TEXTS, tokenizer, **given)
    epochs = []
    for epoch in range(2):
        samples = data.make_samples(config, tokenizer.eod_id, epoch)
        pieces, middles = [], 0
        for ids, learned in list_rows(samples, tokenizer):
            divided = divide(tokenizer, ids)
            if divided is None:
                assert learned in (ids, [*ids, tokenizer.eod_id])
                pieces.append(join(tokenizer, ids))
                continue
            prefix, suffix, rest, order = divided
            middle = join(tokenizer, learned[:-1])
            assert learned[-1] == tokenizer.eod_id and rest.endswith(middle) and (order == "spm" or rest == middle)
            pieces.append((prefix + rest if order == "psm" else rest) + suffix)
            middles += 1
        assert 0.3 < middles / len(pieces) < 0.7
        assert sum(map(len, pieces)) == sum(len(read_bytes(row["text"])) for row in TEXTS)
        assert all(any(piece in read_bytes(row["text"]) for row in TEXTS) for piece in pieces)
        epochs.append([samples[index]["tokens"].tolist() for index in range(len(samples))])
        again = data.make_samples(config, tokenizer.eod_id, epoch)
        assert epochs[-1] == [again[index]["tokens"].tolist() for index in range(len(again))]
    assert len(epochs[0]) == len(epochs[1]) and epochs[0] != epochs[1]
    outcomes = data.middles["train"].transform.counts
    assert ("psm call" in outcomes) == ("fim_syntax_rate" in keys) and (keys or "spm character" in outcomes)


def test_a_long_row_keeps_its_middle_and_the_nearest_text(job, tmp_path):
    tokenizer = merged()
    rows = [{"prefix": "a" * 300, "middle": "MIDDLE", "suffix": suffix} for suffix in ("", "b" * 8, "b" * 300)]
    rows.append({"prefix": "", "middle": "m" * 300, "suffix": ""})
    keys = {"row_format": "infilling", "seq_length": 96}
    data, config = read_data(job, tmp_path / "a.jsonl", rows, tokenizer, long_rows="cut", fim_spm_rate=0.0, **keys)
    found = sorted(divide(tokenizer, ids)[:3] for ids, _ in list_rows(data.make_samples(config, tokenizer.eod_id), tokenizer))
    capacity = 96 - 1 - 3 - len("MIDDLE")
    assert found == [("a" * (capacity * 3 // 4), "b" * (capacity - capacity * 3 // 4), "MIDDLE"),
                     ("a" * (capacity - 8), "b" * 8, "MIDDLE"), ("a" * capacity, "", "MIDDLE")]  # fmt: skip
    with pytest.raises(DataError, match=r"a\.jsonl row 1 has 306 tokens"):
        read_data(job, tmp_path / "a.jsonl", rows, tokenizer, **keys)


def test_keys_that_do_not_fit_and_missing_tokens_are_refused(job, tmp_path):
    def read(tokenizer=None, **keys) -> None:
        read_data(job, tmp_path / "a.jsonl", PARTS, tokenizer or merged(), **keys)

    with pytest.raises(ConfigError, match=r"fim_rate \(0.5, --set\) excludes row_format \(completion"):
        read(fim_rate=0.5)
    with pytest.raises(ConfigError, match=r"long_rows \(split, --set\) excludes row_format infilling"):
        read(row_format="infilling", long_rows="split")
    with pytest.raises(ConfigError, match=r"fim_syntax_rate .* needs a grammar .* Set row_language to one of C, "):
        read(row_format="text", fim_rate=0.5, fim_syntax_rate=0.5, row_language="Cobol")
    read(row_format="text", fim_rate=0.5, fim_syntax_rate=0.5, row_language="GDScript", text_column="prefix")
    with pytest.raises(DataError, match="row_format infilling needs tokens for prefix, suffix and middle, which"):
        read(CharLevelTokenizer(), row_format="infilling")
    with pytest.raises(DataError, match=r"a\.jsonl row 1 has no column middel; its .*; did you mean middle\?"):
        read(row_format="infilling", middle_column="middel")
