"""The number of entries in a vocabulary file equals the tokenizer's vocab_size."""

from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.train_bpe import TOKENIZER_FILE, VOCAB_FILE
from neox_code.tokenizer.vocabulary_file import count_vocabulary_entries


def test_entries_equal_the_tokenizers_vocab_size(vocabulary, gpt2, huggingface):
    assert count_vocabulary_entries("GPT2BPETokenizer", str(vocabulary / VOCAB_FILE)) == gpt2.vocab_size
    assert count_vocabulary_entries("HFTokenizer", str(vocabulary / TOKENIZER_FILE)) == huggingface.vocab_size
    assert count_vocabulary_entries("CharLevelTokenizer", None) == CharLevelTokenizer.vocab_size == 512


def test_a_file_without_vocabulary_has_no_count(tmp_path, vocabulary):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert count_vocabulary_entries("GPT2BPETokenizer", None) is None
    assert count_vocabulary_entries("GPT2BPETokenizer", str(broken)) is None
    assert count_vocabulary_entries("HFTokenizer", str(tmp_path / "none.json")) is None
    assert count_vocabulary_entries("HFTokenizer", str(vocabulary / VOCAB_FILE)) is None
