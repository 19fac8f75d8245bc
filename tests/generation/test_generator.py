"""Completions of a model whose text is known, and of the same model sampled."""

import dataclasses

import pytest
from scripted_checkpoint import COMPLETION, CONTEXT_LENGTH

from neox_code.config.generation import GenerationConfig
from neox_code.errors import DataError
from neox_code.generation.engine import MAXIMUM_ROWS
from neox_code.generation.generator import Generator
from neox_code.generation.prompts import PromptItem
from neox_code.generation.stopping import StopReason

HOT = GenerationConfig(temperature=30.0, top_k=50, maximum_tokens=12)


def generator(scripted, section=HOT, seed=1) -> Generator:
    return Generator(scripted, section, seed)


def texts(scripted, prompts, *, section=HOT, seed=1, first=0) -> list[str]:
    return [completion.text for completion in generator(scripted, section, seed).complete(prompts, first)]


def test_a_completion_is_the_exact_text_up_to_the_end_of_the_document(scripted):
    (completion,) = generator(scripted, GenerationConfig()).complete(["\r\n\t def f("])
    assert (completion.prompt, completion.text) == ("\r\n\t def f(", COMPLETION)
    assert completion.tokens == tuple(scripted.tokenizer.encode(COMPLETION))
    assert completion.stop_reason is StopReason.END_OF_DOCUMENT
    assert completion.duration_seconds > 0


def test_a_completion_ends_at_maximum_tokens_or_a_full_context(scripted):
    completions = generator(scripted, GenerationConfig(maximum_tokens=10)).complete(["x", "x" * (CONTEXT_LENGTH - 3), "("])
    assert [completion.text for completion in completions] == [10 * ".", "...", COMPLETION[:9]]
    assert [completion.stop_reason for completion in completions] == [
        StopReason.MAXIMUM_TOKENS,
        StopReason.FULL_CONTEXT,
        StopReason.MAXIMUM_TOKENS,
    ]


def test_an_empty_prompt_begins_a_document(scripted):
    (completion,) = generator(scripted, GenerationConfig()).complete([""])
    assert (completion.prompt, completion.text) == ("", "(" + COMPLETION)


def test_newlines_sets_how_line_ends_of_a_prompt_are_read(scripted):
    prompt, made_lf = "\r\n\t\r f(", "\n\t\n f("
    converted = dataclasses.replace(scripted, newlines="lf")
    (completion,) = generator(converted).complete([prompt])
    assert (completion.prompt, completion.text) == (made_lf, texts(scripted, [made_lf])[0])
    assert "".join(generator(converted).stream(prompt)) == completion.text
    assert generator(converted).complete([scripted.tokenizer.encode(prompt)])[0].prompt == prompt
    strict = generator(dataclasses.replace(scripted, newlines="refuse"))
    with pytest.raises(DataError, match=r"the prompt that begins with '\\r\\n\\t\\r f\(' has CR line endings"):
        strict.complete(["f(", prompt])
    assert strict.complete(["f("])[0].prompt == "f("


def test_token_ids_are_accepted_as_a_prompt(scripted):
    prompts = ["f(", "x"]
    plain = dataclasses.replace(HOT, token_healing=False)
    assert texts(scripted, [scripted.tokenizer.encode(prompt) for prompt in prompts]) == texts(scripted, prompts, section=plain)


@pytest.mark.parametrize("prompt", ["x" * CONTEXT_LENGTH, "é" * CONTEXT_LENGTH])
def test_a_prompt_that_fills_the_context_is_an_error_with_both_lengths(scripted, prompt):
    with pytest.raises(DataError, match=rf"has {len(prompt.encode())} tokens.*context of 64 tokens.*Shorten it to 63 tokens"):
        generator(scripted).complete(["x", prompt])
    assert generator(scripted).complete([prompt.encode()[: CONTEXT_LENGTH - 2].decode()])[0].stop_reason is StopReason.FULL_CONTEXT


def test_a_completion_depends_on_seed_and_index_only(scripted):
    prompts = ["x" * (index % 5) for index in range(2 * MAXIMUM_ROWS + 3)]
    together = texts(scripted, prompts)
    assert together == texts(scripted, prompts)
    assert together == [texts(scripted, [prompt], first=index)[0] for index, prompt in enumerate(prompts)]
    assert together == [*texts(scripted, prompts[:5]), *texts(scripted, prompts[5:], first=5)]
    assert len(set(together)) == len(together)
    assert not set(together) & set(texts(scripted, prompts, seed=2))


def test_recompute_gives_the_same_completions(scripted):
    prompts = ["", "f(", "xyz", "é"]
    assert texts(scripted, prompts) == texts(scripted, prompts, section=dataclasses.replace(HOT, recompute=True))


@pytest.mark.parametrize("section", [HOT, GenerationConfig()])
@pytest.mark.parametrize("prompt", ["", "(", "x"])
def test_streamed_parts_join_to_the_completion(scripted, section, prompt):
    pieces = list(generator(scripted, section).stream(prompt, index=4))
    assert "".join(pieces) == texts(scripted, [prompt], section=section, first=4)[0]
    assert all(pieces)


def test_a_streamed_character_is_never_split(scripted):
    assert list(generator(scripted, GenerationConfig()).stream("(")) == list(COMPLETION)


def test_a_long_prompt_is_refused_before_the_first_part(scripted):
    with pytest.raises(DataError, match="64 tokens"):
        generator(scripted).stream("x" * CONTEXT_LENGTH)


@pytest.mark.parametrize(
    ("keys", "text", "reason"),
    [
        ({"stop": ("):", "\t")}, "a, é", StopReason.STOP_RULE),
        ({"stop": ("\r\n\tx", "\x1b")}, "a, é):\r\n\t", StopReason.STOP_RULE),
        ({"stop": ("zz",)}, COMPLETION, StopReason.END_OF_DOCUMENT),
        ({"stop_rules": ("bracket",)}, "a, é)", StopReason.STOP_RULE),
    ],
)
def test_a_completion_ends_before_a_stop_string_and_a_stream_shows_nothing_of_it(scripted, keys, text, reason):
    ours = generator(scripted, GenerationConfig(**keys))
    (completion,) = ours.complete(["f("])
    assert (completion.text, completion.stop_reason) == (text, reason)
    assert "".join(ours.stream("f(")) == text


def test_a_long_prompt_is_cut_at_a_line_and_its_head_is_kept_on_request(scripted):
    lines = [f"line {number:02}\n" for number in range(20)]
    prompt = "".join(lines) + "("
    cut = GenerationConfig(long_prompts="cut", maximum_tokens=8, token_healing=False)
    (completion,) = generator(scripted, cut).complete([prompt])
    assert (completion.prompt, completion.text) == (prompt, COMPLETION.encode()[:8].decode())
    request = generator(scripted, cut).prepare_prompt(prompt, 0).request
    assert scripted.tokenizer.decode(request.prompt_ids) == "".join(lines[-6:]) + "("
    own = PromptItem(prompt, settings={"long_prompts": "cut", "maximum_tokens": 8, "kept_head_tokens": 17, "token_healing": False})
    request = generator(scripted).prepare_prompt(own, 0).request
    assert scripted.tokenizer.decode(request.prompt_ids) == "".join([*lines[:2], *lines[-4:]]) + "("


def test_the_missing_text_ends_where_it_meets_the_suffix(scripted, caplog):
    items = [PromptItem("f(", "):\r\n\tpass\n"), PromptItem("f(", ""), PromptItem("x" * 200 + "f(", "~", {"maximum_tokens": 30})]
    found = generator(scripted, GenerationConfig()).complete(items)
    assert [completion.text for completion in found] == ["a, é", COMPLETION, COMPLETION[:-1]]
    assert caplog.text.count("the model reads only the prefix") == 1 and "no infilling tokens: 3 prompts in all" in caplog.text
    assert "'prefix': 1" in caplog.text
