"""The number of entries in a vocabulary file is the tokenizer's own."""

from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.train import TOKENIZER_FILE, VOCAB_FILE
from neox_code.tokenizer.vocabulary_file import vocabulary_entries


def test_the_entries_are_those_of_the_tokenizer(vocabulary, gpt2, huggingface):
    assert vocabulary_entries("GPT2BPETokenizer", str(vocabulary / VOCAB_FILE)) == gpt2.vocab_size
    assert vocabulary_entries("HFTokenizer", str(vocabulary / TOKENIZER_FILE)) == huggingface.vocab_size
    assert vocabulary_entries("CharLevelTokenizer", None) == CharLevelTokenizer.vocab_size == 512


def test_a_file_that_says_nothing_of_it_has_no_number(tmp_path, vocabulary):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert vocabulary_entries("GPT2BPETokenizer", None) is None
    assert vocabulary_entries("GPT2BPETokenizer", str(broken)) is None
    assert vocabulary_entries("HFTokenizer", str(tmp_path / "none.json")) is None
    assert vocabulary_entries("HFTokenizer", str(vocabulary / VOCAB_FILE)) is None
