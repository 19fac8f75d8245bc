"""Equal vocabularies in different file formats compare equal; different vocabularies do not."""

import json
from pathlib import Path

from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.comparison import compare_vocabulary, describe_vocabulary, name_vocabulary
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.huggingface import HFGPT2Tokenizer, HFTokenizer
from neox_code.tokenizer.train_bpe import MERGE_FILE, TOKENIZER_FILE, VOCAB_FILE


def test_one_vocabulary_in_three_file_formats_has_the_same_ids(
    gpt2: GPT2Tokenizer, huggingface: HFTokenizer, vocabulary: Path
) -> None:
    assert compare_vocabulary(describe_vocabulary(gpt2), gpt2) == "same"
    assert compare_vocabulary(describe_vocabulary(gpt2), huggingface) == "same ids"
    assert compare_vocabulary(describe_vocabulary(huggingface), HFGPT2Tokenizer.from_path(vocabulary)) == "same ids"


def test_other_merges_keep_the_ids_and_exchanged_ids_are_another_vocabulary(
    gpt2: GPT2Tokenizer, vocabulary: Path, tmp_path: Path
) -> None:
    recorded = describe_vocabulary(gpt2)
    header, *merges = (vocabulary / MERGE_FILE).read_text(encoding="utf-8").splitlines()
    (tmp_path / "merges.txt").write_text("\n".join([header, *merges[:-1]]), encoding="utf-8")
    assert compare_vocabulary(recorded, GPT2Tokenizer.from_files(vocabulary / VOCAB_FILE, tmp_path / "merges.txt")) == "same ids"
    ids = json.loads((vocabulary / VOCAB_FILE).read_text(encoding="utf-8"))
    tokens = list(ids)
    ids[tokens[-1]], ids[tokens[-2]] = ids[tokens[-2]], ids[tokens[-1]]
    (tmp_path / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    assert compare_vocabulary(recorded, GPT2Tokenizer.from_files(tmp_path / "vocab.json", vocabulary / MERGE_FILE)) == "other"


def test_removed_tokens_are_another_vocabulary_and_added_tokens_are_not(
    huggingface: HFTokenizer, vocabulary: Path, tmp_path: Path
) -> None:
    description = json.loads((vocabulary / TOKENIZER_FILE).read_text(encoding="utf-8"))
    further = {**description["added_tokens"][0], "id": huggingface.vocab_size, "content": "<|further|>"}
    description["added_tokens"].append(further)
    (tmp_path / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    larger = HFTokenizer.from_file(tmp_path / "tokenizer.json")
    assert larger.vocab_size == huggingface.vocab_size + 1
    assert compare_vocabulary(describe_vocabulary(huggingface), larger) == "same ids"
    assert compare_vocabulary(describe_vocabulary(larger), huggingface) == "other"
    assert compare_vocabulary(describe_vocabulary(huggingface), CharLevelTokenizer()) == "other"


def test_a_record_without_ids_sha256_is_unknown_for_another_tokenizer_type(gpt2: GPT2Tokenizer, huggingface: HFTokenizer) -> None:
    assert compare_vocabulary(gpt2.identity, gpt2) == "same"
    assert compare_vocabulary(gpt2.identity | {"sha256": "0"}, gpt2) == "other"
    assert compare_vocabulary(gpt2.identity, huggingface) == "unknown"


def test_name_vocabulary_has_type_files_and_hash(gpt2: GPT2Tokenizer, vocabulary: Path) -> None:
    name = name_vocabulary(gpt2.identity)
    assert name.startswith(
        f"GPT2BPETokenizer {vocabulary / VOCAB_FILE} {vocabulary / MERGE_FILE} (merge_file_reader whole, sha256 "
    )
