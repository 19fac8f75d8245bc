"""Command-line arguments into a configuration, and back into arguments for the ranks."""

from pathlib import Path

import pytest

from neox_code.config.command_line import build_config_parser, parse_command_line, read_shared_options
from neox_code.errors import ConfigError


def parse(*words):
    return parse_command_line(words, "Tests.")


def test_names_are_completed_and_the_folder_is_put_in_front():
    assert parse("-d", "configs", "small", "local_setup.yml").config_paths == (
        Path("configs/small.yml"),
        Path("configs/local_setup.yml"),
    )
    assert parse("a/2-7B", "--conf_dir=x").config_paths == (Path("x/a/2-7B.yml"),)


def test_options_may_stand_between_the_files():
    line = parse("a", "-i", "prompt.txt", "b", "--set", "lr=1", "c")
    assert [path.stem for path in line.config_paths] == ["a", "b", "c"]


def test_options_set_their_keys():
    words = "a -H hosts -i in.txt -o out.jsonl --iteration 7 --wandb_group g --wandb_run_name r --wandb_team t --local_rank=3"
    assert parse(*words.split()).overrides == {
        "hostfile": "hosts",
        "sample_input_file": "in.txt",
        "sample_output_file": "out.jsonl",
        "text_gen_type": "input-file",
        "iteration": 7,
        "wandb_group": "g",
        "wandb_run_name": "r",
        "wandb_team": "t",
    }


def test_set_replaces_the_files_value_and_reads_yaml():
    line = parse(
        "a",
        "--iteration",
        "7",
        "--set",
        "iteration=8",
        "--set=lr=6e-4",
        "--set",
        "train-iters=5",
        "--set=save=",
        "--set=prompt_end=a=b",
    )
    assert line.overrides == {"iteration": 8, "lr": 6e-4, "train_iters": 5, "save": None, "prompt_end": "a=b"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "the following arguments are required: config."),
        (("a", "--nonsense"), "unrecognized arguments: --nonsense."),
        (("a", "--iter", "5"), "unrecognized arguments: --iter 5. Did you mean --iteration?"),
        (("--iterations=5",), "the following arguments are required: config. Did you mean --iteration?"),
        (("a", "--iteration", "five"), "argument --iteration: invalid int value: 'five'."),
        (("a", "--autotuning", "tune"), "--autotuning cannot be used: DeepSpeed's autotuning is not built."),
        (("a", "--set", "lr"), "--set lr is not KEY=VALUE."),
        (("a", "--set", "=3"), "--set =3 is not KEY=VALUE."),
        (("a", "--set", "lr=[1"), "--set lr=[1 has no valid YAML value."),
        (("a", "--set", "seed=" + 5000 * "9"), "--set seed=" + 52 * "9" + "... has no valid YAML value."),
        (("a", "--set", "save=" + 3000 * "["), "--set save=" + 52 * "[" + "... has no valid YAML value."),
    ],
)
def test_unknown_arguments_are_one_error(words, sentence):
    with pytest.raises(ConfigError) as caught:
        parse(*words)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_message_names_the_option_that_set_the_value(write, shape):
    path = write("a.yml", "".join(f"{key}: {value}\n" for key, value in shape.items()))
    with pytest.raises(ConfigError, match=r"^iteration \(-1, --iteration\) must be at least 0"):
        parse(str(path), "--iteration", "-1").load()
    assert parse(str(path), "-i", "a", "-o", "b", "--set", "sample_output_file=c").options == {"sample_input_file": "-i"}


def test_the_ranks_arguments_make_the_same_configuration(write, shape):
    path = write("a.yml", "".join(f"{key}: {value}\n" for key, value in shape.items()))
    words = [
        str(path),
        "-i",
        "in put.txt",
        "--set",
        "lr=1e-05",
        "--set",
        'prompt_end="\\n"',
        "--set",
        "train_data_paths=[a, 'b c']",
    ]
    line = parse(*words, "--set", "zero_optimization.stage=0", "--set", "save=")
    again = parse(*line.arguments)
    assert again == line
    assert again.load() == line.load()
    assert again.load().optimizer.lr == 1e-5
    assert again.load().generation.prompt_end == "\n"


def test_a_command_adds_options_of_its_own():
    parser = build_config_parser("Compares.")
    parser.add_argument("--peer", choices=["transformers"])
    parsed = parser.parse_intermixed_args(["small", "--peer", "transformers", "--set", "lr=1"])
    assert parsed.peer == "transformers"
    assert read_shared_options(parsed).overrides == {"lr": 1}
