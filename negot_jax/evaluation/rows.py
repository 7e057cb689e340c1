"""The rows of an evaluation: who played, as a record that other runs' rows can be matched with."""

from collections.abc import Mapping
import dataclasses
from typing import Any, Literal

Kind = Literal["start", "checkpoint", "trained", "scripted", "tuned", "best response", "served", "person"]


@dataclasses.dataclass(frozen=True)
class Row:
    """A player.

    kind: what it is. "start" is the model before reinforcement learning, "checkpoint" an earlier one of the run,
    "tuned" a schedule chosen on the training products. name: to print. parameters: numbers that were found, such as a
    tuned schedule's; a scripted player's are in its name. Runs that differ in them alone have the same row.
    """

    kind: Kind
    name: str
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def label(self) -> str:
        numbers = ", ".join(f"{name}={value:g}" for name, value in self.parameters)
        return f"{self.name}({numbers})" if numbers else self.name

    @property
    def key(self) -> tuple[str, str]:
        """What the row of another run must agree in to be pooled with this one."""
        return self.kind, self.name

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "parameters": dict(self.parameters)}


def from_json(values: Mapping[str, Any]) -> Row:
    return Row(values["kind"], values["name"], tuple(values["parameters"].items()))


def tuned(schedule: Any) -> Row:
    """The row of a linear schedule tuned on the training products. schedule: has `start` and `end`, shares of B."""
    return Row("tuned", "tuned linear", (("start", schedule.start), ("end", schedule.end)))


def checkpoint(iteration: int) -> Row:
    return Row("checkpoint", f"after {iteration} iterations")


TRAINED = Row("trained", "trained")
BEST_RESPONSE = Row("best response", "best response")
