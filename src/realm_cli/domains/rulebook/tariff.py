"""The Northport parcel tariff: rules as data, and the pure solver that applies them in order.

A fee is a running total. Rules apply in the order of `RULES`; thresholds look at the running total at that moment, so
order matters and attributes interact. Rates come from the general tariff, are overridden per family, then per product.

Usage: `charge(Parcel("lamp", 7, 2, express=True), rates_for("lamp"))[-1].total`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

RULES = ("base", "zone", "express", "fragile", "insured", "member", "cap", "floor")
MAX_KG, BAND_KG, ZONES = 15, 5, 4  # weights 1..15 kg in bands of 5 kg; zones 1..4


@dataclass(frozen=True)
class Rates:
    """Every number of the tariff for one product. `rules.md` states the same in words; a test compares them."""

    base: tuple[int, int, int]  # light, medium, heavy
    zone: tuple[int, int, int]  # zones 2, 3, 4; zone 1 is free
    far_from: int  # zone 4: from this running total on ...
    far: int  # ... this surcharge replaces the table's
    express_limit: int  # below it express doubles, ...
    express_add: int  # ... from it on it adds this
    fragile: int
    fragile_waived: bool  # express parcels are hand-carried: no fragile surcharge, except to zone 4
    insured_limit: int  # below it insurance costs insured_low, ...
    insured_low: int
    insured_high: int  # ... from it on insured_high
    member_above: int  # members get member_off off when the running total is above this
    member_off: int
    cap: int
    floor: int


@dataclass(frozen=True)
class Parcel:
    """What a question states."""

    product: str
    kg: int
    zone: int
    express: bool = False
    fragile: bool = False
    insured: bool = False
    member: bool = False

    @property
    def band(self) -> int:
        """0 light (1-5 kg), 1 medium (6-10 kg), 2 heavy (11-15 kg)."""
        return (self.kg - 1) // BAND_KG


@dataclass(frozen=True)
class Step:
    """One rule that fired: `op` in "", "+", "-", "x", "cap", "floor" ("" sets the base); `total` is the result."""

    rule: str
    op: str
    operand: int
    total: int

    def __str__(self) -> str:
        if self.rule == "base":
            return f"base {self.total}"
        action = self.rule if self.op in ("cap", "floor") else f"{self.rule} {self.op}"
        return f"{action} {self.operand} = {self.total}"


GENERAL = Rates(
    base=(20, 30, 40),
    zone=(6, 10, 16),
    far_from=40,
    far=24,
    express_limit=45,
    express_add=30,
    fragile=5,
    fragile_waived=True,
    insured_limit=80,
    insured_low=8,
    insured_high=14,
    member_above=60,
    member_off=10,
    cap=100,
    floor=28,
)

FAMILIES: Mapping[str, Rates] = {
    "household": replace(GENERAL, base=(18, 26, 36), zone=(6, 12, 16), express_limit=40, fragile=7, far_from=36),
    "office": replace(
        GENERAL, base=(24, 34, 48), zone=(6, 10, 18), express_limit=50, express_add=36, insured_high=18, cap=120
    ),
    "garden": replace(
        GENERAL,
        base=(22, 32, 46),
        zone=(8, 14, 20),
        far_from=46,
        far=28,
        express_limit=48,
        express_add=35,
        fragile=9,
        insured_limit=70,
        insured_low=6,
        insured_high=16,
        member_above=75,
        member_off=15,
        cap=110,
        floor=36,
    ),
}

# product -> (family, rates that replace the family's)
PRODUCTS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "lamp": ("household", {"fragile": 11}),
    "chair": ("household", {"base": (18, 29, 36)}),
    "mirror": ("household", {"fragile": 15, "insured_high": 20}),
    "clock": ("household", {"zone": (6, 7, 16)}),
    "vase": ("household", {"fragile_waived": False}),
    "printer": ("office", {"insured_high": 22}),
    "desk": ("office", {"base": (24, 34, 55)}),
    "shelf": ("office", {"member_off": 6}),
    "mower": ("garden", {"express_add": 42}),
    "grill": ("garden", {"base": (22, 38, 46)}),
    "bench": ("garden", {"zone": (8, 11, 20)}),
    "tent": ("garden", {"member_off": 19, "fragile": 4}),
}

# The fields of Rates that a rule reads: what it means to get one rule from the wrong table.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "base": ("base",),
    "zone": ("zone", "far_from", "far"),
    "express": ("express_limit", "express_add"),
    "fragile": ("fragile", "fragile_waived"),
    "insured": ("insured_limit", "insured_low", "insured_high"),
    "member": ("member_above", "member_off"),
    "cap": ("cap",),
    "floor": ("floor",),
}


def family_of(product: str) -> str:
    """The family whose tables a product uses."""
    return PRODUCTS[product][0]


def rates_for(product: str) -> Rates:
    """The family's rates with the product's own ones in their place."""
    family, own = PRODUCTS[product]
    return replace(FAMILIES[family], **own)  # type: ignore[arg-type]  # field names are checked by the tests


def with_rule_from(rates: Rates, rule: str, other: Rates) -> Rates:
    """`rates`, but with everything that `rule` reads taken from `other`."""
    return replace(rates, **{name: getattr(other, name) for name in FIELDS[rule]})


def charge(
    parcel: Parcel, rates: Rates, *, skip: frozenset[str] = frozenset(), slips: Mapping[str, int] | None = None
) -> list[Step]:
    """The rules that fire, in order, with the running total after each.

    `skip` leaves rules out; `slips` adds an error to the result of a rule. Both exist for the noisy solvers.
    """
    steps: list[Step] = []
    total = 0
    for rule in RULES:
        action = None if rule in skip else _action(rule, parcel, rates, total)
        if action is None:
            continue
        op, operand = action
        total = _apply(op, operand, total) + (slips or {}).get(rule, 0)
        steps.append(Step(rule, op, operand, total))
    return steps


def _apply(op: str, operand: int, total: int) -> int:
    if op == "+":
        return total + operand
    if op == "-":
        return total - operand
    if op == "x":
        return total * operand
    return operand  # base, cap, floor


def _action(rule: str, parcel: Parcel, rates: Rates, total: int) -> tuple[str, int] | None:
    """(operation, operand) of a rule at this running total; None where it does not fire."""
    if rule == "base":
        return "", rates.base[parcel.band]
    if rule == "zone" and parcel.zone > 1:
        return "+", rates.far if parcel.zone == ZONES and total >= rates.far_from else rates.zone[parcel.zone - 2]
    if rule == "express" and parcel.express:
        return ("x", 2) if total < rates.express_limit else ("+", rates.express_add)
    if rule == "fragile" and parcel.fragile:
        waived = rates.fragile_waived and parcel.express and parcel.zone != ZONES
        return None if waived else ("+", rates.fragile)
    if rule == "insured" and parcel.insured:
        return "+", rates.insured_low if total < rates.insured_limit else rates.insured_high
    if rule == "member" and parcel.member and total > rates.member_above:
        return "-", rates.member_off
    if rule == "cap" and total > rates.cap:
        return "cap", rates.cap
    if rule == "floor" and total < rates.floor:
        return "floor", rates.floor
    return None
