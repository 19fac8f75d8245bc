import re
import subprocess
import sys

import numpy as np
import xxhash

from neox_code.corpus.duplicates.variables import SameVariables


def test_keys_are_equal_where_gpt_code_clippys_are(library_texts):
    texts = [variant for text in library_texts[:200] for variant in (text, text.replace(" ", "\t"), text + "x", text.strip(), "")]
    keys = [SameVariables().key(b"", text) for text in texts]
    theirs = [" ".join(re.split(r"\W+", text)) for text in texts]
    assert len(set(keys)) == len(set(theirs)) == len(set(zip(keys, theirs, strict=True)))


def test_the_key_is_the_same_in_every_process():
    program = "from neox_code.corpus.duplicates.variables import SameVariables; print(SameVariables().key(b'', 'a = b').hex())"
    outputs = {subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout for _ in range(2)}
    assert outputs == {xxhash.xxh3_128(b"a b").hexdigest().encode() + b"\n"}


def test_files_that_differ_in_punctuation_are_duplicates(tmp_path):
    rule = SameVariables()
    texts = ["f(a, b)", "f(b, a)", "f[a; b]", "f(a,  b)"]
    found = {}
    with rule.groups(tmp_path) as groups:
        groups.add(np.array([rule.key(b"", text) for text in texts], "V16"), np.array([1, 1, 0, 2]), np.arange(4))
        for dropped, survivors in groups.duplicates():
            found |= dict(zip(dropped.tolist(), survivors.tolist(), strict=True))
    assert found == {0: 2, 3: 2}
