import random

from neox_code.benchmarks.exhaustive import find_similar_pairs, make_shingles


def test_pairs_equal_those_of_comparing_all_texts():
    generator = random.Random(0)
    texts = [" ".join(generator.choices("abc", k=generator.randrange(9))) for _ in range(120)]
    sets = [make_shingles(text, 2) for text in texts]
    expected = [
        (i, j)
        for j in range(len(texts))
        for i in range(j)
        if sets[i] and sets[j] and len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.5
    ]
    assert len(expected) > 100
    assert find_similar_pairs(texts, threshold=0.5, shingle_words=2) == expected
