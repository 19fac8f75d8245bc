"""Token healing with every tokenizer type: the tokens of the whole text remain possible where the prompt ends inside one."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tiktoken
import torch
from real_code import real_files
from tokenizers import Regex, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from neox_code.config.generation import GenerationConfig
from neox_code.generation.generator import Generator
from neox_code.generation.loading import LoadedModel
from neox_code.generation.token_healing import TokenHealing
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.tokenizer.byte_level import SPECIAL_TOKENS, ByteLevelTokenizer, make_byte_alphabet
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.gpt2 import build_byte_level_backend
from neox_code.tokenizer.sentencepiece import SPMTokenizer
from neox_code.tokenizer.tiktoken_encoding import ENCODINGS, WORDS_OF_CL100K, TiktokenTokenizer

BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
SPLITTINGS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "starcoder": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "qwen": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS_OF_CL100K), "isolated"), BYTE_LEVEL]),
}
EXACT = {"normalization_rule_name": "identity", "byte_fallback": True, "remove_extra_whitespaces": False}
SPECIAL = {"control_symbols": ["<|endoftext|>"]}
SENTENCEPIECE = {
    "spm": {**EXACT, **SPECIAL, "add_dummy_prefix": False, "model_type": "bpe"},
    "spm_whitespace": {**EXACT, **SPECIAL, "add_dummy_prefix": False, "model_type": "bpe", "allow_whitespace_only_pieces": True},
    "spm_adds_space": {**EXACT, **SPECIAL, "model_type": "unigram"},
}
TYPES = [*SPLITTINGS, *SENTENCEPIECE, "cl100k_base", "o200k_base", "char"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    texts = [file.read_bytes().decode("utf-8", errors="ignore")[:4000] for file in real_files(24, max_bytes=16_384)]
    return [*texts, "# é 日本語 😀😀\n\tif x:\r\n\r\n\t\tx = {'a': 1234567}  # don't\n"]


@pytest.fixture(scope="module")
def build(texts):
    def build_byte_level(splitting: str) -> ByteLevelTokenizer:
        backend = build_byte_level_backend()
        backend.pre_tokenizer = SPLITTINGS[splitting]
        alphabet = list(make_byte_alphabet())
        backend.train_from_iterator(
            texts, BpeTrainer(vocab_size=1500, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False)
        )
        return ByteLevelTokenizer(backend, {"vocab_file": splitting})

    def build_tokenizer(name: str):
        if name in SPLITTINGS:
            return build_byte_level(name)
        if name in SENTENCEPIECE:
            model = io.BytesIO()
            lines = (line for text in texts for line in text.split("\n") if line)
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines, model_writer=model, vocab_size=700, minloglevel=2, **SENTENCEPIECE[name]
            )
            return SPMTokenizer(sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), name, "")
        if name in ENCODINGS:
            tokens = build_byte_level("qwen").bytes_of_id[len(SPECIAL_TOKENS) :]
            pattern, special = ENCODINGS[name]
            ranks = {token: rank for rank, token in enumerate(tokens)}
            return TiktokenTokenizer(
                tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special), name, ""
            )
        return CharLevelTokenizer()

    return build_tokenizer


@pytest.mark.parametrize("name", TYPES)
def test_the_tokens_of_the_whole_text_are_possible_after_a_prompt_that_ends_inside_one(build, texts, name):
    tokenizer = build(name)
    healing = TokenHealing(tokenizer)
    rng, inside, other = random.Random(1), 0, 0
    for text in texts:
        ids = tokenizer.encode(text)
        for cut in rng.sample(range(1, len(text)), min(12, len(text) - 1)):
            prompt = tokenizer.encode(text[:cut])
            kept, remaining = healing.split(prompt)
            assert len(remaining) >= (name != "char")
            data = b"".join(healing.bytes_of_id[token] for token in kept if token != tokenizer.eod_id) + remaining
            assert data.removeprefix(b" " * (data[:1] == b" " and text[0] != " ")) == text[:cut].encode()
            kept = [token for token in kept if token != tokenizer.eod_id]
            if kept != ids[: len(kept)]:
                other += 1  # a word that is a token's beginning is sometimes divided otherwise before its piece
                continue
            inside += prompt != ids[: len(prompt)]
            for token in ids[len(kept) :]:
                if not remaining:
                    break
                allowed = healing.find_allowed(remaining)
                assert token in allowed and (np.diff(allowed) > 0).all()
                remaining = healing.drop_repeated(remaining, token)
    assert other <= (4 if name in SENTENCEPIECE else 0)
    assert inside > 20 or name == "char"


@pytest.mark.parametrize("name", ["gpt2", "spm", "spm_adds_space", "cl100k_base"])
def test_healing_keeps_special_tokens_and_a_context(build, name):
    tokenizer = build(name)
    healing, eod = TokenHealing(tokenizer), tokenizer.eod_id
    kept, remaining = healing.split(tokenizer.encode("return"))
    assert (kept, remaining.lstrip()) == ([eod], b"return")
    assert healing.split([eod]) == ([eod], b"") and healing.split([]) == ([eod], b"")
    kept, remaining = healing.split([*tokenizer.encode("a = b"), eod, *tokenizer.encode("ret")])
    assert (kept[-1], remaining.lstrip()) == (eod, b"ret")
    assert eod not in healing.find_allowed(b"<") and len(healing.find_allowed(b"<|endoftext|>")) > 0
    long = tokenizer.encode("x" + "=" * 4000)
    kept, remaining = healing.split(long)
    assert 0 < len(long) - len(kept) <= 32 and set(remaining) == {ord("=")}


def test_allowed_tokens_are_those_of_a_plain_search(build):
    healing = TokenHealing(build("gpt2"))
    for remaining in (b"\n    ", b" ret", b"self.", b"\xe6", b"(", b" " * 40):
        expected = [
            token
            for token, data in enumerate(healing.bytes_of_id)
            if data and (remaining.startswith(data) or data.startswith(remaining))
        ]
        assert healing.find_allowed(remaining).tolist() == expected


@pytest.mark.parametrize("name", ["gpt2", "spm", "spm_adds_space"])
def test_a_healed_completion_repeats_the_prompt_once_and_takes_the_most_probable_tokens(build, model_config, name):
    tokenizer = build(name)
    model = model_config()
    grid = single_process_grid()
    gpt = GPT(build_layers(model, tokenizer.vocab_size, tokenizer.vocab_size, grid, torch.float32)).eval()
    loaded = LoadedModel(gpt, tokenizer, model, torch.device("cpu"), torch.float32, Path("global_step1"))
    generator = Generator(loaded, GenerationConfig(maximum_tokens=6), 1)
    for prompt in ("ret", "for i in ran", "x = {\n        'a': 12", " "):
        (row,) = generator.engine.add(generator.prepare_prompt(prompt, 0).request)
        while row.stop_reason is None:
            generator.engine.step()
        text = tokenizer.decode([token for token in row.ids if token != tokenizer.eod_id])
        assert text == prompt + row.text
        assert tokenizer.decode(row.tokens).endswith(row.text)
        remaining, begin = row.request.repeat_bytes, row.prompt_length
        for place in range(begin, len(row.ids)):
            with torch.no_grad():
                logits_V = gpt(torch.tensor([row.ids[:place]]))[0, -1]
            if remaining:
                allowed = torch.from_numpy(generator.engine.healing.find_allowed(remaining))
                expected = int(allowed[logits_V[allowed].argmax()])
                remaining = generator.engine.healing.drop_repeated(remaining, row.ids[place])
            else:
                expected = int(logits_V.argmax())
            assert row.ids[place] == expected
        assert sum(len(generator.engine.healing.bytes_of_id[token]) for token in row.tokens) > 0
