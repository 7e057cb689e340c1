"""Figures: that they are drawn, with the lines that the data call for, told by their colors."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib import colors, image
import numpy as np
import pytest

from negot_jax.evaluation import figures, phases
from negot_jax.evaluation.episodes import Row
from negot_jax.evaluation.statistics import Interval, Summary

GREEN = "#009E73"


def draws(path, color):
    pixels = image.imread(path)[..., :3]
    return bool((np.abs(pixels - np.array(colors.to_rgb(color))).max(axis=-1) < 2 / 255).any())


def test_learning_curves_show_what_is_given(tmp_path):
    iteration = np.arange(60.0)
    curves = {"iteration": iteration, "reward": np.where(iteration == 3, np.nan, iteration / 60)}
    figures.learning_curves(curves, tmp_path / "train.png")
    assert draws(tmp_path / "train.png", figures.BLUE)
    assert not draws(tmp_path / "train.png", figures.VERMILION) and not draws(tmp_path / "train.png", GREEN)

    held_out = {n: {"reward": n / 90, "bargained_ratio": None} for n in (20, 40, 60)}
    levels = {"warm start": {"reward": 0.1, "bargained_ratio": None}}
    figures.learning_curves(curves, tmp_path / "all.png", levels, held_out)
    assert draws(tmp_path / "all.png", figures.VERMILION) and draws(tmp_path / "all.png", GREEN)


def test_levels_beyond_the_palette_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at most 4 levels"):
        figures.learning_curves({"iteration": np.arange(2.0)}, tmp_path / "x.png", {str(i): {} for i in range(5)})


def test_reward_intervals_mark_the_reference_and_grow_with_the_rows(tmp_path):
    def draw(rows):
        path = tmp_path / f"{rows}.png"
        metrics = {
            Row("scripted", f"row {i}"): {"reward": Interval(i / 9, i / 9 - 0.1, i / 9 + 0.1, 8)} for i in range(rows)
        }
        figures.reward_intervals(Summary(metrics, {}, {}, {}, Row("scripted", "row 0")), path)
        return path

    one, nine = draw(1), draw(9)
    assert draws(one, figures.VERMILION) and not draws(one, figures.BLUE)
    assert draws(nine, figures.VERMILION) and draws(nine, figures.BLUE)
    assert image.imread(nine).shape[0] > image.imread(one).shape[0]


@given(hnp.arrays(float, st.integers(1, 130), elements=st.floats(-9, 9) | st.just(np.nan)))
def test_smoothing_is_the_mean_of_the_finite_values_around(values):
    reach = len(values) // 40
    for i, smooth in enumerate(phases.smooth(values, reach)):
        around = values[max(0, i - reach) : i + reach + 1]
        finite = around[np.isfinite(around)]
        if finite.size:
            assert smooth == pytest.approx(finite.mean(), abs=1e-9)
        else:
            assert np.isnan(smooth)
