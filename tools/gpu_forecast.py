"""A table of what tools/gpu_forecast.sh counted: gpu_forecast.py NAME LEDGER-OF-8 LEDGER-OF-16. Needs nothing but Python.

Where a step's cost is a + b · studies, two steps give both. The time is that of matrix products at the card's rate, then of all else at its bandwidth, as if
neither ever waited: a floor of this program, not a measurement.
"""

import json
import sys
from pathlib import Path

# Measured on such cards: bfloat16 products and copies, in TFLOP/s and TB/s; float32 and TF32 products as published, and attention at half the rate.
CARDS = {"H100 (790 TFLOP/s, 3.0 TB/s)": (790, 3.0), "H200 (790 TFLOP/s, 4.3 TB/s)": (790, 4.3)}
FLOAT32, TF32, ATTENTION = 60, 400, 0.5


def main(name, eight, sixteen):
    few, many = (sums(json.loads(Path(path).read_text().splitlines()[1])) for path in (eight, sixteen))
    per_study = {key: (many[key] - few[key]) / 8 for key in few}
    fixed = {key: few[key] - 8 * per_study[key] for key in few}
    tera = 1e12
    print(f"{name}: {many['calls']} kernels a step, the host waits {many['waits']} times")
    print(f"  a study: {per_study['sixteen'] / tera:.4f} TFLOP in sixteen bits, {per_study['attention'] / tera:.4f} in attention, "
          f"{per_study['float32'] / tera:.4f} in float32, {per_study['bytes'] / 1e9:.3f} GB between products")
    print(f"  a step besides: {fixed['bytes'] / 1e9:.1f} GB")
    print(f"  memory at most, as tensors count: {per_study['memory'] / 2**20:.0f} MiB a study and {fixed['memory'] / 2**30:.1f} GiB besides")
    for card, (rate, bandwidth) in CARDS.items():
        for studies in (64, 256, 1024):
            total = {key: fixed[key] + studies * per_study[key] for key in few}
            # A third of what heads and losses multiply is in the forward pass, exactly.
            products = total["sixteen"] / rate + total["attention"] / (ATTENTION * rate) + total["float32"] * (1 / 3 / FLOAT32 + 2 / 3 / TF32)
            seconds = products / tera + total["bytes"] / bandwidth / tera
            needed = total["sixteen"] + total["attention"] * 12 / 14 + total["float32"]
            print(f"  {card}, {studies:4} studies: {1e3 * seconds:6.1f} ms, {100 * total['bytes'] / bandwidth / tera / seconds:.0f} % of it between products; "
                  f"{studies / seconds:5.0f} studies/s, {100 * needed / seconds / tera / rate:.0f} % of the rate")


def sums(ledger):
    """Multiplications of each kind, bytes of everything but matrix products and attention."""
    total = dict.fromkeys(("sixteen", "float32", "attention", "bytes", "calls", "waits", "memory"), 0)
    for key, count in ledger.items():
        total["memory"] += count.get("bytes", 0)
        total["calls"] += count["calls"]
        total["waits"] += count["waits"]
        if not count["operations"]:
            total["bytes"] += count["read"] + count["written"]
        else:
            kind = "attention" if key.startswith("attention") else "float32" if " Float " in key else "sixteen"
            total[kind] += count["operations"]
    return total


if __name__ == "__main__":
    main(*sys.argv[1:])
