#!/usr/bin/env python3
"""Do studies with and without a lateral view lie apart in one embedding? From `runs/lateral_gap.sh`.

    tools/lateral_gap.py STUDIES.csv MIXED.npy:FRONTAL.npy …

MIXED are embeddings of a split whose studies have lateral views or not, FRONTAL those of the same studies without any lateral view, by the same
model; a pair for each seed. STUDIES.csv is the table that the corpus was prepared from.
"""

import csv
import json
import sys

from same_patient import by_subject, cosine, hits, interval, studies, vectors


def centred(embeddings, groups):
    """Each group without its mean direction."""
    means = {}
    for group in set(groups):
        own = [e for e, g in zip(embeddings, groups) if g == group]
        means[group] = [sum(column) / len(own) for column in zip(*own)]
    moved = [[x - m for x, m in zip(e, means[g])] for e, g in zip(embeddings, groups)]
    return [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in moved]


def neighbours_alike(embeddings, subjects, groups):
    """For each study whether the nearest one of another patient has a lateral view like itself or lacks it like itself."""
    found = []
    for row, own in enumerate(embeddings):
        others = (n for n in range(len(embeddings)) if subjects[n] != subjects[row])
        nearest = max(others, key=lambda n: cosine(own, embeddings[n]))
        found.append(float(groups[nearest] == groups[row]))
    return found


def within(embeddings, subjects, groups, group):
    """Same-patient hits among the studies of a group alone, in their rows."""
    rows = [n for n, g in enumerate(groups) if g == group]
    found = hits([embeddings[n] for n in rows], [subjects[n] for n in rows], 1)
    values = [None] * len(groups)
    for row, value in zip(rows, found):
        values[row] = value
    return values


def averaged(each):
    return [None if own[0] is None else sum(own) / len(own) for own in zip(*each)]


def main():
    table, *pairs = sys.argv[1:]
    with open(table, newline="", encoding="utf-8") as file:
        with_lateral = {row["study_id"] for row in csv.DictReader(file) if row["view"].upper() in ("LATERAL", "LL")}
    rows = studies(pairs[0].split(":")[0])
    subjects = [row["subject_id"] for row in rows]
    groups = [row["study_id"] in with_lateral for row in rows]
    share = sum(groups) / len(groups)
    figures = {}
    for pair in pairs:
        mixed, frontal = map(vectors, pair.split(":"))
        for name, embeddings in {"as they are": mixed, "all without lateral": frontal, "as they are, group means taken away": centred(mixed, groups)}.items():
            own = figures.setdefault(name, {})
            of = lambda what, values: own.setdefault(what, []).append(values)
            of("same patient, recall@1", hits(embeddings, subjects, 1))
            of("same patient, among studies with a lateral view", within(embeddings, subjects, groups, True))
            of("same patient, among studies without", within(embeddings, subjects, groups, False))
            of("nearest of another patient alike in having a lateral view", neighbours_alike(embeddings, subjects, groups))
    said = {"studies": len(rows), "patients": len(set(subjects)), "with a lateral view": share, "alike by chance": share**2 + (1 - share) ** 2}
    for name, own in figures.items():
        said[name] = {what: interval(by_subject(averaged(each), subjects)) for what, each in own.items()}
    what = "same patient, recall@1"
    base = averaged(figures["as they are"][what])
    for name in figures:
        if name != "as they are":
            other = averaged(figures[name][what])
            difference = [None if a is None else b - a for a, b in zip(base, other)]
            said[f"{name}: difference of recall@1"] = interval(by_subject(difference, subjects))
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
