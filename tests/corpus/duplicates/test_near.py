import hashlib
import random
import re

import numpy as np
import pytest

from neox_code.corpus.duplicates import buckets, near
from neox_code.corpus.duplicates.near import NearDuplicates
from neox_code.errors import DataError


def shingles(text, words=5):
    """Return the shingles as strings, independently of the module."""
    found = re.findall(r"\w+", text)
    return {" ".join(found[start : start + words]) for start in range(len(found) - words + 1)}


def jaccard(one, other):
    return len(one & other) / len(one | other)


@pytest.fixture(scope="module")
def texts(library_texts):
    """Return 80 files and two edited copies of each, changed slightly to strongly."""
    generator = random.Random(0)
    originals = [text for text in library_texts if 50 < len(text.split()) < 1200][:80]
    result = list(originals)
    for text in originals:
        for share in (generator.uniform(0, 0.02), generator.uniform(0, 0.15)):
            lines = text.split("\n")
            result.append("\n".join(f"{line} changed_{n}" if generator.random() < share else line for n, line in enumerate(lines)))
    generator.shuffle(result)
    return result


@pytest.fixture(scope="module")
def alike(texts):
    """Return all pairs with a Jaccard similarity of at least 0.7, by exhaustive comparison."""
    sets = [shingles(text) for text in texts]
    pairs = [(i, j, jaccard(sets[i], sets[j])) for i in range(len(sets)) for j in range(i) if sets[i] and sets[j]]
    return [pair for pair in pairs if pair[2] >= 0.7]


def found_duplicates(rule, folder, keys, projects, rows, block=10_000):
    found = {}
    with rule.groups(folder) as groups:
        for start in range(0, len(keys), block):
            some = slice(start, start + block)
            groups.add(np.array(keys[some], f"V{rule.key_bytes}"), np.array(projects[some]), np.array(rows[some]))
        for dropped, survivors in groups.duplicates():
            assert found.keys().isdisjoint(dropped.tolist())
            found |= dict(zip(dropped.tolist(), survivors.tolist(), strict=True))
    assert not list(folder.iterdir())
    return found


def test_nearly_all_similar_pairs_of_an_exhaustive_search_are_found(tmp_path, texts, alike):
    rule = NearDuplicates(threshold=0.7)
    keys = [rule.key(b"", text) for text in texts]
    found = found_duplicates(rule, tmp_path, keys, [0] * len(keys), range(len(keys)))
    together = [found.get(i, i) == found.get(j, j) for i, j, _ in alike]
    assert len(alike) > 120
    assert sum(together) >= 0.96 * len(alike)
    assert all(is_found for (_, _, similarity), is_found in zip(alike, together, strict=True) if similarity > 0.85)
    sets = [shingles(text) for text in texts]
    apart = [row for row in found if max(jaccard(sets[row], other) for n, other in enumerate(sets) if n != row) < 0.6]
    assert not apart


def test_signatures_estimate_the_similarity_without_bias(texts):
    rule = NearDuplicates(permutations=256)
    generator = random.Random(1)
    errors = []
    for _ in range(300):
        one = generator.choice(texts)
        words = re.findall(r"\w+", one)
        other = " ".join(words[: generator.randrange(10, len(words))])
        signatures = [np.frombuffer(rule.key(b"", text), np.uint16) for text in (one, other)]
        errors.append((signatures[0] == signatures[1]).mean() - jaccard(shingles(one), shingles(other)))
    assert abs(np.mean(errors)) < 0.006  # three times the standard error of the mean
    assert np.sqrt(np.mean(np.square(errors))) < 0.5 / 16 * 1.1


def test_near_duplicates_do_not_depend_on_order_or_blocks(tmp_path, monkeypatch, texts):
    rule = NearDuplicates()
    files = [(rule.key(b"", text), row % 7, row) for row, text in enumerate(texts)]
    expected = found_duplicates(rule, tmp_path, *zip(*files, strict=True))
    for leaders in (near.LEADERS, 1):
        monkeypatch.setattr(near, "LEADERS", leaders)
        sorted_files = sorted(files, key=lambda file: file[1:])
        by_leaders = found_duplicates(rule, tmp_path, *zip(*sorted_files, strict=True))
        if leaders > 1:
            assert by_leaders == expected
        for block in (10, 200):
            random.Random(block).shuffle(files)
            monkeypatch.setattr(buckets, "BUFFERED", 5000)
            monkeypatch.setattr(near, "PAIRS_AT_ONCE", 3)
            assert found_duplicates(rule, tmp_path, *zip(*files, strict=True), block) == by_leaders


def test_the_smallest_project_then_row_is_kept(tmp_path):
    rule = NearDuplicates()
    text = " ".join(f"word{number}" for number in range(300))
    keys = [rule.key(b"", text + f" end{number}") for number in range(4)]
    assert found_duplicates(rule, tmp_path, keys, [3, 2, 2, 5], [0, 4, 1, 2]) == {0: 1, 4: 1, 2: 1}


def test_many_files_with_one_signature_are_one_cluster(tmp_path):
    rule = NearDuplicates()
    key = rule.key(b"", "one two three four five six")
    found = found_duplicates(rule, tmp_path, [key] * 20_000, [1] * 20_000, range(20_000))
    assert found == dict.fromkeys(range(1, 20_000), 0)


def test_a_text_without_a_shingle_has_no_key(tmp_path):
    assert NearDuplicates().key(b"", " only four words here\n") is None
    assert NearDuplicates().key(b"", "") is None
    assert NearDuplicates(shingle_words=4).key(b"", " only four words here\n") is not None
    with NearDuplicates().groups(tmp_path) as groups:
        assert list(groups.duplicates()) == []


def test_white_space_and_punctuation_do_not_change_the_key():
    rule = NearDuplicates()
    assert rule.key(b"", "(a, b; c. d… é") == rule.key(b"x", "a b c\td.é\n")
    assert rule.key(b"", "a b c d é") != rule.key(b"", "a b c d e")


def test_keys_never_change():
    """A build resumes with keys of an earlier run."""
    text = "".join(f"def f{number}(x):\n    return x + {number}\n" for number in range(200))
    digest = hashlib.sha256(NearDuplicates().key(b"", text)).hexdigest()
    assert digest == "8dcc3e42b7c69edda91acddc3686014cc13fc723f714ad41766ba590641c5878"


def test_invalid_settings_are_refused():
    for wrong in ({"threshold": 0}, {"threshold": 1.1}, {"bands": 129}, {"bands": 0}, {"shingle_words": 0}):
        with pytest.raises(DataError, match=r"is invalid.*bands between 1 and permutations.*Correct the recipe"):
            NearDuplicates(**wrong)
