"""Makes the paper's tables and figures from finished runs.

  python -m experiments.reproduce --workdirs=DIR0,DIR1,DIR2 --output=DIR [--table=NAME,...] [--figure=NAME,...]

Runs that differ in their seed alone are pooled; others stand beside one another. What a table needs and no report has
is played and kept in the runs' folders; what is there is read. Tables are written as Markdown, CSV and LaTeX, figures
as PNG and PDF. docs/paper.md ties each of them to the paper.
"""

from absl import flags

from experiments import cli
from negot_jax.config import require_known
from negot_jax.evaluation import paper, paper_figures
from negot_jax.run import folder, reproduction


def main() -> None:
    with cli.checking_input():
        if not _WORKDIRS.value:
            raise ValueError("--workdirs names no folder. Name at least one finished run.")
        output = folder.local_folder(_OUTPUT.value, "--output")
        neither = _TABLE.value is None and _FIGURE.value is None
        tables = _chosen("table", ["all"] if neither else _TABLE.value or [], paper.NAMES)
        figures = _chosen("figure", ["all"] if neither else _FIGURE.value or [], paper_figures.NAMES)
        plan = reproduction.plan(_WORKDIRS.value, tables, figures)
    for told in reproduction.make(plan, output):
        print(told, flush=True)


def _chosen(flag: str, wanted: list[str], known: tuple[str, ...]) -> list[str]:
    if wanted == [""] or (not wanted and flags.FLAGS[flag].present):
        raise ValueError(f"--{flag} is empty. Name some of {', '.join(known)}, or leave it out.")
    for name in wanted:
        require_known(f"--{flag}", name, (*known, "all"))
    return [name for name in known if name in wanted or "all" in wanted]


if __name__ == "__main__":
    _WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of finished runs, separated by commas.", required=True)
    _OUTPUT = flags.DEFINE_string("output", None, "Folder for the tables and figures.", required=True)
    _TABLE = flags.DEFINE_list("table", None, f"Tables: {', '.join(paper.NAMES)}, or all.")
    _FIGURE = flags.DEFINE_list("figure", None, f"Figures: {', '.join(paper_figures.NAMES)}, or all.")
    cli.run(main, compiles=True)
