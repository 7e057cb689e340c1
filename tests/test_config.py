"""Config: the round trip, and every refusal with the field, the value and the way out."""

import dataclasses
import re
from typing import Literal, Optional

from hypothesis import given
from hypothesis import strategies as st
from ml_collections import config_dict
import pytest

from negot_jax import config


@dataclasses.dataclass(frozen=True)
class Optimizer:
    learning_rate: float = config.field(1e-3, "Peak learning rate.")
    schedule: Literal["cosine", "linear"] | None = config.field(None, "Decay of the learning rate.")
    clip: float | None = config.field(None, "Largest gradient norm; none for no clipping.")
    decays: tuple[float, ...] = config.field((), "Decay rates.")


@dataclasses.dataclass(frozen=True)
class Train:
    iterations: int = config.field(10, "Updates of the policy.")
    algorithm: Literal["grpo", "ppo"] = config.field("grpo", "How advantages are estimated.")
    constrained: bool = config.field(True, "Whether decoding follows the grammar.")
    optimizer: Optimizer = config.field(Optimizer(learning_rate=0.5), "The buyer's optimizer.")
    critic: Optimizer | None = config.field(None, "The critic's optimizer.")
    data_dir: Optional[str] = config.field(None, "Where the catalog lies.")  # noqa: UP045, both spellings work


optimizers = st.builds(
    Optimizer,
    learning_rate=st.floats(allow_nan=False),
    schedule=st.sampled_from([None, "cosine", "linear"]),
    clip=st.none() | st.floats(allow_nan=False),
    decays=st.lists(st.floats(allow_nan=False)).map(tuple),
)


@given(
    st.builds(
        Train,
        iterations=st.integers(),
        algorithm=st.sampled_from(["grpo", "ppo"]),
        constrained=st.booleans(),
        optimizer=optimizers,
        critic=st.none() | optimizers,
        data_dir=st.none() | st.text(),
    )
)
def test_round_trip_gives_an_equal_and_hashable_config(train):
    again = config.replace(Train(), config.to_config_dict(train))
    assert again == train
    assert hash(again) == hash(train)


def test_what_is_not_given_keeps_the_default_of_the_enclosing_class():
    train = config.replace(Train(), config_dict.ConfigDict({"optimizer": {"clip": 1, "decays": [1, 0.5]}}))
    assert train == Train(optimizer=Optimizer(learning_rate=0.5, clip=1.0, decays=(1.0, 0.5)))
    assert type(train.optimizer.clip) is float
    assert config.replace(Train(), {"critic": {"clip": 2.0}}).critic == Optimizer(clip=2.0)


def test_an_optional_field_without_a_value_can_still_be_set():
    values = config.to_config_dict(Train())
    values.optimizer.clip = 2.0
    values.optimizer.schedule = "cosine"
    values.data_dir = "here"
    assert config.replace(Train(), values) == Train(
        optimizer=Optimizer(learning_rate=0.5, schedule="cosine", clip=2.0), data_dir="here"
    )
    with pytest.raises(TypeError):
        values.data_dir = 3


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"optimizer": {"learning_rat": 1.0}}, ValueError, r"optimizer\.learning_rat = 1\.0.*optimizer\.learning_rate"),
        ({"zzz": 1}, ValueError, r"unknown config field zzz = 1: did you mean "),
        ({"iterations": 3.0}, TypeError, r"iterations = 3\.0 is of type float, not int"),
        ({"iterations": True}, TypeError, r"iterations = True is of type bool, not int"),
        ({"constrained": 1}, TypeError, r"constrained = 1 is of type int, not bool"),
        ({"iterations": None}, TypeError, r"iterations = None is of type NoneType, not int"),
        ({"algorithm": "dpo"}, ValueError, r"algorithm = 'dpo' is not one of 'grpo' \| 'ppo'"),
        ({"optimizer": 3}, TypeError, r"optimizer = 3 is of type int, not Optimizer"),
        ({"optimizer": {"decays": [0.1, "x"]}}, TypeError, r"optimizer\.decays\[1\] = 'x' is of type str, not float"),
        ({"optimizer": {"decays": 0.1}}, TypeError, r"optimizer\.decays = 0\.1 is of type float, not tuple\[float"),
        ({"optimizer": {"clip": "1"}}, TypeError, r"optimizer\.clip = '1' is of type str, not float"),
    ],
)
def test_wrong_values_are_refused_with_field_value_and_expectation(values, error, message):
    with pytest.raises(error, match=message):
        config.replace(Train(), values)


@pytest.mark.parametrize("path", ["iterations", "optimizer", "optimizer.clip", "critic.learning_rate"])
def test_fields_are_known_by_their_path(path):
    config.require_field(Train, path)


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("iteration", "iterations"),
        ("optimizr.clip", "optimizer.clip"),
        ("optimizer.learning_rat", "optimizer.learning_rate"),
        ("learning_rate", "critic.learning_rate"),
        ("iterations.x", "iterations"),
    ],
)
def test_an_unknown_path_is_refused_with_the_nearest_field(path, near):
    with pytest.raises(ValueError, match=f"^unknown config field {re.escape(path)}: did you mean {near}"):
        config.require_field(Train, path)


def test_help_lists_every_field_by_path_with_type_default_and_help():
    lines = config.help_text(Train).splitlines()
    nested = [
        "Peak learning rate.",
        "Decay of the learning rate.",
        "Largest gradient norm; none for no clipping.",
        "Decay rates.",
    ]
    assert [line.strip() for line in lines[1::2]] == [
        "Updates of the policy.",
        "How advantages are estimated.",
        "Whether decoding follows the grammar.",
        "The buyer's optimizer.",
        *nested,
        "The critic's optimizer.",
        *nested,
        "Where the catalog lies.",
    ]
    assert lines[::2] == [
        "iterations: int = 10",
        "algorithm: 'grpo' | 'ppo' = 'grpo'",
        "constrained: bool = True",
        "optimizer: Optimizer",
        "optimizer.learning_rate: float = 0.5",
        "optimizer.schedule: 'cosine' | 'linear' | None = None",
        "optimizer.clip: float | None = None",
        "optimizer.decays: tuple[float, ...] = ()",
        "critic: Optimizer | None = None",
        "critic.learning_rate: float = 0.001",
        "critic.schedule: 'cosine' | 'linear' | None = None",
        "critic.clip: float | None = None",
        "critic.decays: tuple[float, ...] = ()",
        "data_dir: str | None = None",
    ]


def test_a_field_without_a_help_line_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Silent:
        seed: int = 0

    with pytest.raises(TypeError, match=r"seed has no help line"):
        config.help_text(Silent)
