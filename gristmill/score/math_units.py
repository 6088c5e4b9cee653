"""Units that answers are given in: which are known, and how they convert.

Not covered: temperatures (their scales have different zeros), and the pound of weight, which is read as money.
"""

import re
from fractions import Fraction
from functools import lru_cache


def _table(text: str) -> dict[str, tuple[Fraction, str]]:
    units = {}
    for line in text.strip().splitlines():
        dimension, _, rest = line.strip().partition(": ")
        for entry in rest.split("; "):
            names, _, factor = entry.partition(" = ")
            units.update(dict.fromkeys(names.split(), (Fraction(factor), dimension)))
    return units


UNITS = _table(
    """
    length: mm millimeter millimeters millimetre millimetres = 1/1000; cm centimeter centimeters = 1/100
    length: centimetre centimetres = 1/100; m meter meters metre metres = 1; km kilometer kilometers = 1000
    length: kilometre kilometres = 1000; in inch inches = 0.0254; ft foot feet = 0.3048; yd yds yard yards = 0.9144
    length: mi mile miles = 1609.344
    mass: mg milligram milligrams = 1/1000000; g gram grams = 1/1000; kg kgs kilogram kilograms = 1
    mass: oz ounce ounces = 0.028349523125; lb lbs = 0.45359237; ton tons = 1000
    time: ms millisecond milliseconds = 1/1000; s sec secs second seconds = 1; min mins minute minutes = 60
    time: h hr hrs hour hours = 3600; day days = 86400; week weeks = 604800; month months = 2629800
    time: year years yr yrs = 31557600
    money: cent cents = 1/100; dollar dollars usd = 1
    euro: euro euros eur = 1
    pound: pound pounds gbp = 1
    angle: degree degrees deg = 1; radian radians rad = 57.29577951308232
    volume: ml milliliter milliliters = 1/1000; l liter liters litre litres = 1; gallon gallons gal = 3.785411784
    speed: mph = 0.44704; kph kmh = 5/18
    clock: am = 1; pm = 2
    """
)
"""Units that are understood, by name: how many of the base unit of their dimension one of them is."""

_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_TOKEN = re.compile(r"[A-Za-z.]+(?:-[a-z]+)?|[/^]|-?\d")


@lru_cache(maxsize=10_000)
def measure(unit: str) -> tuple[Fraction, tuple[tuple[str, int], ...]] | None:
    """A unit as a factor and its dimensions with their powers: `km/h` is (5/18, length 1, time -1).

    None for words that are no known unit.
    """
    factor, powers = Fraction(1), dict[str, int]()
    side, ahead, last = 1, 1, ""
    for token in _TOKEN.findall(unit):
        if token in ("/", "per"):
            side = -1
        elif token.lower() in _POWERS:
            ahead = _POWERS[token.lower()]
        elif token == "^":
            continue
        elif token.lstrip("-").isdigit():
            if not last:
                return None
            more = int(token) - 1
            powers[UNITS[last][1]] += side * more
            factor *= UNITS[last][0] ** (side * more)
        else:
            last = token if token in UNITS else token.lower() if token.lower() in UNITS else token.rstrip(".")
            if last not in UNITS:
                return None
            powers[UNITS[last][1]] = powers.get(UNITS[last][1], 0) + side * ahead
            factor *= UNITS[last][0] ** (side * ahead)
            ahead = 1
    found = tuple(sorted((name, power) for name, power in powers.items() if power))
    return (factor, found) if found else None
