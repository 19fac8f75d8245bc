import random

from neox_code.corpus.dedup_exact import survivors


def test_the_survivor_is_the_first_by_key_in_any_order_of_arrival():
    generator = random.Random(0)
    files = [(bytes([generator.randrange(20)]), (f"p{generator.randrange(9)}", f"f{number}")) for number in range(300)]
    expected = {digest: min(key for other, key in files if other == digest) for digest, _ in files}
    for _ in range(5):
        generator.shuffle(files)
        assert survivors(files) == expected
