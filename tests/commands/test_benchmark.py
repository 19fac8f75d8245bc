import pytest

from neox_code.commands.benchmark import main
from neox_code.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no benchmark is named. Run: ./deepy.py benchmark training|decoding|conversion CONFIG..."),
        (
            ["speed"],
            "speed is not a benchmark. Run: ./deepy.py benchmark training|decoding|conversion CONFIG..., or data --corpus FOLDER",
        ),
        (["data", "--corpus", "code", "--rounds", "0"], "--rounds: 0 is not a whole number above 0"),
        (["data", "--corpus", "code", "--megabytes", "0"], "--megabytes: 0 is not a number above 0"),
    ],
)
def test_a_mistaken_command_line_is_refused(words, sentence):
    with pytest.raises(ConfigError) as error:
        main(words)
    assert sentence in str(error.value)


def test_a_missing_peer_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"peer datasketch is not installed. Run: pip install -e '.\[datasketch\]'"):
        main(["data", "--corpus", "code", "--part", "near"])
    with pytest.raises(ConfigError, match="peer transformers is not installed"):
        main(["training", "configs/small.yml"])
