import pytest

from neox_code.benchmarks.decoding import CACHED_TOKENS, RAGGED, find_llama_cpp_obstacle, measure_ours
from neox_code.checkpoint.model_folder import load_config
from neox_code.commands.benchmark import main
from neox_code.config.command_line import parse_command_line
from neox_code.config.model import ModelConfig
from neox_code.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no benchmark is named. Run: ./deepy.py benchmark training|finetuning|decoding|conversion CONFIG..."),
        (
            ["speed"],
            "speed is not a benchmark. Run: ./deepy.py benchmark training|finetuning|decoding|conversion CONFIG..., "
            "quality CONFIG BASELINE..., data --corpus FOLDER, or execution --samples FILE",
        ),
        (["quality", "a.yml", "b.yml", "--shares", "1,0"], "--shares: 0 is not a number above 0"),
        (["quality", "configs/small.yml", "configs/small.yml"], "training data: neither data_path nor train_data_paths is set"),
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


def test_llama_cpp_is_skipped_with_the_reason(tmp_path, monkeypatch):
    config, other = (
        load_config(parse_command_line(["configs/small.yml", *words], None)) for words in ([], ["--set", "vocab_file=vocab.json"])
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_llama_cpp_obstacle(other, tmp_path) == "node is not installed"
    (tmp_path / "node").touch(mode=0o755)
    assert "has no node_modules/node-llama-cpp; install it there with npm" in find_llama_cpp_obstacle(other, tmp_path)
    (tmp_path / "node_modules/node-llama-cpp").mkdir(parents=True)
    assert "the configuration has no vocab_file" in find_llama_cpp_obstacle(config, tmp_path)
    assert find_llama_cpp_obstacle(other, tmp_path) is None


def test_the_ragged_rows_have_the_tokens_of_the_uniform_batch():
    for cached in CACHED_TOKENS:
        assert sum(int(share * cached) for share in RAGGED) == pytest.approx(len(RAGGED) * cached, abs=len(RAGGED))


@pytest.mark.parametrize(("in_8bit", "num_bytes"), [(False, 2), (True, 1)])
def test_a_round_of_decoding_has_uniform_and_ragged_rows_the_products_and_the_reading_of_their_weights(in_8bit, num_bytes):
    model = ModelConfig(num_layers=1, hidden_size=32, num_attention_heads=2, max_position_embeddings=2048, no_weight_tying=True)
    figures = next(measure_ours("ours", in_8bit, model, len(RAGGED)))
    megabytes = num_bytes * (50_304 * 32 + 12 * 32 * 32) / 1e6
    assert list(figures) == ["ours", "ours, ragged", "ours, products", f"ours, reading {megabytes:,.0f} MB"]
    assert [len(values) for values in figures.values()] == [4, 4, 1, 1]
    assert all(seconds > 0 for values in figures.values() for seconds in values.values())
