"""Phrases by which a message argues, and the automaton over bytes that finds them.

A pattern is lower-case ASCII in which a blank stands for a gap between words (blanks, tabs, line breaks, hyphens), an
apostrophe may be straight, curly or missing, and {a|b|} is one of several, possibly nothing. Case does not matter. A
phrase is heard where it stands as whole words and no negation stands right before it, as in "not really in a hurry".
(Words are letters and digits of ASCII; every other byte separates them.)
"""

import collections
from collections.abc import Mapping, Sequence
import functools
import operator

import numpy as np

from negot_jax.game.types import Argument

NEGATION = (
    "{not|no|never|without|hardly|nothing|{do|does|did|is|are|was|were|wo|would|ai|ca|could|should|have|has}n't}"
    "{ {a|an|the|any|in|on|that|so|too|such|really|very|much|at|all|of|need|be|been|going|to}|}"
    "{ {a|an|the|any|in|on|that|so|too|such|really|very|much|at|all|of|need|be|been|going|to}|} "
)
_CANNOT = "{can't|cannot|can not|couldn't|could not}"
_GOOD = "{great|wonderful|lovely|beautiful|excellent|gorgeous|superb|fantastic|amazing|impressive|splendid}"
_NOW = "{now|right now|today|at once|immediately|right away|straight away|on the spot|this minute|tonight}"
_WILL = "{will|i'll|would|going to|gonna|shall|must|have to|let me}"

PHRASES: Mapping[Argument, Sequence[str]] = {
    Argument.COMPARISON: (
        "{cheaper|less|lower|better|better prices|a better price|a better deal} {elsewhere|online|somewhere else}",
        "{cheaper|for less|for much less|lower} {at|in|from} {another|other|a different}",
        "{another|other|different|rival} {seller|shop|store|dealer|listing|offer|place|website}{s|}",
        "{others|they|competitors|most shops|most sellers} {sell|ask|charge|offer|want} {it |them |}{for |}less",
        "{seen|saw|found|find|get|got} {it|this|that|them|one|these|the same|similar ones|the same thing} "
        "{cheaper|for less|for much less|elsewhere|online|somewhere else}",
        "{market|average|usual|typical|going} {price|rate|value}{s|}",
        "{usually|normally|often} {sells|goes|costs} {for |}less",
        "competitor{s|}",
        "competition",
    ),
    Argument.DEFECT: (
        "{scratch|scratches|scratched|dent|dents|dented|stain|stains|stained|crack|cracks|cracked|chipped|worn}",
        "{damaged|damage|defect|defects|defective|broken|flaw|flaws|flawed|faded|rusty|torn|outdated|obsolete}",
        "{wear and tear|signs of {wear|use}|out of date|second hand|used a lot}",
        "{old|older|last year's|previous} {model|version}",
        "{missing|lacks|needs} {a |some |}{part|parts|box|manual|repair|repairs|cleaning|work}",
        "{poor|bad|rough|used} {condition|shape|quality}",
        "{not|isn't|doesn't look|does not look} {like |}new",
    ),
    Argument.BUDGET: (
        f"{_CANNOT} {{really |}}{{afford|spend|stretch|go {{any |}}{{higher|further|beyond|above}}|pay {{any |}}more}}",
        "{my|our|your|tight|limited|small|modest|strict} budget",
        "budget is {tight|limited|small|fixed}",
        "all {that |the money |}i {have|have got|can {spend|afford|pay}}",
        "all i've got",
        "{most|maximum|max} {that |}i can {pay|spend|afford|do|offer}",
        "{tight|short} on {money|cash|funds}",
        "{money|cash} is {tight|short}",
        "{don't|do not} have {any |}{more|that much|enough}",
        "{beyond|out of|above} my {means|reach|limit|price range}",
    ),
    Argument.LOYALTY: (
        "{come|came|coming|be|be right} back",
        "{buy|bought|order|ordered|shop|shopped} {here |from you |with you |}{again|before|often|regularly}",
        "{loyal|regular|repeat|returning|long time|longtime|faithful} {customer|buyer|client|business|patron}{s|}",
        "{repeat|future|more} {business|orders|purchases}",
        "{tell|recommend you to|send you} {all |}{my |}{friends|family|colleagues|others}",
        "{recommend|refer} you",
        "{good|great|five star|glowing} review{s|}",
        "{buy|order|need|want|take} {several|many} more",
        "{in the|and in} future",
        "next time",
    ),
    Argument.URGENCY: (
        f"{{pay|paying|buy|take|close|settle|collect|have|do|need|want|pick}} {{it |this |up |it up |}}{_NOW}",
        f"{{money|payment|cash|done|yours|deal}} {_NOW}",
        f"{{pay|paying|in|with}} {{full |}}cash{{ {_NOW}|}}",
        "cash in hand",
        "{immediate|instant|same day} {payment|purchase|pickup|deal}",
        "in {a|such a|some|a great} {hurry|rush}",
        "{urgent|urgently|asap|running out of time|time is short}",
        "ready to {pay|buy|close}",
        "{by|before} {tonight|tomorrow|the weekend|noon}",
    ),
    Argument.COURTESY: (
        "{please|thank you|thanks|kindly|sorry|respectfully|with {all |}{due |}respect|grateful}",
        "{i |we |would |}{really |}appreciate {it|that|this|your|you}",
        "good {morning|day|afternoon|evening}",
        "{would|could} you {mind|be so kind}",
        "if you {don't|do not|wouldn't|would not} mind",
        "{best|kind|warm} {wishes|regards}",
        "{a|my|it's a|real} pleasure",
    ),
    Argument.FLATTERY: (
        f"{_GOOD} {{taste|shop|store|selection|piece|item|seller|work|craftsmanship|collection|eye|service|person}}",
        "{really |clearly |}know your {stuff|trade|business|craft|goods}",
        "{you are|you're} {so |very |really |truly |}{kind|generous|honest|wise|smart|professional|charming|talented}",
        "{best|finest|nicest|kindest|smartest} {seller|shop|dealer|store|person|service}",
        "{i |we |do |}{really |truly |}{admire|adore} {your|you|this|it|what}",
        "{i |we |}{really |truly |}love {your|this|what you}",
        "{beautifully|well|finely} {made|kept|crafted}",
    ),
    Argument.INSULT: (
        "{stupid|idiot|idiots|idiotic|fool|fools|foolish|moron|greedy|greed|crook|thief|thieves|liar|pathetic}",
        "{scam|scammer|cheater|robbery|garbage|trash|rubbish|shameless|dishonest|worthless|laughable|ridiculous}",
        "{rip off|ripoff|ripping me off|robbing me}",
        "{what a|a|bad|sick} joke",
        "{are you|you must be|you're|you are} {crazy|insane|mad|out of your mind|kidding me|dreaming}",
        "shame on you",
    ),
    Argument.THREAT: (
        "{walk|walking|walks} away",
        f"{_WILL} {{just |}}{{leave|go|quit|walk|walk out|stop here}}",
        "{buy|look|shop|go|try|business} elsewhere",
        "{or|otherwise|else} {i'm gone|i am gone|i leave|i walk|i go|no deal}",
        "{i'm|i am} {out|done|leaving|gone}",
        "{last|final} {chance|offer|word}",
        "take it or leave it",
        "{deal is off|forget it|no deal}",
    ),
    Argument.FAIRNESS: (
        "{be|is|it's|only|more|fair and|sounds|seems|hardly|isn't|not} fair",
        "{not|isn't|is} {really |very |}fair",
        "fair {price|deal|offer|share|trade|compromise|and square|enough|value|to {me|us|both|you}}",
        "{unfair|fairly|fairness}",
        "{meet|meet me|meet us} {in the middle|halfway|half way}",
        "split the difference",
        "{reasonable|just|equitable|balanced|honest} {price|deal|offer|compromise}",
        "{both|each} {of us |sides |}{win|wins|gain|gains|benefit|benefits|give a little}",
        "{win win|compromise|good for both|give and take|even split|common ground}",
    ),
}
assert tuple(PHRASES) == tuple(Argument)

GAP = b" \t\r\n-"
WORD = b"abcdefghijklmnopqrstuvwxyz0123456789"
APOSTROPHES = "'\u2019"


def _add(arrows: list[dict[int, set[int]]], sources: set[int], pattern: str) -> set[int]:
    """Adds a pattern of `_spelled` after some nodes; returns the nodes where it ends. arrows: by node, from a byte."""
    while pattern:
        if pattern[0] == "{":
            choices, pattern = _choices(pattern)
            sources = set().union(*(_add(arrows, sources, choice) for choice in choices))
            continue
        gap, target = pattern[0] == " ", len(arrows)
        arrows.append(collections.defaultdict(set))
        for source in sources | {target} if gap else sources:
            for symbol in GAP if gap else pattern[0].encode("latin-1"):
                arrows[source][symbol].add(target)
        sources, pattern = {target}, pattern[1:]
    return sources


def _spelled(pattern: str) -> str:
    """The pattern with a character for each byte, and its apostrophes as choices."""
    return pattern.replace("'", f"{{{'|'.join(APOSTROPHES)}|}}").encode().decode("latin-1")


def _choices(pattern: str) -> tuple[list[str], str]:
    """The alternatives of the group that `pattern` begins with, and what follows the group."""
    depth, parts, start = 0, [], 1
    for i, character in enumerate(pattern):
        depth += (character == "{") - (character == "}")
        if depth == 0 or (depth == 1 and character == "|"):
            parts.append(pattern[start:i])
            start = i + 1
        if depth == 0:
            return parts, pattern[start:]
    raise ValueError(f"pattern {pattern!r} has a group that does not end")


@functools.cache
def automaton() -> tuple[np.ndarray, np.ndarray]:
    """The smallest deterministic automaton over bytes that hears `PHRASES`: next int32[S, 256], and acts int32[S].

    It starts in state 0. acts: the bits of the arguments that are made if a word ends here, that is before a byte
    outside `WORD` and at the end of the text.
    """
    root, negation = 0, 1
    arrows, made = [collections.defaultdict(set) for _ in (root, negation)], {}  # Of a nondeterministic automaton.
    for argument, patterns in PHRASES.items():
        for pattern in patterns:
            made |= dict.fromkeys(_add(arrows, {root}, _spelled(pattern)), 1 << argument)
    (negated,) = _add(arrows, {negation}, _spelled(NEGATION))

    lower = np.array([*range(256)])
    lower[[*WORD.upper()]] = [*WORD]
    symbols = [*WORD, *GAP, *APOSTROPHES.encode(), 0]  # 0 stands for all other bytes, which are alike.
    column = np.array([symbols.index(byte) if byte in symbols else len(symbols) - 1 for byte in lower])
    states, table = {(frozenset(), True): 0}, []  # The nodes reached, and whether a word may start here.
    for nodes, starts in (queue := list(states)):
        if starts:
            nodes = nodes | ({negation} if negated in nodes else {negation, root})
        reached = collections.defaultdict(set)
        for node in nodes:
            for symbol, targets in arrows[node].items():
                reached[symbol] |= targets
        row = [(frozenset(reached.get(symbol, ())), symbol not in WORD) for symbol in symbols]
        for target in row:
            if target not in states:
                states[target] = len(states)
                queue.append(target)
        table.append([states[target] for target in row])
    acts = [functools.reduce(operator.or_, (made.get(node, 0) for node in nodes), 0) for nodes, _ in states]
    table, acts = _smallest(np.array(table), np.array(acts))
    return table[:, column].astype(np.int32), acts.astype(np.int32)


def _smallest(table: np.ndarray, acts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merges states that nothing tells apart (Moore 1956). The start stays state 0."""
    _, block = np.unique(acts, return_inverse=True)
    while True:
        _, first, finer = np.unique(np.c_[block, block[table]], axis=0, return_index=True, return_inverse=True)
        if first.size == block.max() + 1:
            break
        block = finer.ravel()
    order = np.argsort(first)  # By first appearance, so that the start comes first.
    rank = np.argsort(order)
    return rank[finer.ravel()][table[first[order]]], acts[first[order]]
