"""Folders for Hugging Face, against transformers itself: equal logits, equal ids, equal bytes on the way back."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from foreign_checkpoint import build_peer, write_foreign_checkpoint
from real_code import real_file
from safetensors import safe_open
from safetensors.torch import load_file
from sentencepiece import SentencePieceTrainer
from tokenizers import normalizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPTNeoXConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from neox_code.checkpoint.layer_writer import write_layer_files
from neox_code.checkpoint.layout import get_latest_path, make_step_name
from neox_code.checkpoint.model_folder import read_tokenizer_keys
from neox_code.checkpoint.save import write_companion_files
from neox_code.checkpoint.weights import read_weights
from neox_code.commands.convert import main
from neox_code.config.data import DataConfig
from neox_code.config.hugging_face import make_config
from neox_code.config.model_size import count_parameters
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.tokenizer_files import write_tokenizer
from neox_code.errors import CheckpointError, ConfigError
from neox_code.model.gpt import DTYPES, GPT, build_layers
from neox_code.model.sharding import get_sharding
from neox_code.parallel.grid import single_process_grid
from neox_code.tokenizer.gpt2 import build_byte_level_backend
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.tokenizer.train_sentencepiece import train_sentencepiece
from neox_code.training.checkpoints import read_companion_files

VOCAB, PADDED = 640, 768
TOKENS = torch.arange(5, 45)[None]
LLAMA = {
    "norm": "rmsnorm",
    "activation": "swiglu",
    "use_bias_in_mlp": False,
    "use_bias_in_attn_linear": False,
    "mlp_multiple_of": 4,
}
VARIANTS = {
    "sequential": {"bias_gelu_fusion": True},
    "parallel": {"gpt_j_residual": True, "no_weight_tying": False, "rotary_pct": 0.25},
    "llama": {**LLAMA, "num_attention_heads": 8, "num_kv_heads": 4, "rotary_emb_base": 5000},
    "llama with biases": {**LLAMA, "activation": "geglu", "use_bias_in_mlp": True, "use_bias_in_attn_linear": True},
    "qwen3": {**LLAMA, "qk_norm": True, "num_kv_heads": 4, "kv_channels": 24, "no_weight_tying": False},
}


def write_random_checkpoint(config: NeoXConfig, save: Path) -> GPT:
    """Write a model of random weights as a checkpoint of this package at tensor-parallel size 1; return the model."""
    model = config.model
    gpt = GPT(build_layers(model, VOCAB, PADDED, single_process_grid(), DTYPES[model.precision])).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    folder = save / make_step_name(3)
    write_layer_files(folder, ((name, weight.detach()) for name, weight in gpt.named_parameters()), model, VOCAB)
    write_companion_files(folder, read_companion_files(config, VOCAB))
    get_latest_path(save).write_text(folder.name)
    return gpt


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}


def require_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def write_universal_checkpoint(gpt: GPT, beside: Path, save: Path) -> None:
    """Write a model as DeepSpeed's ds_to_universal does, with the configuration and the vocabulary of another checkpoint of it."""
    shutil.copytree(beside, save, ignore=shutil.ignore_patterns("*.pt"))
    for name, weight in gpt.named_parameters():
        folder = save / make_step_name(3) / "zero" / name
        folder.mkdir(parents=True)
        for key, value in {"fp32": weight, "exp_avg": weight / 2, "exp_avg_sq": weight**2}.items():
            whole = value.detach()[: VOCAB if get_sharding(name).is_vocabulary else None].float().clone()
            torch.save({"param": whole}, folder / f"{key}.pt")


def read_content(path: Path) -> dict[str, torch.Tensor]:
    """Return the bytes of all files of a model of any format by name, of model state files and universal ones their tensors."""
    if path.is_file():
        return {"bytes": torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)}
    found = {}
    for file in [*path.glob("*.*"), *path.glob("global_step*/*.pt"), *path.glob("global_step*/zero/*/*.pt")]:
        if file.name.startswith("mp_rank") or file.parent.parent.name == "zero":
            content = torch.load(file, weights_only=True)
            tensors = {name: value for name, value in content.get("module", content).items() if torch.is_tensor(value)}
            place = f"{file.parent.name if 'param' in tensors else ''}/{file.name}"
            found |= {f"{place}/{name}": value for name, value in tensors.items()}
        else:
            found |= {file.name: torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)}
    return found


def test_keys_that_other_formats_lack_are_named_before_anything_is_written(job, tmp_path):
    keys = {"token_smear": True, "value_residual": True}
    config = NeoXConfig.load([job(**LLAMA, **keys)])
    write_random_checkpoint(config, tmp_path / "model")
    for form in ("huggingface", "gguf", "neox"):
        with pytest.raises(ConfigError, match=r"^token_smear \(true, .*:\d+\), value_residual \(true, .*: GPT-NeoX, Hugging Face"):
            main([str(tmp_path / "model"), str(tmp_path / form), "--to", form])
    with pytest.raises(CheckpointError, match="holds no optimizer state"):
        main([str(tmp_path / "model"), str(tmp_path / "universal"), "--to", "universal"])
    assert not {path.name for path in tmp_path.iterdir()} & {"huggingface", "gguf", "neox", "universal"}
    with pytest.raises(ConfigError, match=r"token_smear \(true, .*where it has False.*remove save_huggingface"):
        NeoXConfig.load([job(**LLAMA, **keys, save_huggingface=True)])


NEOX_LAYOUTS = {f"neox {tensor} x {pipeline}": (tensor, pipeline) for tensor, pipeline in ((2, 2), (4, 1), (2, 0))}


@pytest.mark.parametrize("precision", ["fp32", "bfloat16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_pair_of_formats_and_layouts_gives_the_same_files_and_transformers_our_logits(job, tmp_path, name, precision):
    config = NeoXConfig.load([job(**VARIANTS[name], precision=precision)])
    gpt = write_random_checkpoint(config, tmp_path / "random" / "model")
    write_universal_checkpoint(gpt, tmp_path / "random" / "model", tmp_path / "universal" / "model")
    options = {form: ["--to", form, "--dtype", precision] for form in ("huggingface", "gguf")}
    for form, (tensor, pipeline) in NEOX_LAYOUTS.items():
        sizes = ["--model-parallel-size", str(tensor), "--pipe-parallel-size", str(pipeline)]
        options[form] = ["--to", "neox", "--dtype", precision, *sizes]
    if VARIANTS[name].get("activation") == "geglu":  # llama.cpp has no such block
        del options["gguf"]
    expected = {}
    for form, words in options.items():
        assert main([str(tmp_path / "random" / "model"), str(tmp_path / form / "model"), *words]) == 0
        expected[form] = read_content(tmp_path / form / "model")
        assert expected[form]
    for source in (*NEOX_LAYOUTS, "huggingface", "universal"):
        for target, words in options.items():
            output = tmp_path / f"{source} to {target}" / "model"
            assert main([str(tmp_path / source / "model"), str(output), *words]) == 0
            require_equal(read_content(output), expected[target])
        words = [str(tmp_path / source / "model"), str(tmp_path / f"{source} to universal"), "--to", "universal"]
        if source == "universal":
            assert main([*words, "--pipe-parallel-size", "0"]) == 0
            require_equal(read_content(tmp_path / "universal to universal"), read_content(tmp_path / "universal" / "model"))
        else:
            with pytest.raises(CheckpointError, match="holds no optimizer state"):
                main(words)
    original, written = (
        read_weights(tmp_path / place / "model" / make_step_name(3), config.model) for place in ("random", "neox 2 x 2")
    )
    for key, weight in original.items():
        rows = VOCAB if get_sharding(key).is_vocabulary else None
        assert torch.equal(written[key][:rows], weight[:rows]) and written[key].dtype == weight.dtype
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "huggingface" / "model")
    assert str(peer.dtype).endswith("float32" if precision == "fp32" else "bfloat16")
    with torch.no_grad():
        found, logits = peer(TOKENS).logits.float(), gpt(TOKENS)[..., :VOCAB].float()
    tolerance = (1e-5 if precision == "fp32" else 3e-2) * logits.abs().max().item()
    torch.testing.assert_close(found, logits, atol=tolerance, rtol=0)


@pytest.mark.parametrize("form", ["layers", "sequential"])
def test_a_model_of_gpt_neox_keeps_all_rows_of_its_vocabulary_in_shards(job, tmp_path, form):
    config = NeoXConfig.load([job(rotary_pct=0.25, mask_padded_vocab=False)])
    keys = {key: value for key, value in config.values().items() if key in KEYS_OF_A_MODEL}
    peer = build_peer(keys, PADDED)
    files = {key: Path(keys[key]) for key in ("vocab_file", "merge_file")}
    write_foreign_checkpoint(tmp_path / "save", peer, keys | {key: path.name for key, path in files.items()}, "v1", form, 2)
    for path in files.values():
        shutil.copy(path, tmp_path / "save")
    assert main([str(tmp_path / "save"), str(tmp_path / "hf"), "--to", "huggingface", "--shard-size", "0.0002"]) == 0
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    require_equal(again.state_dict(), peer.state_dict())
    listed = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    shards = sorted((tmp_path / "hf").glob("*.safetensors"))
    assert [path.name for path in shards] == [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    assert len(shards) > 2 and listed["metadata"]["total_size"] == 4 * sum(value.numel() for value in peer.parameters())
    for path in shards:
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {"format": "pt"}
            assert {listed["weight_map"][name] for name in file.keys()} == {path.name}  # noqa: SIM118


@pytest.mark.parametrize(("tensor_size", "rows"), [("1", 768), ("2", 642), ("2", 643)])
def test_a_model_of_transformers_comes_back_through_gpt_neox_with_its_bytes_and_rows(job_folder, tmp_path, tensor_size, rows):
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "rotary_pct": 0.5}
    config = GPTNeoXConfig(**shape, vocab_size=rows, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, dtype="bfloat16")
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "hf")
    shutil.copy(job_folder / "code-vocab.json", tmp_path / "hf" / "vocab.json")
    shutil.copy(job_folder / "code-merges.txt", tmp_path / "hf" / "merges.txt")
    words = ["--to", "neox", "--model-parallel-size", tensor_size]
    assert main([str(tmp_path / "hf"), str(tmp_path / "neox"), *words]) == 0
    assert main([str(tmp_path / "neox"), str(tmp_path / "again"), "--to", "huggingface"]) == 0
    require_equal(read_tensors(tmp_path / "again"), read_tensors(tmp_path / "hf"))


KEYS_OF_A_MODEL = (
    *("num_layers", "hidden_size", "num_attention_heads", "max_position_embeddings", "pos_emb", "rotary_pct", "gpt_j_residual"),
    *("no_weight_tying", "vocab_file", "merge_file", "mask_padded_vocab"),
)


def test_another_dtype_is_written_and_a_value_beyond_it_is_refused(job, tmp_path):
    config = NeoXConfig.load([job(precision="bfloat16")])
    write_random_checkpoint(config, tmp_path / "save")
    assert main([str(tmp_path / "save"), str(tmp_path / "hf"), "--to", "huggingface", "--dtype", "fp16"]) == 0
    assert {value.dtype for value in read_tensors(tmp_path / "hf").values()} == {torch.float16}
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["dtype"] == "float16"
    weights = dict(read_weights(tmp_path / "save" / make_step_name(3), config.model))
    weights["sequential.2.attention.dense.weight"][0, 0] = 1e5
    for path in (tmp_path / "save" / make_step_name(3)).glob("layer_*"):
        path.unlink()
    write_layer_files(tmp_path / "save" / make_step_name(3), weights.items(), config.model, VOCAB)
    with pytest.raises(CheckpointError, match=r"sequential.2.attention.dense.weight .* beyond the range of torch.float16"):
        main([str(tmp_path / "save"), str(tmp_path / "other"), "--to", "huggingface", "--dtype", "fp16"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["hf", "save"]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"pos_emb": "alibi"}, r"GPTNeoXForCausalLM, is prevented by pos_emb \(alibi, .*\), where it has rotary\."),
        ({"pos_emb": "learned"}, r"pos_emb \(learned, "),
        ({"activation": "geglu", "mlp_multiple_of": 4}, r"activation \(geglu, .*\), where it has gelu, relu"),
        ({"norm": "rmsnorm"}, r"norm \(rmsnorm, .*model.yml:\d+\), where it has layernorm"),
        ({**LLAMA, "rotary_pct": 0.5}, r"LlamaForCausalLM, is prevented by rotary_pct \(0.5, .*\), where it has 1.0"),
        ({"num_kv_heads": 2}, r"num_kv_heads \(2, .*\), where it has num_attention_heads\."),
    ],
)
def test_a_block_of_no_architecture_is_refused_before_anything_is_written(job, tmp_path, keys, reason):
    write_random_checkpoint(NeoXConfig.load([job(**keys)]), tmp_path / "save")
    with pytest.raises(CheckpointError, match=rf"no architecture of Hugging Face has this model's block\. .*{reason}"):
        main([str(tmp_path / "save"), str(tmp_path / "hf"), "--to", "huggingface"])
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["save"]


HARD_TEXTS = (
    "\tif x:\n\t\treturn  1   \n\n\n    # end  \n",
    "a\r\nb\rc\n",
    "nul \0 del \x7f, ls \u2028, nbsp \xa0, bom \ufeff",
    "\uff26\uff55\uff4c\uff4c\u3000width \xbd \ufb01",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 cafe\u0301 caf\xe9",
    "  leading, 'd 'S, dangling .  , ? ! n't",
)
REAL_FILES = ("pygments/lexer.py", "megatron/core/datasets/helpers.cpp", "torch/include/ATen/ATen.h", "numpy/core/__init__.py")


def texts() -> list[str]:
    return [*HARD_TEXTS, *(real_file(path).read_text(encoding="utf-8") for path in REAL_FILES)]


def test_auto_tokenizer_has_our_ids_and_loses_no_byte(job, tmp_path):
    config = NeoXConfig.load([job()])
    write_random_checkpoint(config, tmp_path / "save")
    main([str(tmp_path / "save"), str(tmp_path / "hf"), "--to", "huggingface"])
    ours, theirs = build_tokenizer(config.data), AutoTokenizer.from_pretrained(tmp_path / "hf")
    for text in texts():
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text)
        assert theirs.decode(ids) == text
    assert theirs.eos_token_id == theirs.bos_token_id == ours.eod_id and theirs.pad_token_id == ours.pad_id
    assert theirs.decode([*ours.encode("x = 1"), ours.eod_id], skip_special_tokens=True) == "x = 1"
    assert theirs.model_max_length == config.model.max_position_embeddings
    generation = GenerationConfig.from_pretrained(tmp_path / "hf")
    assert (generation.eos_token_id, generation.pad_token_id) == (ours.eod_id, ours.pad_id)


def write_alone(section: DataConfig, folder: Path) -> tuple[Tokenizer, PreTrainedTokenizerFast]:
    """Write a tokenizer without a model; return ours and that of transformers."""
    ours = build_tokenizer(section)
    folder.mkdir()
    write_tokenizer(ours, section, 64, folder)
    return ours, AutoTokenizer.from_pretrained(folder)


def test_a_normalizer_an_infilling_token_and_a_missing_padding_token_are_kept(job_folder, tmp_path):
    vocabulary = json.loads((job_folder / "code-vocab.json").read_text())
    merges = [line.split(" ") for line in (job_folder / "code-merges.txt").read_text().splitlines()[1:]]
    backend = build_byte_level_backend(vocabulary, [(left, right) for left, right in merges])
    backend.normalizer = normalizers.NFC()
    backend.add_special_tokens(["<|endoftext|>", "<fim_prefix>", "<fim-suffix>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    for kind in ("HFTokenizer", "HFGPT2Tokenizer"):
        section = DataConfig(tokenizer_type=kind, vocab_file=str(tmp_path / "tokenizer.json"))
        ours, theirs = write_alone(section, tmp_path / kind)
        for text in texts():
            assert theirs(text)["input_ids"] == ours.encode(text)
        assert theirs("cafe\u0301")["input_ids"] == ours.encode("caf\xe9")
        assert (theirs.fim_prefix_token, theirs.fim_suffix_token_id) == ("<fim_prefix>", ours.vocab_size - 1)
        assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.eod_id, ours.pad_id)


@pytest.mark.parametrize("reader", ["whole", "gpt-neox"])
def test_the_vocabulary_of_polycoder_has_our_ids_with_each_reader_of_its_merges(test_data, tmp_path, reader):
    names = {key: str(test_data / "polycoder-vocab" / f"code-{name}") for key, name in POLYCODER.items()}
    section = DataConfig(tokenizer_type="GPT2BPETokenizer", merge_file_reader=reader, **names)
    ours, theirs = write_alone(section, tmp_path / "hf")
    for text in [*texts()[len(HARD_TEXTS) :], "a\r\nb\rc\n", "    x\n\t\ty  \n"]:
        lines = text.replace("\r\n", "\n").replace("\r", "\n")
        assert theirs(text)["input_ids"] == ours.encode(lines) and theirs.decode(theirs(text)["input_ids"]) == lines
    assert theirs.eos_token_id == ours.eod_id


POLYCODER = {"vocab_file": "vocab.json", "merge_file": "merges.txt"}


@pytest.mark.parametrize("form", ["gpt_neox", "llama", "qwen3"])
@pytest.mark.parametrize("whitespace_tokens", [False, True])
def test_a_sentencepiece_model_has_our_ids_in_a_folder_of_every_architecture(tmp_path, form, whitespace_tokens):
    train_sentencepiece(iter(texts()[-2:]), 600, tmp_path, whitespace_tokens=whitespace_tokens)
    section = DataConfig(tokenizer_type="SPMTokenizer", vocab_file=str(tmp_path / "code.model"))
    ours = build_tokenizer(section)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text(json.dumps({"model_type": form}))
    write_tokenizer(ours, section, 64, tmp_path / "hf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    for text in texts():
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text) and theirs.decode(ids) == text
    assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.eod_id, ours.pad_id)
    assert read_tokenizer_keys(tmp_path / "hf")["tokenizer_type"] == "SPMTokenizer"


def test_a_tokenizer_with_other_ids_in_transformers_is_left_out_with_a_log_line(tmp_path, caplog):
    lines = texts()[len(HARD_TEXTS)].splitlines()
    exact = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "add_dummy_prefix": False}
    for name, options in {"unigram": exact | {"byte_fallback": True}, "bpe": {"byte_fallback": True}}.items():
        with (tmp_path / f"{name}.model").open("wb") as file:
            SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_writer=file, vocab_size=600, minloglevel=2, model_type=name, **options
            )
    sections = [DataConfig(tokenizer_type="SPMTokenizer", vocab_file=str(path)) for path in sorted(tmp_path.iterdir())]
    (tmp_path / "hf").mkdir()
    for section in [*sections, DataConfig(tokenizer_type="CharLevelTokenizer")]:
        write_tokenizer(build_tokenizer(section), section, 64, tmp_path / "hf")
        assert not list((tmp_path / "hf").iterdir())
        assert f"{section.tokenizer_type} would have other ids in transformers: no tokenizer is written" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(("name", "billions"), [("160M", 0.16), ("405M", 0.41), ("2-7B", 2.7)])
def test_a_preset_has_the_parameters_of_transformers_qwen3(name, billions):
    model = NeoXConfig.load([Path("configs") / f"modern-{name}.yml"]).model
    values = make_config(model, 50_257)
    with torch.device("meta"):
        peer = Qwen3ForCausalLM(Qwen3Config(**values))
    count = sum(value.numel() for value in peer.parameters())
    assert values["model_type"] == "qwen3" and count == count_parameters(model, 50_257)
    assert abs(count / 1e9 / billions - 1) < 0.03
