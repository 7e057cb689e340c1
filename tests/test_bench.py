"""The benchmarks, at sizes that measure nothing: they run, and do the work that they say."""

import pytest

from experiments.bench import game, iteration, report, timing
from negot_jax.run.config import override

pytestmark = pytest.mark.slow  # What they compile no other test does.
TINY = {
    "game.turns": 1,
    "model": {"layers": 1, "width": 16, "heads": 1, "kv_heads": 1, "head_dim": 16, "mlp": 16},
    "learner": {"scenarios": 2, "group": 2, "micro_batches": 1},
}


@pytest.fixture(scope="module")
def figures():
    return iteration.measure(override(iteration.config_of("lm"), TINY), repeats=1)


def test_no_message_and_no_game_ends_early(figures):
    assert figures["buyer_tokens"] == figures["seller_tokens"] == 4 * 24
    assert figures["context"] >= iteration.CONTEXT
    assert figures["rollout_s"]["median"] > 0 and figures["compile_s"] > 0


def test_the_report_shows_what_was_measured(figures, tmp_path):
    beside = figures | {"peer": "theirs", "peer_over_ours": 1.5}
    beside["peer_s"] = {name: timing.summary([9.0]) for name in ("iter_s_median", "rollout_s", "update_s")}
    found = {
        "machine": timing.machine(),
        "game": {"rows": [game.measure("floor", 4, repeats=1)]},
        "iteration": {"lm": beside},
        "scaling": {"turns": [{"size": size} | figures for size in (1, 2)]},
        "quickstart": {"whole": 60.0},
    }
    text = report.markdown(found)
    assert "| floor " in text and "9.00 (9.00-9.00)" in text and "1.50" in text and "60.00" in text
    report.plot(found["scaling"], tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 1_000
