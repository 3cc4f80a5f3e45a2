"""An upper bound on how well reports can be matched to the visits of a synthetic patient from the images alone.

    python3 tools/order_bound.py COHORT     # what `medst phantom --layout table` wrote: truth.csv and table/studies.csv

Prints the bounds of two figures of `medst eval sequence-order`. An oracle knows the severity of every finding at every visit, as the best
possible reader of an image would, and matches them with the findings that each report states or denies and with their sizes. It cannot use a
report's statements about *change*, because a single image does not show them. It can only guess between visits whose reports state the same.
"""

import collections
import csv
import itertools
import pathlib
import re
import sys

NOUNS = {
    "consolidation": ["consolidation"],
    "edema": ["edema"],
    "pleural_effusion": ["effusion"],
    "pneumonia": ["opacities"],
    "pneumothorax": ["pneumothorax"],
    "atelectasis": ["atelectasis"],
    "cardiomegaly": ["cardiomegaly", "cardiac silhouette"],
}
# Words for the size of a finding, and the severity that each class ends at
# (medst_data::phantom::report).
SIZES = [
    (0.30, ["small", "tiny", "trace", "mild", "subtle", "minimal"]),
    (0.62, ["moderate"]),
    (1.01, ["large", "sizable", "severe", "extensive", "marked"]),
]
PRESENT = 0.1
LENGTH = 4


def said(report):
    """The findings section's statement about each finding: None if it is absent, otherwise the class of its size, or "some"."""
    section = report.split("FINDINGS:")[1].split("IMPRESSION:")[0].lower()
    found = {}
    for sentence in re.split(r"\.\s", section):
        sentence = sentence.strip()
        denied = re.match(r"(no|without) (?!significant change)", sentence) or re.search(r"resol|no longer", sentence)
        for finding in (finding for finding, nouns in NOUNS.items() if any(noun in sentence for noun in nouns)):
            sizes = [n for n, (_, words) in enumerate(SIZES) if any(re.search(rf"\b{word}\b", sentence) for word in words)]
            found[finding] = None if denied else sizes[0] if sizes else "some"
    return found


def agreement(severities, report):
    """How well severities fit a report; contradictions count most."""
    score = 0
    for finding, severity in severities.items():
        there = severity >= PRESENT
        if finding not in report:
            score -= 2 * there
        elif report[finding] is None or not there:
            score -= 3 * ((report[finding] is None) == there)
        elif report[finding] != "some":
            size = next(n for n, (end, _) in enumerate(SIZES) if severity < end)
            score += 1 if size == report[finding] else -2
    return score


def main():
    cohort = pathlib.Path(sys.argv[1])
    severities = collections.defaultdict(dict)
    for row in csv.DictReader(open(cohort / "truth.csv", newline="")):
        severities[row["study_id"]][row["finding"]] = float(row["severity"])
    table = next(path for path in (cohort / "table/studies.csv", cohort / "studies.csv") if path.exists())
    visits = collections.defaultdict(dict)
    for row in csv.DictReader(open(table, newline="")):
        visits[row["subject_id"]][float(row["day"]), row["study_id"]] = said(row["report"])
    nearest, ordered = [], []
    for subject in visits.values():
        visits_in_order = sorted(subject)
        for start in range(0, len(visits_in_order) - LENGTH + 1, LENGTH):
            own = visits_in_order[start : start + LENGTH]
            scores = [[agreement(severities[image[1]], subject[report]) for report in own] for image in own]
            for place, row in enumerate(scores):
                best = [n for n, score in enumerate(row) if score == max(row)]
                nearest.append((place in best) / len(best))
            right = sum(scores[n][n] for n in range(LENGTH))
            for order in itertools.permutations(range(LENGTH)):
                if order != tuple(range(LENGTH)):
                    other = sum(scores[n][place] for n, place in enumerate(order))
                    ordered.append(1.0 if right > other else 0.5 if right == other else 0.0)
    print(f"forward mapping accuracy  {sum(nearest) / len(nearest):.3f}   (of {len(nearest)} images in full sequences)")
    print(f"right order preferred     {sum(ordered) / len(ordered):.3f}")


main()
