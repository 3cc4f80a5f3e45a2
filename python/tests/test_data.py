"""Cohorts, corpora and evaluation."""

from __future__ import annotations

import csv
import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import medst
from conftest import medst_command


def test_a_corpus_is_a_data_set(corpus, work):
    assert len(corpus) == len(list(corpus)) == corpus.manifest["counts"]["studies"]
    study = corpus[0]
    assert study.frontal.shape == (64, 64) and study.frontal.dtype == np.uint8
    assert study.split in ("train", "validate", "test") and study.day is not None and study.labels
    stored = np.load(work / "corpus" / "images-00000.npy", mmap_mode="r")
    for number, own in enumerate(corpus):
        row = corpus._corpus.study(number)["frontal"]
        assert np.array_equal(own.frontal, stored[row])
    study.frontal[:] = 0
    assert corpus[0].frontal.any(), "a study is a copy"
    assert corpus[-1].study_id == corpus[len(corpus) - 1].study_id
    with pytest.raises(IndexError):
        corpus[len(corpus)]


def test_splits_and_sequences_fit_together(corpus, work):
    parts = [medst.Corpus(work / "corpus", split) for split in ("train", "validate", "test")]
    assert sum(map(len, parts)) == len(corpus)
    train = parts[0]
    assert train.sequences and len(train.fingerprint) == 64
    for sequence in train.sequences:
        studies = [train.describe(number) for number in sequence]
        assert len({study.subject_id for study in studies}) == 1 and studies[0].frontal is None
        assert [study.day for study in studies] == sorted(study.day for study in studies)
        assert all(study.split == "train" for study in studies)


def test_loaders_with_workers_give_what_the_corpus_gives(work):
    def pair(study):
        return torch.from_numpy(study.frontal), study.study_id

    corpus = medst.Corpus(work / "corpus", transform=pair)
    loader = DataLoader(corpus, batch_size=8, num_workers=2)
    pictures, names = zip(*loader)
    assert sum((list(own) for own in names), []) == [corpus.describe(n).study_id for n in range(len(corpus))]
    assert torch.equal(torch.cat(pictures)[3], corpus[3][0])
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        pickle.dumps(corpus)  # a local function
    plain = medst.Corpus(work / "corpus", images="pil")
    again = pickle.loads(pickle.dumps(plain))
    assert again[2].frontal.mode == "L" and np.array_equal(np.asarray(again[2].frontal), np.asarray(plain[2].frontal))


def test_corpora_that_are_none_are_refused(work, tmp_path):
    with pytest.raises(FileNotFoundError):
        medst.Corpus(tmp_path / "nowhere")
    with pytest.raises(medst.DataError, match="corpus.json"):
        medst.Corpus(tmp_path)
    with pytest.raises(medst.InputError, match="split"):
        medst.Corpus(work / "corpus", split="holdout")
    with pytest.raises(medst.InputError, match="images"):
        medst.Corpus(work / "corpus", images="jpeg")


def test_a_cohort_is_the_commands_and_is_not_overwritten(tmp_path):
    summary = medst.phantom(tmp_path / "a", subjects=2, size=64, seed=9, progress=False)
    medst_command("-q", "phantom", "b", "--subjects", "2", "--size", "64", "--seed", "9", cwd=tmp_path)
    ours, theirs = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "a", tmp_path / "b")
    )
    assert ours == theirs and summary["subjects"] == 2 and summary["images"] == sum(path.suffix == ".png" for path in ours)
    for arguments, message in [
        ({"out": tmp_path / "a"}, "not empty"),
        ({"out": tmp_path / "c", "size": 3}, "64 to 4096"),
        ({"out": tmp_path / "c", "difficulty": "odd"}, "plain, hard"),
        ({"out": tmp_path / "c", "layouts": ["mimic"]}, "mimic-cxr-jpg"),
    ]:
        with pytest.raises(medst.InputError, match=message):
            medst.phantom(**arguments)
    with pytest.raises(FileNotFoundError):
        medst.prepare(tmp_path / "nowhere.csv", tmp_path / "corpus")


def test_reports_and_labels_are_prepared_as_the_command_does(tmp_path):
    medst.phantom(tmp_path / "cohort", subjects=3, size=64, progress=False)
    with open(tmp_path / "cohort/studies.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row |= {"report": "FINDINGS: A nodule of 1.5 cm is seen.\nIMPRESSION: One nodule.", "patient_name": f"Doe {number}"}
    with open(tmp_path / "cohort/table.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    table = tmp_path / "cohort/table.csv"
    for name, options, typed in [
        ("plain", {}, []),
        ("reference", {"report_rule": "reference", "labels": ["patient_name"]}, ["--report-rule", "reference", "--label", "patient_name"]),
    ]:
        medst.prepare(table, tmp_path / f"ours-{name}", image_size=64, progress=False, **options)
        medst_command("-q", "prepare", "table", table, "--out", f"theirs-{name}", "--image-size", "64", *typed, cwd=tmp_path)
        ours, theirs = (list(medst.Corpus(tmp_path / f"{whose}-{name}")) for whose in ("ours", "theirs"))
        assert [(own.study_id, own.report, own.labels) for own in ours] == [(own.study_id, own.report, own.labels) for own in theirs]
    plain, reference = (medst.Corpus(tmp_path / f"ours-{name}")[0] for name in ("plain", "reference"))
    assert "1.5 cm" in plain.report and "1.5 cm" not in reference.report
    assert "patient_name" not in plain.labels and reference.labels["patient_name"].startswith("Doe ")
    with pytest.raises(medst.InputError, match="standard or reference"):
        medst.prepare(table, tmp_path / "none", report_rule="other")


def test_evaluation_is_the_commands(model, corpus, work):
    tasks = ["retrieval", "zero-shot"]
    found = medst.evaluate(tasks, model, corpus, split="all", replicates=20)
    out = medst_command(
        "-q", "--json", "eval", *tasks, "--model", "run", "--corpus", "corpus", "--split", "all", "--replicates", "20", cwd=work
    )
    theirs = json.loads(out.stdout)["corpora"][0]["tasks"]
    values = [figure["value"] for task in theirs for figure in task["figures"]]
    assert [figure.value for figure in found.figures] == pytest.approx(values, abs=1e-6)
    assert "recall@1" in str(found)
    assert 0 <= found.value("retrieval", "recall@1") <= 1
    with pytest.raises(KeyError, match="recall@5"):
        found.value("retrieval", "recall@3")
    everything = medst.evaluate("all", model, corpus, split="all", replicates=0)
    assert "temporal-image" in everything.refused and "pairs" in everything.refused["temporal-image"]


def test_figures_are_broken_down_by_columns(model, corpus):
    found = medst.evaluate("retrieval", model, corpus, split="all", replicates=10, by="edema")
    figure = next(own for own in found.figures if own.by)
    assert figure.by[0]["column"] == "edema" and [part["name"] for part in figure.by[0]["parts"]] == ["0", "1"]
    assert sum(part["rows"] for part in figure.by[0]["parts"]) <= figure.rows
    assert not any(own.by for own in medst.evaluate("retrieval", model, corpus, split="all", replicates=0).figures)
    with pytest.raises(medst.InputError, match="unknown column colour"):
        medst.evaluate("retrieval", model, corpus, by=["edema", "colour"])


def test_vectors_are_evaluated_as_the_model_that_made_them(model, corpus):
    images, features = model.embed_images(corpus), model.image_features(corpus)
    reports_of_studies = {study.study_id: study.report for study in corpus if study.report}
    reports = dict(zip(reports_of_studies, model.embed_reports(reports_of_studies.values())))
    tasks = ["retrieval", "zero-shot", "linear-probe"]
    sentences = medst.evaluation_texts(tasks, corpus)
    texts = dict(zip(sentences, model.embed_prompts(sentences)))
    options = {"split": "all", "replicates": 0}
    whole = medst.evaluate(tasks, model, corpus, **options)
    ours = medst.evaluate(tasks, images, corpus, reports=reports, features=features.numpy(), texts=texts, **options)
    for a, b in zip(ours.figures, whole.figures, strict=True):
        assert (a.task, a.group, a.name) == (b.task, b.group, b.name)
        assert a.value == pytest.approx(b.value, abs=0.02)
    assert ours.value("retrieval", "recall@1") == pytest.approx(whole.value("retrieval", "recall@1"), abs=1e-9)


def test_vectors_that_do_not_fit_are_refused(model, corpus):
    images = np.zeros((len(corpus), 4), np.float32)
    for call, message in [
        (lambda: medst.evaluate("retrieval", images[:3], corpus), "rows, not 3"),
        (lambda: medst.evaluate("retrieval", images[0], corpus), r"expected shape \[n, D\]"),
        (lambda: medst.evaluate("retrieval", {"unknown": [1.0]}, corpus), "unknown"),
        (lambda: medst.evaluate("retrieval", {}, corpus), "no vectors"),
        (lambda: medst.evaluate("recall", images, corpus), "recall"),
        (lambda: medst.evaluate("temporal-image", images, corpus), "pairs"),
        (lambda: medst.evaluate("zero-shot", np.eye(len(corpus), 4), corpus), "evaluation_texts"),
        (lambda: medst.evaluate("retrieval", images, corpus, split="some"), "split"),
        (lambda: medst.evaluate("retrieval", images, corpus, protocol="lax"), "protocol"),
        (lambda: medst.evaluate("retrieval", model, corpus, reports=images), "computes its own"),
    ]:
        with pytest.raises(medst.InputError, match=message):
            call()
