"""Make `sales.csv`: a year and a half of orders of a shop that does not exist.

The figures are drawn from a seeded generator, so the file can be made again exactly: `python examples/make_sales.py`.
Like real exports it has gaps, stray spaces, a few unreadable cells and a few rows that were exported twice.
"""

from __future__ import annotations

import csv
import datetime
import math
import random
from pathlib import Path

PRICES = {"Tents": 240.0, "Backpacks": 95.0, "Boots": 130.0, "Jackets": 165.0, "Lamps": 28.0, "Stoves": 60.0}
REGIONS = {"North": 1.25, "South": 1.0, "East": 0.8, "West": 1.1}
CHANNELS = ["Online", "Store", "Partner"]
FIELDS = ["order_id", "date", "region", "category", "channel", "units", "unit_price", "discount", "revenue", "rating"]
ROWS = 840
START = datetime.date(2024, 1, 1)
DAYS = 547


def order(number: int, draw: random.Random) -> dict[str, object]:
    """Draw one order: summer sells more, the business grows, discounts raise the number of units."""
    day = int(DAYS * draw.random())
    date = START + datetime.timedelta(days=day)
    region = draw.choices(list(REGIONS), weights=list(REGIONS.values()))[0]
    category = draw.choice(list(PRICES))
    discount = draw.choice([0.0, 0.0, 0.0, 0.05, 0.1, 0.2])
    season = 1 + 0.45 * math.sin((date.timetuple().tm_yday - 90) / 365 * 2 * math.pi)
    units = max(1, round(draw.gammavariate(2.2, 1.4) * season * REGIONS[region] * (1 + day / 1500) * (1 + discount)))
    price = round(PRICES[category] * draw.uniform(0.85, 1.2), 2)
    rating = min(5.0, max(1.0, round(draw.gauss(4.1 if region != "East" else 3.6, 0.6), 1)))
    revenue = round(units * price * (1 - discount), 2)
    values = [10_000 + number, date, region, category, draw.choice(CHANNELS), units, price, discount, revenue, rating]
    return dict(zip(FIELDS, values, strict=True))


def dirty(orders: list[dict[str, object]], draw: random.Random) -> list[dict[str, object]]:
    """Spoil it a little, as hand-kept tables are."""
    for entry in draw.sample(orders, 52):
        entry["rating"] = ""
    for entry in draw.sample(orders, 9):
        entry["channel"] = ""
    for entry in draw.sample(orders, 6):
        entry["region"] = f" {entry['region']} "
    for entry in draw.sample(orders, 3):
        entry["unit_price"] = "see invoice"
    for entry in draw.sample(orders, 2):
        entry["revenue"] = round(float(str(entry["revenue"])) * 12, 2)
    return sorted([*orders, *draw.sample(orders, 5)], key=lambda entry: (str(entry["date"]), str(entry["order_id"])))


def main() -> None:
    """Write the file next to this program."""
    draw = random.Random(20240101)  # noqa: S311 - an example's figures, not a secret
    rows = dirty([order(number, draw) for number in range(1, ROWS + 1)], draw)
    with (Path(__file__).parent / "sales.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
