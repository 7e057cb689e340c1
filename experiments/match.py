"""Plays any buyer against any seller: scripted, the best response, trained, served by an API, or a person.

  python -m experiments.match --buyer=run:DIR --seller=neutral --output=DIR
  OPENAI_API_KEY=... python -m experiments.match --buyer=api:MODEL --seller=run:DIR --output=DIR --max_dollars=5 \\
      --dollars_per_million=0.4,1.6
  python -m experiments.match --buyer=checkpoint:FOLDER --seller=api:MODEL@http://127.0.0.1:8000/v1 --output=DIR

The episodes, the tables and the kept answers of servers are in --output; the same command goes on from there without
asking again. docs/match.md says what a server is asked, and what follows when it fails.
"""

import json
import os
import re
import shlex
import sys

from absl import flags

from experiments import cli
from negot_jax import run
from negot_jax.evaluation.match.api import ANSWERS, Budget, Endpoint, ServedPlayer, StopMatch, charge_kept
from negot_jax.game.types import BUYER, SELLER, SIDES
from negot_jax.run import folder, match


def main() -> None:
    with cli.checking_input():
        output = folder.local_folder(_OUTPUT.value, "--output")
        specs, served, budget = [_BUYER.value, _SELLER.value], {}, _budget()
        for role, side in ((BUYER, "buyer"), (SELLER, "seller")):
            if found := re.fullmatch(r"api:(.+?)(?:@(https?://.*))?", specs[role]):
                if "://" in found[1]:
                    raise ValueError(f"--{side}={specs[role]}: write api:MODEL@URL, the URL with http:// or https://.")
                specs[role] = f"api:{found[1]}"
                served[role] = ServedPlayer(_endpoint(found[1], found[2] or _URL.value), output / ANSWERS, budget)
        if not served and (given := [flag.name for flag in _OF_SERVERS if flag.present]):
            raise ValueError(f"--{given[0]} is for a player api:MODEL, and there is none. Leave it out.")
        planned = match.prepare(*specs, _overrides(), count=_PRODUCTS.value)
        planned.require_own(output)
        output.mkdir(parents=True, exist_ok=True)
        charge_kept(output / ANSWERS, budget)
    try:
        played = planned.play(served)
    except StopMatch as error:
        raise cli.InputError(f"{error}. The same command goes on from the answers in {output}.") from None
    counts = {SIDES[role]: dict(player.counts) for role, player in served.items()}
    if served:
        counts["all"] = {"tokens": budget.tokens, "dollars": round(budget.dollars, 6)}
    command = shlex.join(["python", "-m", "experiments.match", *sys.argv[1:]])
    print(planned.report(played, counts, output, command))
    print(f"{output}\n", flush=True)
    if incomplete := [own for own in played.episodes if not own.complete]:
        raise cli.InputError(
            f"{len(incomplete)} of {len(played.episodes)} episodes are incomplete, the first because of "
            f"{incomplete[0].incomplete[:200]}. The same command asks for what is missing."
        )


def _endpoint(model: str, url: str) -> Endpoint:
    key = os.environ.get(_KEY.value, "").strip()
    if not key and "api.openai.com" in url:
        raise ValueError(f"{_KEY.value} is not set: the key of {url} is read from the environment. Set it.")
    try:
        request = json.loads(_REQUEST.value)
    except ValueError as error:
        raise ValueError(f"--request={_REQUEST.value} is not a JSON object: {error}.") from error
    if not isinstance(request, dict):
        raise ValueError(f'--request={_REQUEST.value} is not a JSON object, such as {{"max_tokens": 512}}.')
    if wrong := {"model", "messages", "stream", "n"} & request.keys():
        raise ValueError(f"--request sets {sorted(wrong)[0]}, which the match sets itself. Leave it out.")
    asked = dict(timeout=_TIMEOUT.value, retries=_RETRIES.value, concurrency=_CONCURRENCY.value)
    return Endpoint(model, url, key or "-", tuple(request.items()), reprompts=_REPROMPT.value, **asked)


def _budget() -> Budget:
    try:
        prices = tuple(float(price) for price in _PRICES.value)
    except ValueError:
        prices = ()
    if _PRICES.value and (len(prices) != 2 or not all(0 <= price < 1e9 for price in prices)):
        raise ValueError(f"--dollars_per_million={','.join(_PRICES.value)}: give two prices, as in 0.4,1.6.")
    if _DOLLARS.value is not None and not prices:
        raise ValueError("--max_dollars needs the prices: --dollars_per_million=PROMPT,ANSWER.")
    return Budget(_TOKENS.value, _DOLLARS.value, prices or (0.0, 0.0))


if __name__ == "__main__":
    _PLAYERS = "run:DIR, checkpoint:FOLDER, api:MODEL[@URL], person, or a scripted one"
    _BUYER = flags.DEFINE_string("buyer", None, f"{_PLAYERS}, or best_response.", required=True)
    _SELLER = flags.DEFINE_string("seller", "", f"{_PLAYERS}; by default the run's own.")
    _overrides = cli.define_overrides(run.Config, "Fields to set: --config.x.y=v.")
    _OUTPUT = flags.DEFINE_string("output", None, "Folder of the match.", required=True)
    _PRODUCTS = flags.DEFINE_integer("products", None, "Play the first N held-out products; by default all.")
    _URL = flags.DEFINE_string("base_url", "https://api.openai.com/v1", "Server of api players that name no URL.")
    _KEY = flags.DEFINE_string("key_variable", "OPENAI_API_KEY", "The environment variable that holds the key.")
    _REQUEST = flags.DEFINE_string("request", '{"max_tokens": 512}', "Further fields of every request, as JSON.")
    _TIMEOUT = flags.DEFINE_float("timeout", 120.0, "Seconds for a whole answer.", lower_bound=0.01)
    _RETRIES = flags.DEFINE_integer("retries", 5, "Further tries of a request that failed.", lower_bound=0)
    _CONCURRENCY = flags.DEFINE_integer("concurrency", 8, "Requests at once.", lower_bound=1)
    _REPROMPT = flags.DEFINE_bool("reprompt", True, "Ask once more for a message that cannot be read.")
    _TOKENS = flags.DEFINE_integer("max_tokens", None, "Stop asking once this many tokens are used.", lower_bound=0)
    _DOLLARS = flags.DEFINE_float("max_dollars", None, "Stop asking once this much is spent.", lower_bound=0)
    _PRICES = flags.DEFINE_list("dollars_per_million", [], "Prices of a million tokens of prompt and of answer.")
    _OF_SERVERS = (_URL, _KEY, _REQUEST, _TIMEOUT, _RETRIES, _CONCURRENCY, _REPROMPT, _TOKENS, _DOLLARS, _PRICES)
    cli.run(main, run.Config, compiles=True)
