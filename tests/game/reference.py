"""The game once more, from its rules, in plain Python: the oracle of the parity tests."""

import dataclasses

import numpy as np

NONE, MAX_PRICE = -1, 999_999_999
FORMAT_ERRORS = ("MISSING", "UNREADABLE", "CUT", "DEAL_WITHOUT_OFFER", "DEAL_MISMATCH")


@dataclasses.dataclass
class Game:
    """One episode; `say` plays a message of whoever's turn it is."""

    price: int
    budget: int
    cost: int
    scale: int
    margin_bp: int  # of the replacement moves
    turns: int
    regulation: str

    def __post_init__(self):
        self.log = []  # (turn, role, kind, price), as played
        self.standing = {"buyer": None, "seller": None}
        self.end = "ONGOING"
        self.deal_price = None
        self.interventions = 0

    def role(self) -> str:
        return "buyer" if len(self.log) % 2 == 0 else "seller"

    def say(self, kind: str, price: int) -> tuple[float, float]:
        """Returns the rewards of this message."""
        if self.end != "ONGOING":
            return 0.0, 0.0
        role, other = self.role(), "seller" if self.role() == "buyer" else "buyer"
        kind, price, error = self._check(kind, price, self.standing[other])
        turn = len(self.log) // 2

        if role == "seller" and self.regulation != "none":
            too_cheap = error is None and kind in ("OFFER", "DEAL") and price < self.cost
            if error or too_cheap:
                self.interventions += 1
                if self.regulation == "end":
                    error = "SELLER_ILLEGAL"
                else:
                    kind, price, error = "OFFER", self._counter_offer(turn), None

        self.log.append((turn, role, kind, price))
        if error:
            if role == "buyer" or error == "SELLER_ILLEGAL":
                self.end = error
        elif role == "buyer" and kind in ("OFFER", "DEAL") and price > self.budget:
            self.end = "OVERSHOOT"
            if kind == "OFFER":
                self.standing[role] = price
        elif kind == "DEAL":
            self.end, self.deal_price = "DEAL", price
        elif kind == "QUIT":
            self.end = role.upper() + "_QUIT"
        elif kind == "OFFER":
            self.standing[role] = price
        elif kind == "REJECT":
            self.standing[other] = None
        if self.end == "ONGOING" and len(self.log) == 2 * self.turns:
            self.end = "TURN_LIMIT"
        return self._rewards()

    def _check(self, kind, price, standing):
        if kind in ("OFFER", "DEAL") and not 0 <= price <= MAX_PRICE:
            kind = "UNREADABLE"
        if kind in ("MISSING", "UNREADABLE", "CUT"):
            return kind, None, kind
        if kind in ("REJECT", "QUIT"):
            return kind, None, None
        if kind == "DEAL":
            if standing is None:
                return kind, price, "DEAL_WITHOUT_OFFER"
            if abs(price - standing) > 1:
                return kind, price, "DEAL_MISMATCH"
            return kind, standing, None
        return kind, price, None

    def _counter_offer(self, turn: int) -> int:
        floor = min(max(self.cost - (-self.cost * self.margin_bp // 10_000), self.cost + 1), MAX_PRICE)
        start = max(self.price, floor)
        to_go_bp = round(10_000 * (1 - turn / (self.turns - 1)))
        ask = floor - (-(start - floor) * to_go_bp // 10_000)
        own = [price for _, role, kind, price in self.log if role == "seller" and kind == "OFFER"]
        if own:
            ask = min(ask, own[-1])
        return max(ask, self.cost + 1)

    def _rewards(self) -> tuple[float, float]:
        if self.end == "DEAL":
            shares = (self.budget - self.deal_price, self.deal_price - self.cost)
            buyer, seller = (np.clip(np.float32(share) / np.float32(self.scale), -1, 1) for share in shares)
            return buyer, seller
        if self.end == "OVERSHOOT" or self.end in FORMAT_ERRORS:
            return -1.0, 0.0
        return 0.0, 0.0
