"""Makes a page to read episodes in: one file that a browser opens, with filters, search and a chart of the prices.

  python -m experiments.page --episodes=FILE[,FILE...] --output=FILE.html

The files are JSONL: a report's episodes.jsonl, a match's, or a sample that training kept (WORKDIR/transcripts/*.jsonl).
"""

import os

from absl import flags

from experiments import cli
from negot_jax.evaluation import episodes, transcripts
from negot_jax.run import folder


def main() -> None:
    with cli.checking_input():
        parent, name = os.path.split(_OUTPUT.value)
        output = folder.local_folder(parent or ".", "--output") / name
        if output.is_dir():
            raise ValueError(f"--output={_OUTPUT.value} is a folder. Name a file in it, such as episodes.html.")
        paths = [os.path.expanduser(path) for path in _EPISODES.value]
        for path in paths:
            if not os.path.isfile(path):
                raise ValueError(f"--episodes={path} is not a file. Name those of reports, RUN/report/{episodes.FILE}.")
        found = [own for path in paths for own in episodes.read(path)]
        if not found:
            raise ValueError(f"--episodes={','.join(_EPISODES.value)} holds no episode. Name a file with some.")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(transcripts.page(found), encoding="utf-8")
    print(f"{len(found):,} episodes: {output}")


if __name__ == "__main__":
    _EPISODES = flags.DEFINE_list("episodes", None, "Files of episodes, separated by commas.", required=True)
    _OUTPUT = flags.DEFINE_string("output", None, "The page to write.", required=True)
    cli.run(main)
