"""Pieces of text against the whole text decoded at once."""

import io

import pytest
import sentencepiece
from scripted_checkpoint import write_vocabulary

from neox_code.generation.detokenize import Detokenizer
from neox_code.tokenizer.sentencepiece import SPMTokenizer

TEXT = "a é€\U0001f600\r\n\t end"


@pytest.fixture(scope="module")
def byte_tokenizer(tmp_path_factory):
    return write_vocabulary(tmp_path_factory.mktemp("bytes"))


def test_a_character_of_several_tokens_is_returned_when_complete(byte_tokenizer):
    detokenizer = Detokenizer(byte_tokenizer)
    pieces = [detokenizer.feed(token) for token in byte_tokenizer.encode("é€!")]
    assert pieces == ["", "é", "", "", "€", "!"]
    assert detokenizer.finish() == ""


@pytest.mark.parametrize("length", range(len(TEXT.encode()) + 1))
def test_the_parts_join_to_the_text_decoded_at_once(byte_tokenizer, length):
    tokens = byte_tokenizer.encode(TEXT)[:length]
    detokenizer = Detokenizer(byte_tokenizer, byte_tokenizer.encode("x"))
    assert "".join(map(detokenizer.feed, tokens)) + detokenizer.finish() == byte_tokenizer.decode(tokens)


@pytest.fixture(scope="module")
def piece_tokenizer():
    """A SentencePiece model that puts a space before a text."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["def add(a, b):", "    return a + b", "for x in add(a, b): print(x)"]),
        model_writer=model,
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return SPMTokenizer(processor, "code.model", "")


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_space_that_begins_a_completion_is_kept(piece_tokenizer, cut):
    text = "def add(a, b): return a + b"
    ids = piece_tokenizer.encode(text)
    detokenizer = Detokenizer(piece_tokenizer, ids[:cut])
    completion = "".join(map(detokenizer.feed, ids[cut:])) + detokenizer.finish()
    assert piece_tokenizer.decode(ids[:cut]) + completion == text
