"""Fine-tune with TRL or with Stanford Alpaca's own data module, in an environment of tools/peer_environment.py.

    python peer_trainers.py JOB.json        {"trainer": "trl", "model": DIR, "rows": [...], "batch_size": 8, "steps": 6, ...}

Prints one JSON line: the loss of each step and the number of tokens in it.
"""

import importlib.util
import json
import sys
import tempfile
import types
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

job = json.loads(Path(sys.argv[1]).read_text())
losses: list[float] = []
counts: list[int] = []


class InOrder:
    """Reads the rows in their order, and counts the tokens that enter the loss."""

    def _get_train_sampler(self, *args, **keywords):
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def compute_loss(self, model, inputs, *args, **keywords):
        counts.append(int((inputs["labels"][:, 1:] != -100).sum()))
        return super().compute_loss(model, inputs, *args, **keywords)

    def log(self, logs, *args, **keywords):
        if "loss" in logs:
            losses.append(logs["loss"])


SETTINGS = {
    "output_dir": tempfile.mkdtemp(),
    "per_device_train_batch_size": job["batch_size"],
    "max_steps": job["steps"],
    "learning_rate": job["lr"],
    "lr_scheduler_type": "constant",
    "weight_decay": 0.0,
    "logging_steps": 1,
    "report_to": [],
    "use_cpu": True,
    "save_strategy": "no",
    "disable_tqdm": True,
    "dataloader_num_workers": 0,
}


def train_with_trl() -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    class OrderedTrainer(InOrder, SFTTrainer):
        pass

    arguments = SFTConfig(
        **SETTINGS,
        completion_only_loss=True,
        max_length=job["max_length"],
        packing=job["packing"],
        bf16=False,
        gradient_checkpointing=False,
    )
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    tokenizer.pad_token = tokenizer.eos_token
    rows = Dataset.from_list([{"input_ids": row["ids"], "completion_mask": row["mask"]} for row in job["rows"]])
    OrderedTrainer(model, arguments, train_dataset=rows, processing_class=tokenizer).train()


def train_with_alpaca() -> None:
    """Stanford Alpaca's train.py, unchanged: its dataset and its collator, given to the Trainer as it does."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    helper = types.ModuleType("utils")  # of which only this function is needed; the module itself imports a client of OpenAI
    helper.jload = lambda path: json.loads(Path(path).read_text())
    sys.modules["utils"] = helper
    spec = importlib.util.spec_from_file_location("alpaca_train", Path(job["alpaca"]) / "train.py")
    alpaca = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alpaca)

    backend = Tokenizer.from_file(str(Path(job["model"]) / "tokenizer.json"))
    end = "<|endoftext|>"
    backend.post_processor = TemplateProcessing(single=f"{end} $A", special_tokens=[(end, backend.token_to_id(end))])  # as LLaMA's
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=end, pad_token="<|padding|>", model_max_length=job["max_length"], padding_side="right"
    )
    data_path = Path(tempfile.mkdtemp()) / "rows.json"
    data_path.write_text(json.dumps(job["rows"]))
    module = alpaca.make_supervised_data_module(tokenizer, types.SimpleNamespace(data_path=str(data_path)))

    class OrderedTrainer(InOrder, Trainer):
        pass

    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    OrderedTrainer(model=model, args=TrainingArguments(**SETTINGS, remove_unused_columns=False), **module).train()


{"trl": train_with_trl, "alpaca": train_with_alpaca}[job["trainer"]]()
print(json.dumps({"losses": losses, "counts": counts}))
