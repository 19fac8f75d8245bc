"""Prompts are the first lines of held-out files."""

from pathlib import Path

from neox_code.corpus.shards import iter_documents
from neox_code.quickstart.sample_prompts import LONGEST, sample_prompts


def test_prompts_are_shorter_than_their_held_out_files(corpus: Path) -> None:
    texts = {document.path: document.text for document in iter_documents(corpus, "test")}
    prompts = sample_prompts(corpus, "test", ["C", "Python"], bool, per_language=3, seed=1)
    assert [prompt.language for prompt in prompts] == ["C", "Python", "Python", "Python"]
    for prompt in prompts:
        assert texts[prompt.path].startswith(prompt.text)
        assert 0 < len(prompt.text) <= LONGEST
        assert len(prompt.text) < len(texts[prompt.path])


def test_prompts_end_with_a_whole_line(corpus: Path) -> None:
    prompts = sample_prompts(corpus, "test", ["Python"], bool, per_language=2, seed=1)
    assert all(prompt.text.endswith("\n") for prompt in prompts)


def test_files_whose_prompt_is_rejected_are_skipped(corpus: Path) -> None:
    everything = {prompt.path for prompt in sample_prompts(corpus, "test", ["Python"], bool, per_language=10, seed=1)}
    accepted = {prompt.path for prompt in sample_prompts(corpus, "test", ["Python"], str.isprintable, per_language=10, seed=1)}
    unmarked = sample_prompts(corpus, "test", ["Python"], lambda text: "\x1e" not in text, per_language=10, seed=1)
    assert everything - {prompt.path for prompt in unmarked} == {"marked.py"}
    assert accepted == set()


def test_the_seed_selects_the_files(corpus: Path) -> None:
    def choice(seed: int) -> tuple[str, ...]:
        return tuple(prompt.path for prompt in sample_prompts(corpus, "test", ["Python"], bool, per_language=2, seed=seed))

    assert choice(1) == choice(1)
    assert len({choice(seed) for seed in range(10)}) > 1
