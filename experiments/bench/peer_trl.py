"""The work of `experiments.bench.gpu` by TRL: its `GRPOTrainer` on a Qwen3 of random weights.

  python experiments/bench/peer_trl.py --work=JSON [--repeats=2]

Needs the `peers` extra, and nothing of this project. An episode's messages are one completion here, as many tokens in
all, after a prompt that fills the context; `transformers` generates it. The last line is JSON with seconds.
"""

import argparse
import json
import statistics
import time

import datasets
import peft
import tokenizers
import torch
import transformers
import trl

EXAMPLE = dict(layers=2, width=64, heads=2, kv_heads=1, head_dim=32, mlp=192, vocab_size=576, scenarios=2, group=4)
EXAMPLE |= dict(prompt=40, completion=24, micro_batch=4, rank=16)


def model(work: dict) -> transformers.Qwen3ForCausalLM:
    torch.manual_seed(0)
    sizes = dict(hidden_size=work["width"], intermediate_size=work["mlp"], num_hidden_layers=work["layers"])
    heads = dict(num_attention_heads=work["heads"], num_key_value_heads=work["kv_heads"], head_dim=work["head_dim"])
    rest = dict(vocab_size=work["vocab_size"], tie_word_embeddings=True, eos_token_id=None, pad_token_id=0)
    made = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes, **heads, **rest))
    return made.to(torch.bfloat16 if torch.cuda.is_available() else torch.float32)


def word(token: int) -> str:
    """None contains another: an end token would be found inside."""
    return f"w{token:06}"


def tokenizer(size: int) -> transformers.PreTrainedTokenizerFast:
    """A word for each token."""
    ids = {word(token): token for token in range(size)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token=word(1)))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=word(0), eos_token=word(2), padding_side="left"
    )


class Timed(trl.GRPOTrainer):
    """Notes when sampling and an iteration begin and end."""

    def _generate_and_score_completions(self, inputs):
        start = now()
        made = super()._generate_and_score_completions(inputs)
        self.rollouts.append(now() - start)
        return made


class Clock(transformers.TrainerCallback):
    def __init__(self):
        self.iterations = []

    def on_step_begin(self, *_, **__):
        self.start = now()

    def on_step_end(self, *_, **__):
        self.iterations.append(now() - self.start)


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def reward(completions, **_):
    """As good as any other: the share of letters that are even digits."""
    return [sum(letter in "02468" for letter in text) / max(len(text), 1) for text in completions]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=json.loads, default=EXAMPLE)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", default="runs/trl", help="folder that the trainer may write to")
    chosen = parser.parse_args()
    work, on_gpu = chosen.work, torch.cuda.is_available()
    draw = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, work["vocab_size"], (work["scenarios"], work["prompt"]), generator=draw).tolist()
    texts = [" ".join(map(word, prompt)) for prompt in prompts]
    clock, parts = Clock(), work["scenarios"] * work["group"] // work["micro_batch"]
    trainer = Timed(
        model(work),
        reward,
        trl.GRPOConfig(
            chosen.output,
            max_steps=1 + chosen.repeats,  # The first is not counted.
            per_device_train_batch_size=work["micro_batch"],
            gradient_accumulation_steps=parts,
            num_generations=work["group"],
            max_completion_length=work["completion"],
            generation_kwargs={"min_new_tokens": work["completion"]},
            top_k=0,
            beta=0.0,
            learning_rate=1e-5,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            gradient_checkpointing=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        datasets.Dataset.from_dict({"prompt": texts}),
        processing_class=tokenizer(work["vocab_size"]),
        callbacks=[clock],
        peft_config=peft.LoraConfig(r=work["rank"], lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.rollouts = []
    trainer.train()
    median = lambda values: statistics.median(values[1:])
    figures = {
        "peer": f"trl {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
        "iter_s_median": median(clock.iterations),
        "rollout_s": median(trainer.rollouts),
        "update_s": median([whole - part for whole, part in zip(clock.iterations, trainer.rollouts, strict=True)]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
