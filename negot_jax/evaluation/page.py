"""The page of episodes: one self-contained file that shows, filters and searches them in a browser."""

from collections.abc import Sequence
from importlib import resources
import json

from negot_jax.evaluation.episodes import Episode
from negot_jax.evaluation.transcripts import ENDS

FILE = "episodes.html"  # In a report.


def html(episodes: Sequence[Episode]) -> str:
    """The page. It reads nothing from the network, and shows every text as text, whatever it holds."""
    template = resources.files("negot_jax.evaluation").joinpath("page.html").read_text(encoding="utf-8")
    ends = {end.name.lower(): told for end, told in ENDS.items()}
    for mark, data in (("__ENDS__", ends), ("__EPISODES__", [own.to_json() for own in episodes])):
        # Without "<", no text can end the script that holds it.
        told = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        template = template.replace(mark, told, 1)
    return template
