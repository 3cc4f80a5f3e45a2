#!/usr/bin/env python3
"""How well the closeness of a sentence (docs/page.md) tells whether the sentence is true of a
picture, on synthetic patients.

    medst phantom patients --subjects 150 --size 160 --seed 3000001
    medst serve --model phantom --no-token --bind 127.0.0.1:8799 &
    tools/closeness.py 8799 patients [THRESHOLD]

For every frontal picture `/v1/report` is asked about three kinds of sentences: those of its own
report that affirm a finding which the patient has; those of other patients' reports that affirm a
finding which this patient does not have; and those of its own report that deny a finding. Prints
AUROC and, at a threshold (by default the one with the best separation), the shares on the right
side of it.
"""

import bisect
import csv
import json
import random
import re
import sys
import urllib.request
import uuid
from pathlib import Path
from statistics import median

FINDINGS = {
    "consolidation": "consolidation", "edema": "edema|vascul", "pleural_effusion": "effusion", "pneumonia": "pneumonia|patchy opacit",
    "pneumothorax": "pneumothorax", "atelectasis": "atelectasis", "cardiomegaly": "cardiomegaly|heart|cardiac size|enlarged",
}
DENIES = re.compile(r"\b(no|not|without|normal|clear|resolved|negative|free)\b", re.I)
UNSURE = re.compile(r"\b(may|possible|possibly|cannot|rule|resolution|history|prior|evaluate)\b", re.I)


def sentences(report):
    parts = re.findall(r"(?:FINDINGS|IMPRESSION):(.*?)(?=FINDINGS:|IMPRESSION:|$)", report, re.S)
    body = " ".join(" ".join(parts or [report]).split())
    return [sentence for sentence in re.split(r"(?<=\.)\s+", body) if sentence]


def read(folder):
    """Pictures, each with its true and its denying sentences; for each finding the true sentences
    with their subjects.
    """
    with open(folder / "studies.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["report"] and row["view"] in ("PA", "AP")]
    affirmed = {finding: [] for finding in FINDINGS}
    for row in rows:
        row["true"], row["denials"] = [], []
        for sentence in sentences(row["report"]):
            about = [finding for finding, words in FINDINGS.items() if re.search(words, sentence, re.I)]
            if not about or UNSURE.search(sentence):
                continue
            if DENIES.search(sentence):
                row["denials"].append(sentence)
            elif len(about) == 1 and row[about[0]] == "1":
                row["true"].append(sentence)
                affirmed[about[0]].append((row["subject_id"], sentence))
    return rows, affirmed


def closeness(port, picture, asked):
    mark = uuid.uuid4().hex
    part = lambda name, more, value: f'--{mark}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
    body = part("report", "", " ".join(asked).encode()) + part("frontal", '; filename="picture.png"', picture) + f"--{mark}--\r\n".encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/report", body, {"Content-Type": f"multipart/form-data; boundary={mark}"})
    answer = json.load(urllib.request.urlopen(request))["sentences"]
    assert len(answer) == len(asked), "the service splits sentences differently"
    return [sentence["closeness"] for sentence in answer]


def auroc(positive, negative):
    negative = sorted(negative)
    below = sum(bisect.bisect_left(negative, score) + bisect.bisect_right(negative, score) for score in positive)
    return below / 2 / len(positive) / len(negative)


def main(port, folder, threshold=None):
    random.seed(1)
    rows, affirmed = read(folder)
    scores = {"true": [], "false": [], "denials": []}
    for row in rows:
        asked = [(kind, sentence) for kind in ("true", "denials") for sentence in row[kind]]
        for finding, of_others in affirmed.items():
            others = [sentence for subject, sentence in of_others if subject != row["subject_id"]]
            if row[finding] == "0" and others:
                asked.append(("false", random.choice(others)))
        if asked:
            found = closeness(port, (folder / row["image"]).read_bytes(), [sentence for _, sentence in asked])
            for (kind, _), score in zip(asked, found):
                if score is not None:
                    scores[kind].append(score)
    true, false = scores["true"], scores["false"]
    above = lambda values, cut: sum(value >= cut for value in values) / len(values)
    cut = threshold if threshold is not None else max((n / 100 for n in range(-20, 91)), key=lambda cut: above(true, cut) - above(false, cut))
    print(f"{len(rows)} pictures: " + ", ".join(f"{len(values)} {kind} (median {median(values):.3f})" for kind, values in scores.items()))
    print(f"AUROC of true sentences against false ones {auroc(true, false):.3f}, against denials {auroc(true, scores['denials']):.3f}")
    print(f"at {cut:.2f}: {above(true, cut):.1%} of the true sentences match, {1 - above(false, cut):.1%} of the false ones do not")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:]))
