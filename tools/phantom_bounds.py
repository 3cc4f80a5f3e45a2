"""How well a reader who knows the truth of every image does in retrieval, order and grounding on synthetic patients.

    python3 tools/phantom_bounds.py COHORT FIT     # two folders of `medst phantom --layout table`: truth.csv and studies.csv

Prints figures of `medst eval retrieval`, `sequence-order` and `grounding` on COHORT, as bounds for models.

Retrieval and order: the reader sees one study and one report at a time, as a model does, knows side and severity of every finding that a view
shows, and has learnt from the patients of FIT what reports say of such a finding: whether it is stated or denied, its size, side and change. (One
image does not show a change, but says something about it: what has grown is large.) Findings count as independent, so that a better reader may
exist. It guesses between reports that fit equally well.

Grounding: the heat of each of 8 x 8 patches is the part of it that the box covers, interpolated bilinearly as in the evaluation.
"""

import collections
import csv
import itertools
import json
import math
import pathlib
import re
import statistics
import sys

NOUNS = {
    "consolidation": ["consolidation"],
    "edema": ["edema", "pulmonary vasculature"],
    "pleural_effusion": ["effusion", "costophrenic"],
    "pneumonia": ["opacities", "pneumonia"],
    "pneumothorax": ["pneumothorax"],
    "atelectasis": ["atelectasis"],
    "cardiomegaly": ["cardiomegaly", "cardiac silhouette", "heart", "cardiac size"],
}
SIZES = {
    "small": "small tiny trace mild subtle minimal",
    "moderate": "moderate",
    "large": "large sizable severe extensive marked",
}
# What a report says besides: the first that matches counts.
CHANGES = {
    "resolved": r"resol|no longer|previously",
    "denied": r"\b(no|without|not) (?!significant change)|normal|sharp|clear of",
    "better": r"improv|decreas",
    "worse": r"wors|increas|progress",
    "stable": r"unchanged|stable|no significant change",
    "new": r"\bnew|development",
    "hedged": r"possible|probable|suspected",
    "certain": r"findings of|evidence of|known",
}
SIDES = {"bilateral": r"bilateral|both sides|bibasilar", "left": r"\bleft\b", "right": r"\bright\b"}
STEPS = 16
LENGTH = 4
GRID, PIXELS = 8, 64


def first(patterns, sentence):
    return next((name for name, pattern in patterns.items() if re.search(pattern, sentence)), None)


def said(report):
    """What a report says of each finding: in its findings and in its impression, how large, how changed, on which side."""
    sections = report.lower().split("findings:")[1].split("impression:")
    found = {finding: [] for finding in NOUNS}
    for place, section in enumerate(sections):
        for sentence in re.split(r"\.\s", section):
            size = first({name: rf"\b({words.replace(' ', '|')})\b" for name, words in SIZES.items()}, sentence)
            for finding, nouns in NOUNS.items():
                if any(noun in sentence for noun in nouns):
                    found[finding].append((place, size, first(CHANGES, sentence), first(SIDES, sentence)))
    return {finding: tuple(sorted(statements, key=str)) for finding, statements in found.items()}


def visits(folder):
    """Of each patient, in order of time: the truth of the image by finding, and what the report says."""
    truth = collections.defaultdict(dict)
    for row in csv.DictReader(open(folder / "truth.csv", newline="")):
        shown = int(row["visible_on_frontal"]) + 2 * int(row["visible_on_lateral"])
        severity = float(row["severity"]) if shown else 0.0
        truth[row["study_id"]][row["finding"]] = (math.ceil(STEPS * severity), row["side"] if severity else "", min(shown, 1))
    patients = collections.defaultdict(dict)
    for row in csv.DictReader(open(folder / "studies.csv", newline="")):
        patients[row["subject_id"]][float(row["day"]), row["study_id"]] = row["report"]
    return [[(truth[study], said(reports[day, study])) for day, study in sorted(reports)] for reports in patients.values()]


class Reader:
    """Counts of what is said where a finding looks like this."""

    def __init__(self, patients):
        self.given, self.always = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
        for shown, report in itertools.chain.from_iterable(patients):
            for finding, statement in report.items():
                self.given[finding, shown[finding]][statement] += 1
                self.always[finding][statement] += 1

    def fit(self, shown, report):
        """The logarithm of how much likelier the report is with this image than with any."""
        score = 0.0
        for finding, statement in report.items():
            given, always = self.given[finding, shown[finding]], self.always[finding]
            usual = (always[statement] + 0.5) / (always.total() + 1.0)
            score += math.log((given[statement] + usual) / (given.total() + 1.0) / usual)
        return score


def order(reader, patients):
    """Forward mapping accuracy, and how often the right order is preferred to another one."""
    nearest, ordered = [], []
    for patient in patients:
        for start in range(0, len(patient) - LENGTH + 1, LENGTH):
            own = patient[start : start + LENGTH]
            scores = [[reader.fit(shown, report) for _, report in own] for shown, _ in own]
            for place, row in enumerate(scores):
                best = [n for n, score in enumerate(row) if score >= max(row) - 1e-9]
                nearest.append((place in best) / len(best))
            right = sum(scores[n][n] for n in range(LENGTH))
            for other in itertools.permutations(range(LENGTH)):
                if other != tuple(range(LENGTH)):
                    score = sum(scores[n][place] for n, place in enumerate(other))
                    ordered.append(1.0 if right > score + 1e-9 else 0.5 if right > score - 1e-9 else 0.0)
    return statistics.mean(nearest), statistics.mean(ordered)


def recall(reader, patients, depth=5):
    """Of how many reports the own study is among the first; ties in random order."""
    studies = [study for patient in patients for study in patient]
    hits = []
    for place, (_, report) in enumerate(studies):
        scores = [reader.fit(shown, report) for shown, _ in studies]
        own = scores[place]
        better = sum(score > own + 1e-9 for score in scores)
        equal = sum(own - 1e-9 <= score <= own + 1e-9 for score in scores)
        hits.append(min(1.0, max(0.0, (depth - better) / equal)))
    return statistics.mean(hits), len(studies)


def grounding(folder, side):
    """The mean AUROC of pixels of the best heat maps that a grid of patches can show."""
    found = []
    for row in csv.DictReader(open(folder / "truth.csv", newline="")):
        if row["frontal_left"]:
            corners = ("frontal_left", "frontal_top", "frontal_right", "frontal_bottom")
            found.append(area([float(row[corner]) / side * PIXELS for corner in corners]))
    return statistics.mean(found), len(found)


def area(box):
    left, top, right, bottom = box
    patch = PIXELS / GRID

    def covered(low, high):
        return [max(0.0, min(high, patch * (n + 1)) - max(low, patch * n)) / patch for n in range(GRID)]

    def interpolated(values):
        for pixel in range(PIXELS):
            place = min(max((pixel + 0.5) / patch - 0.5, 0.0), GRID - 1.0)
            n = min(int(place), GRID - 2)
            yield values[n] + (place - n) * (values[n + 1] - values[n])

    across, down = (list(interpolated(covered(*ends))) for ends in ((left, right), (top, bottom)))
    inside = [(x, y) for y in range(PIXELS) for x in range(PIXELS) if left <= x + 0.5 < right and top <= y + 0.5 < bottom]
    if not inside:
        return 0.5
    within = set(inside)
    heat = sorted((across[x] * down[y], (x, y) in within) for y in range(PIXELS) for x in range(PIXELS))
    # The rank sum of the pixels inside, with equal heat sharing its mean rank.
    ranks, start = 0.0, 0
    while start < len(heat):
        end = start
        while end < len(heat) and heat[end][0] == heat[start][0]:
            end += 1
        ranks += sum(own for _, own in heat[start:end]) * (start + 1 + end) / 2
        start = end
    positive, negative = len(inside), len(heat) - len(inside)
    return (ranks - positive * (positive + 1) / 2) / (positive * negative)


def main():
    cohort, fit = (pathlib.Path(folder) for folder in sys.argv[1:])
    reader, patients = Reader(visits(fit)), visits(cohort)
    forward, right = order(reader, patients)
    found, studies = recall(reader, patients)
    side = json.load(open(cohort / "cohort.json"))["options"]["size"]
    pixels, boxes = grounding(cohort, side)
    print(f"report to image, recall@5  {found:.3f}   (among {studies} studies)")
    print(f"forward mapping accuracy   {forward:.3f}")
    print(f"right order preferred      {right:.3f}")
    print(f"grounding, AUROC of pixels {pixels:.4f}   ({boxes} boxes)")


main()
