import numpy as np

from neox_code.corpus.duplicates.clusters import Clusters


def expected_roots(count, pairs):
    """Return the roots by relabeling: each pair gives both components the smaller label."""
    color = list(range(count))
    for first, second in pairs:
        old, new = max(color[first], color[second]), min(color[first], color[second])
        color = [new if one == old else one for one in color]
    return color


def test_roots_are_the_smallest_connected_items_in_any_pair_order():
    generator = np.random.default_rng(0)
    pairs = generator.integers(0, 400, (250, 2))
    expected = expected_roots(400, pairs.tolist())
    for block in (1, 7, 250):
        generator.shuffle(pairs)
        clusters = Clusters(400)
        for start in range(0, len(pairs), block):
            clusters.join(pairs[start : start + block, 0], pairs[start : start + block, 1])
        assert clusters.find_roots(np.arange(400)).tolist() == expected


def test_a_long_chain_and_a_star_have_one_root():
    numbers = np.arange(100_000)
    chain, star = Clusters(100_000), Clusters(100_000)
    chain.join(numbers[1:], numbers[:-1])
    star.join(numbers[:-1], np.full(99_999, 99_999))
    assert not chain.find_roots(numbers).any()
    assert not star.find_roots(numbers).any()
