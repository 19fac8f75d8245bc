"""Similarity: the published figures of CodeXGLUE's sample, and a score computed by hand."""

import math
from pathlib import Path

import pytest

from neox_code.errors import DataError
from neox_code.evaluation.similarity import compute_bleu, compute_edit_similarity, expand_literals


def test_codexglue_sample_gives_its_published_scores(test_data: Path) -> None:
    answers, predictions = (
        (test_data / "codexglue-method-generation" / name).read_text().splitlines() for name in ("answers.txt", "predictions.txt")
    )
    assert round(compute_bleu(predictions, answers), 2) == 1.97
    for backend, expected in (("rapidfuzz", 37.53), ("difflib", 27.98)):
        similarity = compute_edit_similarity(predictions, answers, backend)
        assert (round(similarity.value, 2), similarity.backend) == (expected, backend)
    assert compute_edit_similarity(predictions, answers).backend == "rapidfuzz"


def test_bleu_of_two_pairs_equals_the_sum_by_hand() -> None:
    # orders 1 to 4: 6 of 7 unigrams, 3 of 5 bigrams, 1 of 3, 0 of 1; 7 words against 8
    by_hand = (7 / 8 * 4 / 6 * 2 / 4 * 1 / 2) ** (1 / 4) * math.exp(1 - 8 / 7)
    assert compute_bleu(["return a + b", "x = y"], ["return a - b", "x = y z"]) == pytest.approx(100 * by_hand)


def test_bleu_reads_raw_text_and_edit_similarity_expanded_literals() -> None:
    prediction, reference = "x = <NUM_LIT> <EOL>", "x = 0"
    assert compute_bleu([prediction], [reference]) < 50
    assert compute_edit_similarity([prediction], [reference]).value == 100
    assert expand_literals('f(<STR_LIT:a b>, "<STR_LIT>", <NUM_LIT:0x1F>)<EOL>  <INDENT>g') == 'f(a b, "", 0x1F) g'


@pytest.mark.parametrize("texts", [[""], ["", ""]])
def test_empty_predictions_score_zero(texts: list[str]) -> None:
    references = ["return a"] * len(texts)
    assert compute_bleu(texts, references) == compute_edit_similarity(texts, references).value == 0
    assert compute_bleu(references, texts) == 0


def test_files_of_different_lengths_are_an_error() -> None:
    with pytest.raises(DataError, match="1 predictions for 2 references"):
        compute_bleu(["a"], ["a", "b"])
    with pytest.raises(DataError, match="give one line for each reference"):
        compute_edit_similarity(["a", "b"], ["a"])
