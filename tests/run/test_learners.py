"""Runs in which the seller learns, or both sides do: trained, reported, met by others, and what is refused."""

import json

import jax
import numpy as np
import pytest

from negot_jax import run
from negot_jax.evaluation import episodes
from negot_jax.game.types import BUYER, SELLER, End
from negot_jax.run import match as matches
from negot_jax.run import reporting, reproduction, weights
from negot_jax.training.metrics import read_csv
from tests import tiny_run

SELLING = {
    "seller.model": "own",
    "seller.message_tokens": 32,
    "seller.decoding": "constrained",
    "evaluation.sellers": ("boulware",),
}
SELLER_LEARNS = {**SELLING, "learner.role": "seller", "buyer.policies": ("concession", "linear(start=0.5, end=1.0)")}
BOTH_LEARN = {**SELLING, "learner.role": "both", "buyer.model": "own", "self_play.pool": 2, "self_play.every": 1}


@pytest.fixture(scope="module")
def seller(tmp_path_factory) -> run.Run:
    made = run.build(
        tiny_run.overridden({**SELLER_LEARNS, "training.iterations": 2}), tmp_path_factory.mktemp("seller")
    )
    made.train()
    return made


@pytest.mark.slow
def test_a_seller_is_reported_beside_scripted_sellers_and_the_best_found(seller):
    report = seller.evaluate({"evaluation.best_response": True})
    told = json.loads((report.folder / "evaluation.json").read_text())
    own = seller.config.game.seller
    assert [row["label"] for row in told["rows"]] == ["warm start", "trained", own, "boulware", "best response"]
    played = episodes.read(report.folder / "episodes.jsonl")
    assert {one.role for one in played} == {SELLER} and {one.selling for one in played} > {episodes.TRAINED}
    for one in played:  # Its share, and never below the cost.
        share = 0 if one.deal_price is None else (one.deal_price - one.cost) / one.scale
        assert one.reward == pytest.approx(min(share, 1), abs=1e-6) and share >= 0
    reward = {row["label"]: row["metrics"]["reward"]["value"] for row in told["rows"]}
    assert reward["best response"] > reward[own]
    assert str(report).splitlines()[0].startswith("The trained seller earns") and "buyer concession, linear" in str(
        report
    )


def test_another_model_in_the_learners_seat_is_refused(seller):
    with pytest.raises(ValueError, match="config.seller.model .* the seller is the run's"):
        seller.prepare_evaluation({"seller.model": "scripted"})


def test_a_side_that_has_not_learned_is_not_exported(seller, tmp_path):
    with pytest.raises(ValueError, match="--role=buyer: .* has trained the seller alone. Leave --role out"):
        seller.export(tmp_path / "buyer", "buyer")


def test_the_tables_of_the_paper_are_of_buyers(seller):
    with pytest.raises(ValueError, match="has trained a seller, and these tables are of buyers"):
        reproduction.groups([str(seller.workdir)])


@pytest.mark.slow
def test_a_seller_meets_other_buyers_than_it_was_trained_with(seller):
    report = seller.evaluate({"buyer.policies": ("constant(share=0.9)",)})
    assert {one.buyer.label for one in episodes.read(report.folder / "episodes.jsonl")} == {"constant(share=0.9)"}


def test_a_buyer_is_trained_against_the_seller_of_another_run(seller, tmp_path):
    """How exploitable it is: the frozen seller of the run, by the run's folder, sells as its own weights say."""
    settings = {**SELLING, "seller.checkpoint": str(seller.workdir), "training.iterations": 1}
    buyer = run.build(tiny_run.overridden(settings), tmp_path)
    frozen = weights.init_opponent(buyer.parts, BUYER)
    learned = weights.restore(seller.parts, seller.workdir, seller.run_id).trained(SELLER)
    for ours, theirs in zip(*map(jax.tree.leaves, (frozen, learned)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert set(buyer.parts.inputs()) > {"seller.checkpoint"}
    config, changed = reporting.changes(buyer, {"seller.model": "scripted"})
    assert config.seller.checkpoint is None and set(changed) == {"seller.model", "seller.checkpoint"}
    with pytest.raises(ValueError, match="another tokenizer"):
        run.build(tiny_run.overridden({**settings, "language.vocab_size": 520}), tmp_path / "other")


@pytest.mark.slow
def test_two_runs_meet_in_a_match_if_one_has_trained_a_seller(seller, tmp_path):
    buyer = run.build(tiny_run.overridden({"training.iterations": 1, "evaluation.episodes": 1}), tmp_path)
    buyer.train()
    played = matches.prepare(f"run:{buyer.workdir}", f"run:{seller.workdir}", {}, count=2).play({}).episodes
    assert len(played) == 2 and all(message.text for own in played for message in own.messages)
    with pytest.raises(ValueError, match="--buyer=run:.*seller alone, which meets no other model"):
        matches.prepare(f"run:{seller.workdir}", f"run:{buyer.workdir}", {}, count=2)
    with pytest.raises(ValueError, match="is a run whose seller is scripted. Name .* a run with a seller of its own"):
        run.build(tiny_run.overridden({**SELLING, "seller.checkpoint": str(buyer.workdir)}), tmp_path / "other")


@pytest.mark.slow
def test_the_matrix_seats_the_language_model_of_a_run_opposite_the_buyers_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "PERSONAS", ("insulting",))
    monkeypatch.setattr(reproduction, "UNSEEN", ())
    settings = {"training.iterations": 1, "evaluation.episodes": 1}
    scripted = run.build(tiny_run.overridden(settings), tmp_path / "scripted")
    model = run.build(tiny_run.overridden({**settings, **SELLING}), tmp_path / "model")
    for buyer in (scripted, model):
        buyer.train()
    plan = reproduction.plan([str(scripted.workdir), str(model.workdir)], ["matrix"], [])
    names = [group.seller for group in plan.groups]
    size = f"{plan.groups[1].parameters:,} parameters"  # So that such sellers of other sizes are not taken for it.
    assert names == ["neutral(tick=100)", f"neutral, played by a cloned model at temperature 0.7, {size}"]
    with pytest.raises(ValueError, match="game.seller=floor: a language model sells, .*seller.model=scripted"):
        model.prepare_evaluation({"game.seller": "floor"})
    # Longer phrases than the model's messages have room for.
    (persona,) = plan.evaluations[plan.groups[1].name, "insulting"]
    assert persona.parts.config.seller.model == "scripted"
    monkeypatch.setattr(reproduction, "PERSONAS", ())
    (met,) = plan.evaluations["neutral(tick=100)", names[1]]
    frozen = weights.init_opponent(met.parts, BUYER)
    expected = weights.restore(model.parts, model.workdir, model.run_id).frozen.opponent
    for ours, theirs in zip(*map(jax.tree.leaves, (frozen, expected)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    list(reproduction.make(plan, tmp_path / "out"))
    rows = (tmp_path / "out/matrix.md").read_text().splitlines()
    cells = [line.split("|")[2:4] for line in rows if line.startswith("| neutral")]
    assert len(cells) == 2 and all("[" in cell for line in cells for cell in line)


@pytest.mark.slow
def test_self_play_resumes_bit_for_bit_and_reports_both_sides(tmp_path):
    once, twice = (tmp_path / name for name in ("once", "twice"))
    settings = {**BOTH_LEARN, "optimizer.schedule": "constant", "training.checkpoint_every": 1}
    run.build(tiny_run.overridden({**settings, "training.iterations": 4}), once).train()
    for iterations in (2, 4):
        both = run.build(tiny_run.overridden({**settings, "training.iterations": iterations}), twice)
        both.train()
    states = [weights.restore(both.parts, folder, both.run_id).states[4] for folder in (once, twice)]
    for ours, theirs in zip(*(jax.tree.leaves((state.weights, state.pools)) for state in states), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    curves = read_csv(twice / "metrics.csv")
    assert {"reward", "seller/reward", "seller/grad_norm"} <= curves.keys()
    report = both.evaluate()
    of_sellers = report.folder.parent / f"{report.folder.name}_sellers"
    played = [episodes.read(folder / "episodes.jsonl") for folder in (report.folder, of_sellers)]
    assert [{one.role for one in own} for own in played] == [{BUYER}, {SELLER}]
    assert "The trained buyer earns" in str(report) and "The trained seller earns" in str(report)


def test_two_learners_with_adapters_begin_with_one_base_and_adapters_of_their_own(tmp_path):
    parts = run.build(tiny_run.overridden({**BOTH_LEARN, "model.lora.rank": 2}), tmp_path).parts
    buyer, seller = (weights.init_learner(parts, role) for role in (BUYER, SELLER))
    for name in ("ends", "blocks"):
        jax.tree.map(np.testing.assert_array_equal, buyer[name], seller[name])
    assert (buyer["lora"]["query"]["a"] != seller["lora"]["query"]["a"]).all()


@pytest.mark.parametrize("warned, deals", [(True, 9), (False, 8)])
def test_a_pair_beyond_every_equilibrium_is_a_warning(warned, deals):
    """Ten products of equal gains: nine deals are more than 27/32 of them, eight are not."""
    deal = dict(title="", price=100, budget=90, cost=40, scale=100, messages=(), reward=0.0)
    made = [
        episodes.Episode(episodes.TRAINED, "", place, 0, end=end, deal_price=60 if end == End.DEAL else None, **deal)
        for place, end in enumerate([End.DEAL] * deals + [End.TURN_LIMIT] * (10 - deals))
    ]
    assert ("27/32" in reporting._beyond_equilibrium(made)) == warned


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"buyer.policies": ("linear",)}, "config.buyer .*learner.role='buyer'"),
        ({"self_play.pool": 2}, "config.self_play .*learner.role='buyer'"),
        ({"learner.role": "seller"}, "seller.model='scripted'.*Set seller.model='own'"),
        ({**SELLING, "learner.role": "both"}, "buyer.model='scripted'.*Set buyer.model='own'"),
        ({**SELLER_LEARNS, "seller.checkpoint": "x"}, "seller.checkpoint='.*x'.*the seller learns"),
        ({**SELLER_LEARNS, "buyer.policies": ()}, "buyer.policies is empty"),
        (
            {**BOTH_LEARN, "self_play.alternate": 9, "training.iterations": 9},
            "self_play.alternate=9: .* seller in none",
        ),
        ({**BOTH_LEARN, "algorithm.kl": "k3", "algorithm.kl_coefficient": 0.1}, "algorithm.kl='k3'.*one reference"),
    ],
)
def test_who_learns_and_who_does_not_must_fit(settings, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        run.build(tiny_run.overridden(settings), tmp_path)
