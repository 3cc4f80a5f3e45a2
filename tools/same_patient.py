#!/usr/bin/env python3
"""Same-patient retrieval of embeddings: is the nearest other study of a study one of the same
patient?

    tools/same_patient.py TRAINED.npy … [--against UNTRAINED.npy …] [--k 1]

Each NPY is the output of `medst embed --out FILE.npy`; FILE.csv next to it names the study of each
row. All have the same studies, one file per seed. A query's figure is its mean over the seeds.
Intervals are 95 % percentiles of a bootstrap over patients, so they cover the choice of patients
and not that of seeds; the difference is between the same patients. Studies that are as near as the
right one count as nearer. Needs the standard library only.
"""

import argparse
import array
import csv
import json
import random
import struct
from pathlib import Path


def vectors(path):
    """The rows of a float32 NPY file, scaled to length one."""
    data = Path(path).read_bytes()
    assert data[:6] == b"\x93NUMPY", f"{path}: no NPY file"
    start = 10 + struct.unpack("<H", data[8:10])[0]
    header = data[10:start].decode("latin1")
    assert "'<f4'" in header and "'fortran_order': False" in header, f"{path}: {header}"
    rows, width = (int(n) for n in header.split("'shape': (")[1].split(")")[0].split(",")[:2])
    values = array.array("f")
    values.frombytes(data[start:])
    found = [values[row * width : (row + 1) * width].tolist() for row in range(rows)]
    return [[x / sum(x * x for x in row) ** 0.5 for x in row] for row in found]


def studies(path):
    """The rows of the list next to an NPY file."""
    with open(Path(path).with_suffix(".csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def hits(embeddings, subjects, k):
    """For each study, whether one of the `k` nearest others is of the same patient; None if the
    patient has no other.
    """
    found = []
    for row, own in enumerate(embeddings):
        scores = [cosine(own, other) for other in embeddings]
        right = [s for n, s in enumerate(scores) if n != row and subjects[n] == subjects[row]]
        if not right:
            found.append(None)
            continue
        ahead = sum(1 for n, s in enumerate(scores) if subjects[n] != subjects[row] and s >= max(right) - 1e-6)
        found.append(float(ahead < k))
    return found


def guess(subjects, k):
    """The figure that guessing would reach, over the same queries."""
    each = []
    for row, subject in enumerate(subjects):
        right = subjects.count(subject) - 1
        if right:
            miss = 1.0
            for place in range(k):
                miss *= max(0.0, len(subjects) - 1 - right - place) / (len(subjects) - 1 - place)
            each.append(1.0 - miss)
    return sum(each) / len(each)


def interval(by_subject, replicates=2000, seed=0):
    """Mean over queries, and its percentiles over resampled patients; `by_subject`: lists of
    figures.
    """
    groups = list(by_subject.values())
    mean = lambda some: sum(map(sum, some)) / sum(map(len, some))
    draw = random.Random(seed)
    means = sorted(mean(draw.choices(groups, k=len(groups))) for _ in range(replicates))
    return [mean(groups), means[int(0.025 * replicates)], means[int(0.975 * replicates)]]


def by_subject(values, subjects):
    groups = {}
    for value, subject in zip(values, subjects):
        if value is not None:
            groups.setdefault(subject, []).append(value)
    return groups


def mean_over(files, subjects, k):
    each = [hits(vectors(file), subjects, k) for file in files]
    return [None if own[0] is None else sum(own) / len(own) for own in zip(*each)], each


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", nargs="+")
    parser.add_argument("--against", nargs="*", default=[])
    parser.add_argument("--k", type=int, default=1)
    arguments = parser.parse_args()
    subjects = [row["subject_id"] for row in studies(arguments.trained[0])]
    trained, each = mean_over(arguments.trained, subjects, arguments.k)
    queries = [value for value in trained if value is not None]
    seeds = [sum(v for v in own if v is not None) / len(queries) for own in each]
    said = {
        "studies": len(subjects),
        "patients": len(set(subjects)),
        "queries": len(queries),
        "patients with several": len(by_subject(trained, subjects)),
        "k": arguments.k,
        "chance": guess(subjects, arguments.k),
        "trained": interval(by_subject(trained, subjects)),
        "each seed": seeds,
    }
    if arguments.against:
        other, _ = mean_over(arguments.against, subjects, arguments.k)
        difference = [None if a is None else a - b for a, b in zip(trained, other)]
        said["against"] = interval(by_subject(other, subjects))
        said["difference"] = interval(by_subject(difference, subjects))
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
