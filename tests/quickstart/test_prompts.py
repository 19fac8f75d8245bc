"""Prompts are the beginnings of held-out files."""

from pathlib import Path

from neox_code.corpus.shards import iter_documents
from neox_code.quickstart.prompts import LONGEST, beginnings


def test_prompts_begin_held_out_files_and_leave_something_to_complete(corpus: Path) -> None:
    texts = {document.path: document.text for document in iter_documents(corpus, "test")}
    prompts = beginnings(corpus, "test", ["C", "Python"], bool, per_language=3, seed=1)
    assert [prompt.language for prompt in prompts] == ["C", "Python", "Python", "Python"]
    for prompt in prompts:
        assert texts[prompt.path].startswith(prompt.text)
        assert 0 < len(prompt.text) <= LONGEST
        assert len(prompt.text) < len(texts[prompt.path])


def test_prompts_end_with_a_whole_line_where_the_file_has_short_lines(corpus: Path) -> None:
    prompts = beginnings(corpus, "test", ["Python"], bool, per_language=2, seed=1)
    assert all(prompt.text.endswith("\n") for prompt in prompts)


def test_files_whose_beginning_is_refused_are_passed_over(corpus: Path) -> None:
    everything = {prompt.path for prompt in beginnings(corpus, "test", ["Python"], bool, per_language=10, seed=1)}
    accepted = {prompt.path for prompt in beginnings(corpus, "test", ["Python"], str.isprintable, per_language=10, seed=1)}
    unmarked = beginnings(corpus, "test", ["Python"], lambda text: "\x1e" not in text, per_language=10, seed=1)
    assert everything - {prompt.path for prompt in unmarked} == {"marked.py"}
    assert accepted == set()


def test_the_seed_decides_the_choice(corpus: Path) -> None:
    def choice(seed: int) -> tuple[str, ...]:
        return tuple(prompt.path for prompt in beginnings(corpus, "test", ["Python"], bool, per_language=2, seed=seed))

    assert choice(1) == choice(1)
    assert len({choice(seed) for seed in range(10)}) > 1
