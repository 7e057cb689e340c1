"""The paper's figures from episodes and training curves: PNG and PDF."""

from collections.abc import Callable, Mapping, Sequence
import pathlib
import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
import numpy as np

from negot_jax.evaluation import phases, statistics
from negot_jax.evaluation.episodes import Episode
from negot_jax.evaluation.figures import BLUE, GRAY, GREEN, ORANGE, PINK, SKY, VERMILION, legend, sheet, tidy
from negot_jax.evaluation.paper import Pairing
from negot_jax.game.types import BUYER, SELLER, Argument, End, Kind

NAMES = ("phases", "reward_gap", "prices", "frontier")
_COLORS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY)

Curves = Mapping[str, np.ndarray]


def draw(
    name: str, played: Sequence[Pairing], curves: Mapping[str, Sequence[Curves]], output: pathlib.Path
) -> list[pathlib.Path]:
    """Draws a figure of `NAMES`, or the heat map of the matrix, and returns the files.

    played: what each group of runs played against the seller that it trained against; for the matrix, against all.
    curves: by group, the columns of each run's metrics.csv; read for the phases alone.
    """
    if name == "matrix":
        return _save(_heat_map(played), output / name)
    paths = []
    for number, own in enumerate(played):
        made = _phases(curves[own.trained], own) if name == "phases" else _OF_EPISODES[name](own)
        paths += _save(made, output / (name if len(played) == 1 else f"{name}_{number + 1}"))
    return paths


def _save(figure: Figure, path: pathlib.Path) -> list[pathlib.Path]:
    paths = [path.with_name(f"{path.name}.{form}") for form in ("png", "pdf")]
    for own in paths:
        figure.savefig(own)
    return paths


def _figure(own: Pairing, rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    figure, panels = sheet(rows, columns, size)
    seeds = ", ".join(map(str, own.seeds))
    met = f"trained against {own.trained}" if own.trained else f"against {own.seller}"
    figure.suptitle(f"{met}, seed{'s' * (len(own.seeds) > 1)} {seeds}", fontsize=10)
    return figure, panels


def _column(curves: Curves, name: str) -> np.ndarray:
    """A metric by iteration; all nan where no iteration had a value, such as a bargained ratio without deals."""
    return curves.get(name, np.full(len(curves["iteration"]), np.nan))


_PANELS = {
    "first offer / budget": lambda column: column("first_offer_ratio"),
    "deal rate, %": lambda column: column("deal_rate"),
    "bargained ratio, in deals": lambda column: column("bargained_ratio"),
    "share of the surplus, all episodes": lambda column: column("deal_rate") * np.nan_to_num(column("bargained_ratio")),
    "messages that argue, per episode": lambda column: column("arguments"),
}


def _phases(runs: Sequence[Curves], own: Pairing) -> Figure:
    """Each seed thin, their mean thick within the band from the lowest to the highest, on training products.

    Where the buyer argues, two more panels: how often per episode, and with which arguments.
    """
    length = min(len(curves["iteration"]) for curves in runs)
    columns_RxT = lambda name: np.stack([_column(curves, name)[:length] for curves in runs])
    by_kind = {kind.name.lower(): columns_RxT(f"arguments/{kind.name.lower()}") for kind in Argument}
    by_kind = {kind: values_RxT for kind, values_RxT in by_kind.items() if (values_RxT > 0).any()}
    figure, grid = _figure(own, 2, 3 if by_kind else 2, (14 if by_kind else 10, 6.6))
    panels = [*grid[:, :2].flat, *grid[:1, 2:].flat]
    iterations, means = runs[0]["iteration"][:length], []
    for axis, (label, read) in zip(panels, _PANELS.items(), strict=False):
        values_RxT = read(columns_RxT)
        each_RxT = np.stack([phases.smooth(values, length // 40) for values in values_RxT])
        axis.plot(iterations, values_RxT.T, color=BLUE, alpha=0.25, linewidth=0.8, label="a seed")
        means.append(values_RxT.mean(axis=0))
        if len(runs) > 1:
            band = (each_RxT.min(axis=0), each_RxT.max(axis=0))
            axis.fill_between(iterations, *band, color=BLUE, alpha=0.15, linewidth=0, label="lowest to highest seed")
        axis.plot(iterations, each_RxT.mean(axis=0), color=BLUE, linewidth=2, label="running mean")
        if "%" in label:
            axis.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
        tidy(axis, ylabel=label)
    found = phases.find(*means[:3])
    for axis in grid.flat:
        for number, phase in enumerate(found):
            label = f"{phase.name} begins"
            axis.axvline(iterations[phase.start], color=_COLORS[number + 1], linestyle="--", label=label)
    legend(figure, np.array(panels))
    if by_kind:
        _arguments(grid[1, 2], iterations, by_kind)
    for axis in grid[1]:
        axis.set_xlabel("iteration" if found else "iteration (no phase: the opening does not fall)")
    return figure


def _arguments(axis: Axes, iterations: np.ndarray, by_kind: Mapping[str, np.ndarray]) -> None:
    """Running means over the seeds, one line per kind; those most used at the end come first."""
    means = {kind: phases.smooth(runs.mean(axis=0), len(iterations) // 40) for kind, runs in by_kind.items()}
    lines = []
    for place, kind in enumerate(sorted(means, key=lambda kind: -means[kind][-1])):
        style = ("-", "--")[place // len(_COLORS)]
        lines += axis.plot(iterations, means[kind], style, color=_COLORS[place % len(_COLORS)], label=kind)
    axis.set_ylim(top=1.5 * axis.get_ylim()[1])  # Room for the names.
    axis.legend(handles=lines, frameon=False, fontsize=8, ncols=2)
    tidy(axis, ylabel="messages by argument, per episode")


def _main_rows(own: Pairing) -> list[tuple[str, str]]:
    """Those that a figure has room for, by `Row.key`: start, trained buyer, tuned schedule, best response."""
    wanted = ("start", "trained", "tuned", "best response")
    found = dict.fromkeys(episode.row.key for episode in own.runs[0])
    return [key for key in found if key[0] in wanted]


def _of(own: Pairing, key: tuple[str, str]) -> list[Episode]:
    return [episode for run in own.runs for episode in run if episode.row.key == key and episode.complete]


def _reward_gap(own: Pairing) -> Figure:
    """Reward, and its distance to the best response, by how far the cost lies below the budget."""
    figure, grid = _figure(own, 1, 2, (10, 4.6))
    room = lambda episode: (episode.budget - episode.cost) / episode.price
    edges = np.unique(np.quantile([room(episode) for episode in own.runs[0]], np.linspace(0, 1, 9)))
    best = next((key for key in _main_rows(own) if key[0] == "best response"), None)
    binned = {key: _binned(_of(own, key), room, edges) for key in _main_rows(own)}
    for (key, (centers, means, errors)), color in zip(binned.items(), _COLORS, strict=False):
        grid[0, 0].errorbar(centers, means, errors, color=color, marker="o", markersize=4, capsize=2, label=key[1])
        if best and key != best:
            grid[0, 1].plot(centers, binned[best][1] - means, color=color, marker="o", markersize=4, label=key[1])
    for axis, label in zip(grid.flat, ("mean reward", "gap to the best response, in reward"), strict=True):
        axis.axhline(0, color=GRAY, linewidth=0.8)
        axis.axvline(0, color=GRAY, linewidth=0.8, linestyle=":")
        tidy(axis, xlabel="(budget − cost) / list price; left of 0: conflicting interest", ylabel=label)
    if not best:
        grid[0, 1].text(0.5, 0.5, "no best response was solved for", transform=grid[0, 1].transAxes, ha="center")
    legend(figure, grid)
    return figure


def _binned(
    episodes: Sequence[Episode], place: Callable[[Episode], float], edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bin centers, mean rewards, and twice their standard errors over products."""
    at = np.array([place(episode) for episode in episodes])
    reward, product = (np.array([getattr(episode, name) for episode in episodes]) for name in ("reward", "product"))
    bins = np.clip(np.digitize(at, edges) - 1, 0, len(edges) - 2)
    found = []
    for number in np.unique(bins):
        inside = bins == number
        by_product = [reward[inside & (product == own)].mean() for own in np.unique(product[inside])]
        error = 2 * np.std(by_product, ddof=1) / np.sqrt(len(by_product)) if len(by_product) > 1 else 0.0
        found.append((at[inside].mean(), np.mean(by_product), error))
    return tuple(np.array(found).T)


def prices(own: Pairing) -> Figure:
    """Offers of both sides by turn among the episodes that get that far, and how many do."""
    keys = _main_rows(own)
    figure, grid = _figure(own, 2, len(keys), (3.3 * len(keys), 5.6))
    for column, key in enumerate(keys):
        trajectories(grid[0, column], _of(own, key))
        grid[0, column].set_title(key[1], fontsize=10)
        _going_on(grid[1, column], _of(own, key))
    grid[0, 0].set_ylabel("price / list price")
    grid[1, 0].set_ylabel("episodes, %")
    for axis in grid[1]:
        axis.set_xlabel("turn")
    legend(figure, grid, columns=6)
    return figure


def trajectories(axis: Axes, episodes: Sequence[Episode]) -> None:
    """Draws both sides' offers by turn on an axis, over the list price: the median, and the middle half as a band."""
    turns = episodes[0].rules.turns
    for role, name, color in ((SELLER, "seller's asks", VERMILION), (BUYER, "buyer's offers", BLUE)):
        by_turn: dict[int, list[float]] = {turn: [] for turn in range(1, turns + 1)}
        for price, message in ((episode.price, message) for episode in episodes for message in episode.messages):
            if message.role == role and message.kind == Kind.OFFER:
                by_turn[message.turn + 1].append(message.price / price)
        places = [turn for turn, offers in by_turn.items() if offers]
        low, middle, high = np.array([np.percentile(by_turn[turn], (25, 50, 75)) for turn in places]).reshape(-1, 3).T
        axis.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0, label=f"{name}, middle half")
        axis.plot(places, middle, color=color, marker="o", markersize=4, label=f"{name}, median")
    for name, style, attribute in (("mean budget", "--", "budget"), ("mean cost", ":", "cost")):
        level = np.mean([getattr(episode, attribute) / episode.price for episode in episodes])
        axis.axhline(level, color=GRAY, linestyle=style, linewidth=1, label=name)
    tidy(axis, xticks=range(1, turns + 1), ylim=(0, 1.1))


def _going_on(axis: Axes, episodes: Sequence[Episode]) -> None:
    """How many episodes reach each turn, and how many have closed a deal by its end."""
    turns_T = np.arange(1, episodes[0].rules.turns + 1)
    last = np.array([episode.messages[-1].turn + 1 for episode in episodes])
    deal = np.array([episode.end == End.DEAL for episode in episodes])
    lines = {
        "reach the turn": (GRAY, "s", last >= turns_T[:, None]),
        "have a deal by its end": (GREEN, "^", deal & (last <= turns_T[:, None])),
    }
    for label, (color, marker, hold_TxN) in lines.items():
        shares_T = 100 * hold_TxN.mean(axis=1)
        axis.plot(turns_T, shares_T, color=color, marker=marker, markersize=4, label=label)
    tidy(axis, xticks=turns_T, ylim=(-3, 103))


def _frontier(own: Pairing) -> Figure:
    """Deal rate against the share of the surplus in deals: every buyer, and what the sellers' floors allow at most."""
    figure, grid = _figure(own, 1, 1, (7.6, 5.6))
    axis = grid[0, 0]
    summary = statistics.summarize([statistics.totals(run) for run in own.runs])
    markers = {"start": "s", "trained": "D", "tuned": "^", "best response": "*", "checkpoint": "."}
    for reward in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        rates = np.linspace(max(reward, 0.02), 1, 100)
        axis.plot(100 * rates, reward / rates, color=GRAY, linewidth=0.5, alpha=0.5)
        axis.text(100.5, reward, f"{reward:g}", fontsize=7, color=GRAY, va="center")
    for number, (row, metrics) in enumerate(summary.metrics.items()):
        rate, ratio = metrics["deal_rate"], metrics["bargained_ratio"]
        if ratio is None:
            continue
        color = VERMILION if row.kind == "trained" else (*_COLORS[:1], *_COLORS[2:])[number % 5]
        marker = markers.get(row.kind, "ovPXdh<>"[number % 8])
        style = {"color": color, "marker": marker, "markersize": 11 if row.kind == "best response" else 7}
        bars = {"xerr": _bar(rate, 100), "yerr": _bar(ratio, 1), "elinewidth": 0.8, "linestyle": ""}
        axis.errorbar(100 * rate.value, ratio.value, **bars, **style, label=row.label)
    if (floors := frontier(_of(own, _main_rows(own)[0]))) is not None:
        style = {"color": "black", "linewidth": 1.5, "label": "exact frontier: buys at the seller's floor"}
        axis.plot(100 * floors[0], floors[1], **style)
    tidy(axis, xlim=(0, 106), xlabel="deal rate, % (thin lines: equal reward, if no episode fails)")
    axis.set(ylim=(0, 1.05), ylabel="bargained ratio, share of the surplus in deals")
    legend(figure, grid, columns=2)
    return figure


def _bar(interval: statistics.Interval, unit: float) -> np.ndarray:
    """Its bounds as matplotlib wants them: distances below and above, [2, 1]."""
    return unit * np.maximum([[interval.value - interval.low], [interval.high - interval.value]], 0)


def frontier(episodes: Sequence[Episode]) -> tuple[np.ndarray, np.ndarray] | None:
    """The most that any buyer can reach against a scripted seller: deal rates, and the mean ratio of as many deals.

    A scripted seller's hidden floor is the least that it ever takes. Whoever knew it would buy at the floor, and for
    few deals choose the best; so the curve is exact for these episodes. None where one names no floor in dollars.
    """
    if not all(episode.hidden.get("floor", "").startswith("$") for episode in episodes):
        return None
    floors = np.array([round(100 * float(episode.hidden["floor"].strip("$"))) for episode in episodes])
    budget, scale = (np.array([getattr(episode, name) for episode in episodes]) for name in ("budget", "scale"))
    ratios = np.sort(((budget - floors) / scale)[floors <= budget])[::-1]
    deals = np.arange(1, len(ratios) + 1)
    return deals / len(episodes), np.cumsum(ratios) / deals


_OF_EPISODES = {"reward_gap": _reward_gap, "prices": prices, "frontier": _frontier}


def _heat_map(played: Sequence[Pairing]) -> Figure:
    """The trained buyers' reward by training and test seller."""
    trained, met = (list(dict.fromkeys(getattr(own, name) for own in played)) for name in ("trained", "seller"))
    rewards = np.full((len(trained), len(met)), np.nan)
    for own in played:
        summary = statistics.summarize([statistics.totals(run) for run in own.runs], resamples=2)
        rewards[trained.index(own.trained), met.index(own.seller)] = summary.metrics[summary.reference]["reward"].value
    figure, ((axis,),) = sheet(1, 1, (2.2 + 1.3 * len(met), 2.6 + 0.6 * len(trained)))
    image = axis.imshow(rewards, cmap="cividis", aspect="auto")
    middle = np.nanmean([np.nanmin(rewards), np.nanmax(rewards)])
    for (row, column), value in np.ndenumerate(rewards):
        told = "—" if np.isnan(value) else f"{value:.3f}"
        axis.text(column, row, told, ha="center", va="center", color="white" if value < middle else "black")
    wrap = lambda name: textwrap.fill(name.replace("(", " (", 1), 22)
    axis.set_xticks(range(len(met)), [wrap(name) for name in met], fontsize=8, rotation=20, ha="right")
    axis.set_yticks(range(len(trained)), [wrap(name) for name in trained], fontsize=8)
    axis.set(xlabel="meets", ylabel="trained against")
    figure.colorbar(image, ax=axis, label="reward")
    return figure
