"""Personas: how a seller behaves in words, apart from its prices. Plain strings; the language layer tokenizes them."""

from collections.abc import Mapping, Sequence
import dataclasses

from negot_jax.game.types import Argument, Kind

SPOKEN = (Kind.OFFER, Kind.REJECT, Kind.DEAL, Kind.QUIT)
Talk = Mapping[Kind, Sequence[str]]  # What is said with each kind of action: as many variants for every kind.
Arguments = Mapping[Argument, Sequence[str]]  # What is said to make an argument.

PLAIN_TALK: Talk = {
    Kind.OFFER: ("I can do this price.", "This is my price.", "How about this?", "Take it for this."),
    Kind.REJECT: ("That is too low.", "I cannot accept that.", "Please go higher.", "Not at that price."),
    Kind.DEAL: ("Sold.", "Agreed.", "It is yours.", "We have a deal."),
    Kind.QUIT: ("We are too far apart.", "No sale today.", "I must stop here.", "Goodbye."),
}


@dataclasses.dataclass(frozen=True)
class Persona:
    """A seller's manner.

    name: a word for it, which is all that a compact prompt says. manner: what a full prompt tells a language model,
    one or two sentences; empty for none. talk: what a scripted seller says. hints: what it says in place of that, where
    its act is such an argument.
    """

    name: str = "neutral"
    manner: str = ""
    talk: Talk = dataclasses.field(default_factory=lambda: PLAIN_TALK)
    hints: Arguments = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        variants = {len(self.talk.get(kind, ())) for kind in SPOKEN}
        if len(variants) != 1 or variants == {0}:
            kinds = ", ".join(kind.name for kind in SPOKEN)
            raise ValueError(f"persona {self.name!r}: talk needs equally many variants, at least one, for {kinds}")
        if not all(self.hints.values()):
            raise ValueError(f"persona {self.name!r}: each of its hints needs a text")
        for said in (said for lines in (*self.talk.values(), *self.hints.values()) for said in lines):
            if "\n" in said:
                raise ValueError(f"persona {self.name!r}: talk {said!r} must be a single line")


NEUTRAL = Persona()

# Those of arXiv 2604.09855, table 3, in our words.
BEGGING = Persona(
    "begging",
    "You are desperate for this sale. Sound sad, speak of your hardship, plead with the buyer every time.",
    {
        Kind.OFFER: ("Please, I need this sale.", "Have mercy, take this.", "I beg you.", "My family needs it."),
        Kind.REJECT: ("Please, not so low.", "I could not live on that.", "Do not do this to me.", "Please, more."),
        Kind.DEAL: ("Thank you so much.", "Bless you.", "You saved me.", "Thank you, sold."),
        Kind.QUIT: ("I have to give up.", "I cannot go on.", "I am sorry.", "It breaks my heart."),
    },
)
INSULTING = Persona(
    "insulting",
    "You are aggressive and curt. Belittle the buyer and their offers, and threaten to end the talk.",
    {
        Kind.OFFER: ("Stop wasting my time.", "Pay or get lost.", "Are you that poor?", "Last chance, cheapskate."),
        Kind.REJECT: ("What a joke.", "Ridiculous.", "Do not insult me.", "Try again, cheapskate."),
        Kind.DEAL: ("Finally. Sold.", "Take it and go.", "Fine, be off.", "About time."),
        Kind.QUIT: ("Get out.", "We are done here.", "Go away.", "I am sick of you."),
    },
)
UNYIELDING = Persona(
    "unyielding",
    "You are sure that your price is right. Turn down nearly every offer; come down rarely and little.",
    {
        Kind.OFFER: ("My price is firm.", "I do not bargain.", "It is worth every cent.", "This and no less."),
        Kind.REJECT: ("No.", "Out of the question.", "I will not.", "Never."),
        Kind.DEAL: ("Very well.", "Accepted.", "So be it.", "Agreed."),
        Kind.QUIT: ("Then no.", "I keep it.", "No sale.", "That is all."),
    },
)
PERSUADABLE = Persona(
    "persuadable",
    "Some arguments move you and others do not. Say what moved you, and what would.",
    hints={
        Argument.COMPARISON: ("I know that other shops ask less.", "Yes, the market price is lower."),
        Argument.DEFECT: ("Yes, it has a scratch.", "I know that it is worn."),
        Argument.BUDGET: ("I see that your budget is tight.", "I see that money is tight."),
        Argument.LOYALTY: ("I like a regular customer.", "Do come back."),
        Argument.URGENCY: ("Cash today would help.", "I like payment today."),
        Argument.FLATTERY: ("Yes, it is a lovely shop.", "I do have great taste."),
        Argument.THREAT: ("I see that you may walk away.", "I fear that you buy elsewhere."),
        Argument.FAIRNESS: ("I want to be fair.", "Let us meet halfway."),
    },
)
