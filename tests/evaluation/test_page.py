"""The page of episodes: what is in the file, and in a headless Chromium what a reader sees and how fast."""

import dataclasses
import json
import re
import shutil
import subprocess

import pytest

from negot_jax.evaluation import transcripts
from negot_jax.evaluation.episodes import Message, Row
from negot_jax.game.types import BUYER, End, Kind
from tests.evaluation.made import episode

HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")


def some(count: int):
    """Episodes of two buyers and many products; one of ten over budget, one of ten incomplete."""
    over = dict(
        messages=(Message(BUYER, 0, Kind.OFFER, 9000, f"Talk: Needle {HOSTILE}\nAction: [BUY] $90 (1x lamps_1)"),),
        end=End.OVERSHOOT,
        reward=-1.0,
        deal_price=None,
        interventions=0,
    )
    failed = dict(incomplete="the server said 500")
    found = []
    for number in range(count):
        own = episode(product=number // 8, episode=number % 8, title=f"Lamp {number // 8} {HOSTILE}")
        own = dataclasses.replace(own, buyer=Row("start", "warm start")) if number % 2 else own
        found.append(dataclasses.replace(own, **{3: over, 7: failed}.get(number % 10, {})))
    return found


def test_the_file_stands_alone_and_no_text_leaves_its_place():
    html = transcripts.page(some(20))
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)[1]
    assert [own["title"] for own in json.loads(data)] == [own.title for own in some(20)]
    assert html.count("<script") == 2 and "owned" not in html.replace(data, "")
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)", html)
    assert "default-src 'none'" in html and "innerHTML" not in html


DRIVER = """<script>
const told = { load_ms: performance.now(), filter_ms: 0 };
const count = () => $("count").textContent.split(" ")[0];
const type = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
const set = (id, value) => {
  const before = performance.now();
  $(id)[typeof value === "boolean" ? "checked" : "value"] = value;
  $(id).oninput();
  $("list").getBoundingClientRect();
  told.filter_ms = Math.max(told.filter_ms, performance.now() - before);
};
told.first = $("episode").innerText;
told.linked = chosen.id;
told.rows = document.querySelectorAll(".row").length;
for (const [id, value, back] of [["search", "needle", ""], ["search", "$60 (1X", ""], ["search", "no such words", ""],
    ["over", true, false], ["intervened", true, false], ["outcome", "=incomplete", ""], ["high", "-0.5", ""],
    ["buyer", "=warm start", ""], ["product", "=2: " + EPISODES[16].own.title, ""]]) {
  set(id, value);
  told[`${id}=${value}`.slice(0, 24)] = count();
  if (value === "needle") told.marked = document.querySelector("main mark").textContent;
  if (value === "no such words") told.none = $("episode").innerText;
  set(id, back);
}
told.all = count();
type("j"); type("ArrowDown"); type("k");
told.keyed = location.hash;
type("r");
told.raw = $("episode").innerText;
type("r"); type("t");
told.open = document.querySelectorAll("main details[open]").length;
told.title = document.title;
told.wide = document.documentElement.scrollWidth <= innerWidth;
document.body.replaceChildren(JSON.stringify(told));
</script>"""


def driven(tmp_path, count: int, size: str, link: str = "") -> dict:
    """What the driver found after it had clicked through the page of so many episodes."""
    path = tmp_path / "episodes.html"
    path.write_text(transcripts.page(some(count)).replace("</body>", DRIVER + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *flags, profile, path.as_uri() + link], capture_output=True, text=True, timeout=120
    )
    text = re.search(r"<body>(\{.*\})", done.stdout, re.DOTALL)
    assert text, done.stdout[-500:] + done.stderr[-2000:]
    return json.loads(text[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@in_chromium
def test_it_filters_searches_links_and_obeys_keys(tmp_path):
    link = "#" + "trained/neutral//2/2".replace("/", "%2F")
    told = driven(tmp_path, 2000, "500,900", link)
    assert told["title"] == "Episodes" and HOSTILE in told["first"]
    assert "product 2, episode 2" in told["first"] and told["linked"] == "trained/neutral//2/2"
    assert told["all"] == "2,000" and told["rows"] < 60
    assert told["search=needle"] == told["over=true"] == told["high=-0.5"] == "200" and told["marked"] == "Needle"
    assert told["search=$60 (1X"] == told["intervened=true"] == "1,800"
    assert told["search=no such words"] == "0" and told["none"] == "No episode passes the filters."
    assert told["outcome==incomplete"] == "200" and told["buyer==warm start"] == "1,000"
    assert [value for name, value in told.items() if name.startswith("product=")] == ["8"]
    assert "EpisodesX" not in told["raw"] and '"deal_price"' in told["raw"] and told["open"] > 0
    assert told["keyed"].startswith("#") and told["wide"]
    # A quarter of a second and 30 ms on two busy cores.
    assert told["load_ms"] < 3_000 and told["filter_ms"] < 500, told
