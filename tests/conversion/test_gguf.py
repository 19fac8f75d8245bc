"""GGUF files, read back by gguf's own reader and run by llama.cpp itself."""

import json
import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import yaml
from real_code import MODULES, real_file, real_texts
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from neox_code.checkpoint.foreign_names import list_foreign_rows
from neox_code.checkpoint.layer_writer import write_layer_files
from neox_code.checkpoint.layout import get_latest_path
from neox_code.commands.convert import main
from neox_code.config.hugging_face import choose_architecture
from neox_code.config.model import ModelConfig
from neox_code.conversion.source import open_source
from neox_code.errors import CheckpointError, DataError
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.tokenizer.sentencepiece import SPACE
from neox_code.tokenizer.train_sentencepiece import train_sentencepiece

SHAPE = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128, "pos_emb": "rotary"}
SHAPE |= {"make_vocab_size_divisible_by": 1}
RMS = {"norm": "rmsnorm", "activation": "swiglu", "rms_norm_epsilon": 1e-5, "intermediate_size": 288}
PLAIN = {"use_bias_in_attn_linear": False, "use_bias_in_mlp": False}
VARIANTS = {
    "pythia": {"gpt_j_residual": True, "rotary_pct": 0.25, "no_weight_tying": True, "bias_gelu_fusion": True},
    "tied, one residual, no biases of attention": {"use_bias_in_attn_linear": False, "bias_gelu_fusion": True},
    "llama": RMS | PLAIN | {"num_kv_heads": 2, "no_weight_tying": True, "rotary_emb_base": 50000},
    "llama, tied, with biases": RMS,
    "qwen3": RMS | PLAIN | {"qk_norm": True, "num_kv_heads": 2, "kv_channels": 32},
    "qwen3 with a key for each head": RMS | PLAIN | {"qk_norm": True, "no_weight_tying": True},
}
CODE = (
    "class Lexer(object):\n\tdef __init__(self, *args):  # \u00fc\u4e2d !\n        return x ? 10 : 2.50 . y\r\n\n\n    'll it's\n"
)


def build_model(keys: dict[str, Any], rows: int) -> GPT:
    """Return a model with random weights whose predictions are far from uniform."""
    torch.manual_seed(3)
    model = ModelConfig(**SHAPE | keys)
    gpt = GPT(build_layers(model, rows, rows, single_process_grid(), torch.float32)).eval()
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return gpt


def write_source(
    folder: Path, keys: dict[str, Any], vocabulary: dict[str, str], rows: int = 640, largest: float | None = None
) -> GPT:
    """Write a checkpoint as GPT-NeoX leaves it: layer files with their configuration. Return its model."""
    gpt = build_model(keys, rows)
    if largest is not None:
        gpt.sequential["2"].mlp.dense_4h_to_h.weight.data[1, 1] = largest
    step = folder / "global_step3"
    write_layer_files(step, gpt.state_dict().items(), ModelConfig(**SHAPE | keys), rows, 1)
    get_latest_path(folder).write_text(step.name)
    for path in (Path(value) for value in vocabulary.values() if Path(value).is_file()):
        shutil.copy(path, step / path.name)
    (step / "configs").mkdir()
    (step / "configs" / "job.yml").write_text(yaml.safe_dump(SHAPE | keys | vocabulary))
    return gpt


@pytest.fixture
def vocabulary(job_folder: Path) -> dict[str, str]:
    return {"vocab_file": str(job_folder / "code-vocab.json"), "merge_file": str(job_folder / "code-merges.txt")}


def read_back(path: Path, model: ModelConfig) -> dict[str, torch.Tensor]:
    """Return our parameters from a GGUF file by the table of names, read in the other direction."""
    tensors = {
        tensor.name: torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in gguf.GGUFReader(path).tensors
    }
    rows = list_foreign_rows(f"gguf_{choose_architecture(model)}", model)
    found = {
        ours: row.join([tensors.pop(name) for name in row.names], model)
        for ours, row in rows.items()
        if all(name in tensors for name in row.names)
    }
    assert not tensors
    return found


def read_field(path: Path, key: str) -> Any:
    field = gguf.GGUFReader(path).get_field(key)
    return None if field is None else field.contents()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_holds_the_weights_and_gives_them_back_by_the_same_table(tmp_path, vocabulary, name):
    gpt = write_source(tmp_path / "save", VARIANTS[name], vocabulary)
    model = ModelConfig(**SHAPE | VARIANTS[name])
    assert main([str(tmp_path / "save"), str(tmp_path / "model.gguf"), "--to", "gguf"]) == 0
    found, original = read_back(tmp_path / "model.gguf", model), gpt.state_dict()
    for ours, weight in original.items():
        torch.testing.assert_close(found.pop(ours), weight, atol=0, rtol=0)
    if found:  # what llama.cpp's gptneox requires and the model does not have
        head, embedding = f"sequential.{model.num_layers + 4}.final_linear.weight", original["sequential.0.word_embeddings.weight"]
        assert torch.equal(found.pop(head), embedding)
        biases = {f"sequential.{index}.attention.{part}.bias" for index in (2, 3) for part in ("query_key_value", "dense")}
        assert found.keys() == biases and not any(weight.any() for weight in found.values())


def test_types_are_those_of_llama_cpp(tmp_path, vocabulary):
    write_source(tmp_path / "save", VARIANTS["pythia"] | {"intermediate_size": 100}, vocabulary)
    model = ModelConfig(**SHAPE | VARIANTS["pythia"] | {"intermediate_size": 100})
    original = build_model(VARIANTS["pythia"] | {"intermediate_size": 100}, 640).state_dict()
    for dtype, wide, head, limit in (
        ("fp32", "F32", "F32", 0),
        ("fp16", "F16", "F16", 2**-11),
        ("bfloat16", "BF16", "BF16", 2**-8),
        ("q8_0", "Q8_0", "Q8_0", 1 / 127),
        ("q4_0", "Q4_0", "Q8_0", 1 / 8),
    ):
        path = tmp_path / f"{dtype}.gguf"
        assert main([str(tmp_path / "save"), str(path), "--to", "gguf", "--dtype", dtype]) == 0
        types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
        assert types["blk.1.attn_qkv.weight"] == wide and types["output.weight"] == head
        assert types["blk.1.ffn_down.weight"] == ("F16" if dtype.startswith("q") else wide)  # 100 is no multiple of 32
        assert {types[name] for name in types if "norm" in name or name.endswith("bias")} == {"F32"}
        for name, weight in read_back(path, model).items():
            assert (weight - original[name]).abs().max() <= limit * original[name].abs().max()


def test_vocabulary_has_special_infilling_and_padding_tokens(tmp_path, job_folder):
    backend = Backend.from_file(str(job_folder / "tokenizer.json"))
    backend.add_special_tokens([AddedToken(name, special=True) for name in ("<|fim_prefix|>", "<|fim_suffix|>", "<fim_middle>")])
    backend.add_tokens([AddedToken("        ", special=False, normalized=False)])
    backend.save(str(tmp_path / "tokenizer.json"))
    vocabulary = {"tokenizer_type": "HFTokenizer", "vocab_file": str(tmp_path / "tokenizer.json")}
    write_source(tmp_path / "save", VARIANTS["pythia"], vocabulary, 656)
    path = tmp_path / "model.gguf"
    assert main([str(tmp_path / "save"), str(path), "--to", "gguf"]) == 0
    tokens, types = read_field(path, "tokenizer.ggml.tokens"), read_field(path, "tokenizer.ggml.token_type")
    assert len(tokens) == len(types) == len(set(tokens)) == 656 == read_field(path, "gptneox.vocab_size")
    assert tokens[640:645] == ["<|fim_prefix|>", "<|fim_suffix|>", "<fim_middle>", "        ", "[PAD644]"]
    assert types[640:645] == [3, 3, 3, 4, 5] and types[0] == 3 and types[300] == 1 and set(types[644:]) == {5}
    keys = ("eos", "eot", "bos", "padding", "fim_pre", "fim_suf", "fim_mid", "fim_pad")
    assert [read_field(path, f"tokenizer.ggml.{key}_token_id") for key in keys] == [0, 0, 0, 1, 640, 641, 642, None]
    assert read_field(path, "tokenizer.ggml.add_bos_token") is False


def test_merges_are_those_that_the_model_was_trained_with(tmp_path, job_folder, vocabulary):
    """GPT-NeoX's reader drops the first merge of a file without a version line, so its models never see that token."""
    merges = [line for line in (job_folder / "code-merges.txt").read_text().splitlines() if not line.startswith("#version")]
    (tmp_path / "merges.txt").write_text("\n".join(merges) + "\n")
    write_source(tmp_path / "save", VARIANTS["pythia"], vocabulary | {"merge_file": str(tmp_path / "merges.txt")}, 640)
    assert main([str(tmp_path / "save"), str(tmp_path / "model.gguf"), "--to", "gguf"]) == 0
    assert read_field(tmp_path / "model.gguf", "tokenizer.ggml.merges") == merges[1:]


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        (RMS | {"activation": "geglu"}, r"llama needs swiglu, not activation \(geglu, "),
        ({"activation": "relu"}, r"gptneox needs gelu, not activation \(relu, "),
        (RMS | {"qk_norm": True, "use_bias_in_mlp": False}, "qwen3 does not support use_bias_in_attn_linear"),
        ({"pos_emb": "alibi"}, r"prevented by pos_emb \(alibi"),
    ],
)
def test_blocks_that_llama_cpp_lacks_are_refused(tmp_path, vocabulary, keys, match):
    write_source(tmp_path / "save", keys, vocabulary)
    with pytest.raises(CheckpointError, match=match):
        main([str(tmp_path / "save"), str(tmp_path / "model.gguf"), "--to", "gguf"])
    assert [path.name for path in tmp_path.iterdir()] == ["save"]


def test_vocabularies_that_llama_cpp_would_encode_differently_are_refused(tmp_path, job_folder, caplog):
    def convert(change, **keys) -> None:
        content = json.loads((job_folder / "tokenizer.json").read_text())
        change(content)
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        shutil.rmtree(tmp_path / "save", ignore_errors=True)
        vocabulary = {"tokenizer_type": "HFTokenizer", "vocab_file": str(tmp_path / "tokenizer.json")} | keys
        write_source(tmp_path / "save", VARIANTS["pythia"], vocabulary)
        main([str(tmp_path / "save"), str(tmp_path / "model.gguf"), "--to", "gguf"])

    with pytest.raises(DataError, match="splits text by Whitespace"):
        convert(lambda content: content["pre_tokenizer"].update(type="Sequence", pretokenizers=[{"type": "Whitespace"}]))
    with pytest.raises(DataError, match="splits text by ByteLevel with other options"):
        convert(lambda content: content["pre_tokenizer"].update(add_prefix_space=True))
    with pytest.raises(DataError, match=r"in a way that llama\.cpp does not support"):
        convert(lambda content: content["model"].update(ignore_merges=True))
    with caplog.at_level(logging.WARNING):
        convert(lambda content: content.update(normalizer={"type": "NFC"}))
    assert "normalizes text (NFC) and llama.cpp does not" in caplog.text


def write_sentencepiece_source(folder: Path, is_whitespace: bool = False) -> None:
    """Write a model with random weights and a vocabulary of SentencePiece with two rows of padding."""
    train_sentencepiece([real_file(path).read_text() for path in MODULES], 640, folder, whitespace_tokens=is_whitespace)
    vocabulary = {"tokenizer_type": "SPMTokenizer", "vocab_file": str(folder / "code.model")}
    write_source(folder / "save", VARIANTS["pythia"], vocabulary, 642)


def test_a_vocabulary_of_sentencepiece_has_its_pieces_scores_and_types(tmp_path):
    write_sentencepiece_source(tmp_path, is_whitespace=True)
    path = tmp_path / "model.gguf"
    assert main([str(tmp_path / "save"), str(path), "--to", "gguf"]) == 0
    fields = {key: read_field(path, f"tokenizer.ggml.{key}") for key in ("model", "tokens", "scores", "token_type")}
    peer = SentencePieceProcessor(model_file=str(tmp_path / "code.model"))
    assert fields["model"] == "llama" and {len(fields[key]) for key in ("tokens", "scores", "token_type")} == {642}
    assert fields["scores"] == [*(peer.get_score(row) for row in range(640)), 0, 0]
    assert fields["token_type"][:8] == [3, 3, 3, 2, 4, 4, 4, 4] and fields["tokens"][4:8] == ["\t\t", "  ", "    ", "        "]
    assert fields["token_type"][8:264] == [6] * 256 and fields["token_type"][264:] == [1] * 376 + [5, 5]
    assert fields["tokens"][264:640] == [peer.id_to_piece(row) for row in range(264, 640)]
    assert (read_field(path, "tokenizer.ggml.eos_token_id"), read_field(path, "tokenizer.ggml.add_space_prefix")) == (0, False)


def test_a_sentencepiece_model_that_changes_text_or_is_of_unigrams_is_refused(tmp_path):
    exact = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "add_dummy_prefix": False}
    for kind, options in {"unigram": exact, "bpe": {}}.items():
        with (tmp_path / f"{kind}.model").open("wb") as file:
            lines = iter(real_file(MODULES[0]).read_text().splitlines())
            options = {**options, "byte_fallback": True, "minloglevel": 2, "model_type": kind}
            SentencePieceTrainer.train(sentence_iterator=lines, model_writer=file, vocab_size=600, **options)
        vocabulary = {"tokenizer_type": "SPMTokenizer", "vocab_file": str(tmp_path / f"{kind}.model")}
        write_source(tmp_path / kind, VARIANTS["pythia"], vocabulary, 600)
        with pytest.raises(DataError, match="type BPE that change no text, and this model has SPMTokenizer"):
            main([str(tmp_path / kind), str(tmp_path / "model.gguf"), "--to", "gguf"])
    assert not [path.name for path in tmp_path.iterdir() if "gguf" in path.name]


def test_types_of_gguf_alone_are_refused_elsewhere_and_fp16_that_overflows(tmp_path, vocabulary):
    write_source(tmp_path / "save", VARIANTS["pythia"], vocabulary)
    with pytest.raises(CheckpointError, match="--dtype q8_0 is a type of GGUF alone, not of neox"):
        main([str(tmp_path / "save"), str(tmp_path / "out"), "--to", "neox", "--dtype", "q8_0"])
    write_source(tmp_path / "large", VARIANTS["pythia"], vocabulary, largest=1e5)
    with pytest.raises(CheckpointError, match=r"mlp.dense_4h_to_h.weight .* has values beyond the range of torch.float16"):
        main([str(tmp_path / "large"), str(tmp_path / "out"), "--to", "gguf", "--dtype", "fp16"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "save"]


# ---- llama.cpp itself


@pytest.fixture
def llama_cpp():
    """Returns a function that runs llama.cpp on a file; see llama_cpp.mjs for its request and answer."""
    folder = os.environ.get("NEOX_CODE_TEST_LLAMA_CPP")
    if not folder or not shutil.which("node"):
        pytest.skip("NEOX_CODE_TEST_LLAMA_CPP names no folder with node-llama-cpp, or node is missing")

    def run(path: Path, **request: Any) -> dict[str, Any]:
        content = {"model": str(path), "texts": [], "prompts": [], "count": 24, "scored": []} | request
        files = path.with_suffix(".request"), path.with_suffix(".answer")
        files[0].write_text(json.dumps(content))
        command = ["node", Path(__file__).with_name("llama_cpp.mjs"), folder, *files]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(files[1].read_text())

    return run


def continue_greedily(gpt: GPT, ids: list[int], count: int) -> list[int]:
    found: list[int] = []
    with torch.no_grad():
        for _ in range(count):
            found.append(int(gpt(torch.tensor([ids + found]))[0, -1].argmax()))
    return found


def largest_loss_of_logit(gpt: GPT, prompt: list[int], ids: list[int]) -> float:
    """Return by how much our logit of a token that was chosen is below our largest one, at most; 0 if all are our choices."""
    with torch.no_grad():
        logits = gpt(torch.tensor([prompt + ids]))[0, len(prompt) - 1 : -1]
    return float((logits.amax(1) - logits.gather(1, torch.tensor(ids)[:, None])[:, 0]).max())


def nats_of(gpt: GPT, ids: list[int]) -> torch.Tensor:
    """Return -log p of each token after the first, [len(ids) - 1]."""
    with torch.no_grad():
        logits = gpt(torch.tensor([ids]))[0, :-1]
    return -logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


@pytest.mark.parametrize("name", VARIANTS)
def test_llama_cpp_has_our_probabilities_and_greedy_text(tmp_path, vocabulary, llama_cpp, name):
    gpt = write_source(tmp_path / "save", VARIANTS[name], vocabulary)
    tokenizer = open_source(tmp_path / "save").tokenizer
    prompts = [tokenizer.encode(real_file(path).read_text())[100:116] for path in MODULES[:4]]
    scored = tokenizer.encode(real_file(MODULES[0]).read_text())[:100]
    for dtype in ("fp32", "fp16"):
        path = tmp_path / f"{dtype}.gguf"
        assert main([str(tmp_path / "save"), str(path), "--to", "gguf", "--dtype", dtype]) == 0
        answer = llama_cpp(path, prompts=prompts, scored=[scored])
        torch.testing.assert_close(torch.tensor(answer["nats"][0]), nats_of(gpt, scored), atol=0.02, rtol=0)
        assert [len(ids) for ids in answer["continued"]] == [24] * 4
        for prompt, ids in zip(prompts, answer["continued"], strict=True):
            assert largest_loss_of_logit(gpt, prompt, ids) <= 0.04  # two tokens of random weights can be almost equally probable
        if dtype == "fp32":
            assert answer["continued"][0] == continue_greedily(gpt, prompts[0], 24)


HARD_TEXTS = [
    CODE,
    "<|endoftext|>",
    "<0x0A> <unk>",
    "a\0b \x7f\u2028\xa0\ufeff",
    "\uff26\u3000 \U0001f468\u200d\U0001f469 e\u0301",
    " ",
    "\t\t\t \r",
]


@pytest.mark.parametrize("kind", ["byte level", "sentencepiece", "sentencepiece with tokens for whitespace"])
def test_llama_cpp_encodes_real_code_as_we_do(tmp_path, vocabulary, llama_cpp, kind):
    if kind == "byte level":
        write_source(tmp_path / "save", VARIANTS["pythia"], vocabulary)
    else:
        write_sentencepiece_source(tmp_path, is_whitespace="whitespace" in kind)
    tokenizer = open_source(tmp_path / "save").tokenizer
    assert main([str(tmp_path / "save"), str(tmp_path / "model.gguf"), "--to", "gguf"]) == 0
    texts = [*HARD_TEXTS, *(text for text in real_texts(60) if SPACE not in text)]
    answer = llama_cpp(tmp_path / "model.gguf", texts=texts)
    for text, ids in zip(texts, answer["tokens"], strict=True):
        assert ids == tokenizer.encode(text), text[:80]
    assert answer["decoded"] == texts
    assert answer["special"] == {"eos": 0, "eot": 0, "addsBos": False, "infill": [None, None, None]}
