"""The work of `iteration` by `transformers`: a loop on the host, `generate` for every message, with the cache kept.

  python experiments/bench/peer_transformers.py [--seller=scripted|lm] [--repeats=5]

Needs torch and transformers, which the `test` extra brings, and nothing of this project. The seller's message is 24
tokens as well, scripted or of a second frozen model; the context is 64 + 6 * 24 + 5 * 24 = 328. The last line is JSON.
"""

import argparse
import json
import statistics
import time

import torch
import transformers

VOCAB, PROMPT, MESSAGE, TURNS, SCENARIOS, GROUP, MICRO = 576, 64, 24, 6, 16, 8, 16
ROWS = SCENARIOS * GROUP


def model(seed: int) -> transformers.Qwen3ForCausalLM:
    torch.manual_seed(seed)
    sizes = dict(hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, head_dim=32)
    rest = dict(num_key_value_heads=2, vocab_size=VOCAB, tie_word_embeddings=True, eos_token_id=None, pad_token_id=0)
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes, **rest)).float()


class Speaker:
    """A model and its cache over the dialogues so far."""

    def __init__(self, weights):
        self.weights, self.cache = weights, transformers.DynamicCache(config=weights.config)

    def __call__(self, dialogue):
        """The next message, tokens [rows, 24]."""
        known = dict(attention_mask=torch.ones_like(dialogue), past_key_values=self.cache)
        sampling = dict(max_new_tokens=MESSAGE, min_new_tokens=MESSAGE, do_sample=True, top_k=0)
        return self.weights.generate(dialogue, **known, **sampling)[:, dialogue.shape[1] :]


@torch.no_grad()
def rollout(buyer, seller):
    """Dialogues, which of their tokens are the buyer's, and a reward each: the share of even tokens in its messages."""
    buyer, seller = Speaker(buyer), seller and Speaker(seller)
    dialogue = torch.randint(3, VOCAB, (SCENARIOS, PROMPT)).repeat_interleave(GROUP, 0)
    own = torch.zeros_like(dialogue, dtype=torch.bool)
    for turn in range(TURNS):
        said = buyer(dialogue)
        dialogue = torch.cat([dialogue, said], 1)
        own = torch.cat([own, torch.ones_like(said, dtype=torch.bool)], 1)
        if turn < TURNS - 1:
            answer = seller(dialogue) if seller else torch.tensor([row[::-1] for row in said.tolist()])
            dialogue = torch.cat([dialogue, answer], 1)
            own = torch.cat([own, torch.zeros_like(answer, dtype=torch.bool)], 1)
    reward = ((dialogue % 2 == 0) & own).sum(1) / own.sum(1)
    return dialogue, own, reward


def update(buyer, optimizer, dialogue, own, reward):
    """GRPO with one pass and clipping at 0.2."""
    groups = reward.view(SCENARIOS, GROUP)
    advantage = ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)).view(-1, 1)
    optimizer.zero_grad()
    for rows in torch.arange(ROWS).split(MICRO):
        logits = buyer(dialogue[rows]).logits[:, :-1]
        log_probs = -torch.nn.functional.cross_entropy(logits.mT, dialogue[rows, 1:], reduction="none")
        ratio = (log_probs - log_probs.detach()).exp()
        gain = torch.minimum(ratio * advantage[rows], ratio.clamp(0.8, 1.2) * advantage[rows])
        (-(gain * own[rows, 1:]).sum() / own.sum()).backward()
    torch.nn.utils.clip_grad_norm_(buyer.parameters(), 1.0)
    optimizer.step()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seller", choices=["scripted", "lm"], default="scripted")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    buyer, seller = model(0), model(1).eval() if chosen.seller == "lm" else None
    optimizer = torch.optim.AdamW(buyer.parameters(), lr=1e-5)
    times = []
    for _ in range(1 + chosen.repeats):  # The first is not counted.
        start = time.perf_counter()
        played = rollout(buyer.eval(), seller)
        middle = time.perf_counter()
        update(buyer.train(), optimizer, *played)
        times.append((middle - start, time.perf_counter() - middle))
    rollouts, updates = zip(*times[1:], strict=True)
    median = statistics.median
    figures = {
        "peer": f"transformers {transformers.__version__}, torch {torch.__version__}, {chosen.seller} seller",
        "iter_s_median": median(map(sum, times[1:])),
        "rollout_s": median(rollouts),
        "update_s": median(updates),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
