"""Embedding, classification, comparison and grounding agree with the command."""

from __future__ import annotations

import csv
import json
import threading

import numpy as np
import pytest
import torch

import medst
from conftest import ROOT, medst_command
from medst._engine import native


def test_embeddings_are_unit_vectors_and_those_of_the_command(model, radiographs, work):
    paths = radiographs[:5]
    found = model.embed_images(paths, view="frontal")
    assert torch.allclose(found.norm(dim=1), torch.ones(5), atol=1e-5)
    medst_command("-q", "embed", *map(str, paths), "--view", "frontal", "--model", "run", "--out", "e.npy", "--features", cwd=work)
    assert np.allclose(np.load(work / "e.npy"), found.numpy(), atol=1e-6)
    features = model.image_features(paths, view="frontal")
    assert features.shape == (5, model.feature_width)
    assert np.allclose(np.load(work / "e.features.npy"), features.numpy(), atol=1e-5)


def test_a_corpus_is_embedded_as_the_command_embeds_it(model, corpus, work):
    medst_command("-q", "embed", "corpus", "--model", "run", "--out", "c.npy", cwd=work)
    with open(work / "c.csv") as rows:
        ids = [row["study_id"] for row in csv.DictReader(rows)]
    assert ids == [study.study_id for study in corpus]
    assert np.allclose(np.load(work / "c.npy"), model.embed_images(corpus).numpy(), atol=1e-6)
    reported = [(n, study.report) for n, study in enumerate(corpus) if study.report]
    reports = model.embed_reports([report for _, report in reported])
    assert np.allclose(np.load(work / "c.reports.npy")[[n for n, _ in reported]], reports.numpy(), atol=1e-6)


def test_numbers_are_not_copied_on_their_way(model):
    rows = native.Rows(model.width)
    model._engine.embed_texts([("a", "no effusion"), ("b", "edema")], rows, True)
    array = rows.take()
    found = torch.from_dlpack(array)
    assert found.data_ptr() == array.address
    assert found.numpy().ctypes.data == array.address
    # Each keeps the memory alive by itself.
    values, again = found.clone(), torch.from_dlpack(array)
    del array, found
    assert torch.equal(again, values)
    assert np.from_dlpack(native.Rows(3).take()).shape == (0, 3)


def test_reports_are_read_and_prompts_whole(model):
    found = model.embed_reports(["FINDINGS: The lungs are clear.", "Large left effusion."])
    assert found.shape == (2, model.width)
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(model.embed_reports(["Large left effusion."])[0], found[1], atol=1e-6)
    with pytest.warns(UserWarning, match="1 of 2 reports are longer"):
        model.embed_reports(["effusion " * 400, "the lungs are clear"])
    with pytest.raises(medst.InputError, match="tokens"):
        model.embed_prompts(["effusion " * 400])
    with pytest.raises(ValueError, match=r"reports\[1\].*words"):
        model.embed_reports(["the lungs are clear", "..."])
    with pytest.raises(medst.InputError, match=r"reports\[0\].*NoneType"):
        model.embed_reports([None])
    with pytest.raises(medst.InputError, match="list"):
        model.embed_reports("the lungs are clear")


def test_a_model_that_was_not_fine_tuned_has_no_head(model, radiographs):
    with pytest.raises(medst.InputError, match="has no head"):
        model.predict(radiographs[:1])


@pytest.mark.parametrize("task", ["findings", "change"])
def test_the_head_of_a_fine_tuned_model_predicts_what_the_command_does(task, radiographs, work):
    settings = ["init.weights=run", "data.corpus=corpus", f"data.task={task}", f"train.output={task}", "train.epochs=1"]
    given = [part for setting in settings for part in ("--set", setting)]
    config = str(ROOT / "configs" / "finetune.toml")
    medst_command("-q", "finetune", config, *given, cwd=work)
    paths = radiographs[:4]
    files = [*map(str, paths), "--view", "frontal", "--model", task]
    out = medst_command("-q", "--json", "predict", *files, cwd=work)
    theirs = json.loads(out.stdout)
    tuned = medst.load(work / task, device="cpu")
    found = tuned.predict(paths, view="frontal")
    assert found.names == theirs["names"]
    assert found.probabilities.shape == (4 if task == "findings" else 3, len(found.names))
    expected = [study["probabilities"] for study in theirs["studies"]]
    assert np.allclose(expected, found.probabilities.numpy(), atol=1e-6)
    assert tuned.card["model"]["head"]["task"] == task
    if task == "change":
        with pytest.raises(medst.InputError, match="two or more"):
            tuned.predict(paths[:1], view="frontal")


def test_zero_shot_is_the_commands(model, radiographs, work):
    paths = radiographs[:3]
    found = model.zero_shot(paths, ["pneumonia", "edema"])
    assert found.classes == ["pneumonia", "edema"] and found.calibrated_on is None
    assert found.scores.shape == found.probabilities.shape == (3, 2)
    out = medst_command(
        "-q", "--json", "zero-shot", *map(str, paths), "--model", "run", "--class", "pneumonia", "--class", "edema", cwd=work
    )
    theirs = [study["probabilities"] for study in json.loads(out.stdout)["studies"]]
    assert np.allclose(theirs, found.probabilities.numpy(), atol=1e-6)
    exclusive = model.zero_shot(paths, {"wet": ["edema"], "dry": ["clear lungs"]}, exclusive=True)
    assert torch.allclose(exclusive.probabilities.sum(1), torch.ones(3, dtype=torch.float64))
    both = model.zero_shot(paths, {"edema": {"positive": ["edema"], "negative": ["no edema"]}})
    image, yes, no = model.embed_images(paths), model.embed_prompts(["edema"])[0], model.embed_prompts(["no edema"])[0]
    assert torch.allclose(both.scores[:, 0].float(), image @ yes - image @ no, atol=1e-5)
    for classes, message in [
        ([], "give at least one class"),
        (["edema", "Edema"], "twice"),
        ({"edema": ["..."]}, "edema"),
        ({"edema": {"positiv": ["x"]}}, "positiv"),
        ({"edema": "x"}, "list"),
        (work / "no.toml", "no.toml"),
    ]:
        with pytest.raises(medst.Error, match=message):
            model.zero_shot(paths, classes)


def test_calibrations_are_used_and_refused_with_others(model, radiographs, work):
    medst_command("-q", "zero-shot", "corpus", "--model", "run", "--class", "edema", "--fit-calibration", "k.json", cwd=work)
    found = model.zero_shot(radiographs[:4], ["edema"], calibration=work / "k.json")
    assert found.calibrated_on == "corpus"
    assert not torch.allclose(found.probabilities, model.zero_shot(radiographs[:4], ["edema"]).probabilities)
    with pytest.raises(medst.InputError, match="other classes"):
        model.zero_shot(radiographs[:4], ["pneumonia"], calibration=work / "k.json")


def test_comparison_is_the_commands(model, corpus, work):
    subject = next(s.subject_id for s in corpus if sum(o.subject_id == s.subject_id for o in corpus) >= 3)
    studies = [study for study in corpus if study.subject_id == subject]
    found = model.compare(studies[::-1], ["edema"])
    out = medst_command("-q", "--json", "compare", "corpus", "--subject", subject, "--model", "run", "--finding", "edema", cwd=work)
    theirs = json.loads(out.stdout)
    assert found.time_points == theirs["time_points"] and found.days == theirs["days"]
    assert np.allclose(found.image_similarity.numpy(), theirs["image_similarity"], atol=1e-6)
    assert [step.findings[0].towards_worse for step in found.steps] == pytest.approx(
        [step["findings"][0]["change"]["towards_worse"] for step in theirs["steps"]], abs=1e-6
    )
    assert found.order_by_images.orders >= 3
    assert "edema" in str(found)
    without = [medst.Study(frontal=study.frontal) for study in studies[:2]]
    assert model.compare(without).report_similarity.isnan().all()
    with pytest.raises(medst.InputError, match="two or more"):
        model.compare(studies[:1])


def test_the_current_and_the_previous_image_are_compared_in_one_call(model, corpus):
    subject = next(s.subject_id for s in corpus if sum(o.subject_id == s.subject_id for o in corpus) >= 3)
    studies = [study for study in corpus if study.subject_id == subject]
    changes = model.change(studies[1], studies[0], ["edema", "pneumonia"])
    assert [own.finding for own in changes] == ["edema", "pneumonia"] and changes[0].courses is None
    step = model.compare(studies[:2], ["edema", "pneumonia"]).steps[0]
    assert [own.towards_worse for own in changes] == pytest.approx([own.towards_worse for own in step.findings], abs=1e-6)
    # Images without a day are taken in the order of the arguments.
    forwards = model.change(studies[1].frontal, studies[0].frontal, ["edema"])[0].towards_worse
    backwards = model.change(studies[0].frontal, studies[1].frontal, ["edema"])[0].towards_worse
    assert forwards == pytest.approx(-backwards, abs=1e-6)
    with pytest.raises(medst.InputError, match="exchange"):
        model.change(studies[0], studies[1])


def test_a_series_is_embedded_in_time_order(model, corpus):
    subject = next(s.subject_id for s in corpus if sum(o.subject_id == s.subject_id for o in corpus) >= 3)
    studies = [study for study in corpus if study.subject_id == subject]
    found = model.embed_series(studies[::-1])
    assert found.order == list(range(len(studies)))[::-1] and found.days == [study.day for study in studies]
    assert torch.allclose(found.images, model.embed_images(studies), atol=1e-6)
    for study, report in zip(studies, found.reports):
        assert report.isnan().all() if study.report is None else report.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert model.embed_series([studies[0].frontal]).reports.isnan().all()
    with pytest.raises(medst.InputError, match="at least one"):
        model.embed_series([])
    series = model.compare(studies, ["edema"]).series[0]
    assert len(series.presence) == len(studies) and series.seen_first is None
    assert series.worst_at == max(range(len(studies)), key=lambda n: series.presence[n])


def test_grounding_is_in_pixels_of_the_picture(model, radiographs, corpus):
    from PIL import Image

    image = Image.open(radiographs[0])
    found, again = model.ground(image, ["large effusion", "edema"]), model.ground(radiographs[0], ["large effusion", "edema"])
    assert [own.phrase for own in found] == ["large effusion", "edema"]
    own = found[0]
    side, patches = model.image_size, (model.image_size // 16) ** 2
    assert own.heat["frontal"].shape == (side, side)
    assert own.similarity.shape == (len(own.words), patches)
    assert [word.word for word in own.words] == ["large", "effusion", "[SEP]"]
    assert torch.allclose(own.words_to_patches.sum(1), torch.ones(len(own.words)), atol=1e-5)
    assert torch.allclose(own.word_importance.sum(), torch.tensor(1.0), atol=1e-5)
    assert torch.equal(own.similarity, again[0].similarity)
    for box in own.boxes["frontal"]:
        assert -1e-6 <= box.left < box.right <= image.width + 1e-6 and -1e-6 <= box.top < box.bottom <= image.height + 1e-6
    study = next(study for study in corpus if study.lateral is not None)
    assert set(model.ground(study, "edema")[0].heat) == {"frontal", "lateral"}
    with pytest.raises(medst.InputError, match="words"):
        model.ground(image, "?!")
    with pytest.raises(medst.InputError, match="threshold"):
        model.ground(image, "edema", threshold=1.0)


def test_a_model_of_the_package_is_found_by_its_name_and_has_learnt_to_tell_findings(tmp_path):
    medst.phantom(tmp_path / "cohort", subjects=20, seed=6_000_001, size=160)
    medst.prepare(tmp_path / "cohort" / "studies.csv", tmp_path / "corpus", image_size=72)
    corpus = medst.Corpus(tmp_path / "corpus")
    found = medst.load("phantom").zero_shot(corpus, ["cardiomegaly"]).probabilities[:, 0].numpy()
    there = np.array([study.labels["cardiomegaly"] == "1" for study in corpus])
    # By chance, a patient with the finding would score higher than one without in half of all
    # pairs.
    assert (found[there][:, None] > found[~there]).mean() > 0.8
    with pytest.raises(medst.MissingFileError, match="phantom"):
        medst.load("no-such-model")


def test_models_that_are_none_are_refused(work, tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        medst.load(tmp_path / "nowhere")
    assert isinstance(missing.value, medst.Error) and missing.value.filename.endswith("nowhere")
    with pytest.raises(medst.DataError, match="model.safetensors"):
        medst.load(tmp_path)
    for wrong in [{"device": "tpu"}, {"window": "open"}, {"batch": 0}]:
        with pytest.raises(medst.InputError, match=next(iter(wrong))):
            medst.load(work / "run", **wrong)


def test_what_a_model_says_of_itself(model):
    card = model.card
    assert len(model.checksum) == 64 and model.device.type == "cpu"
    assert len(card["vocabulary_sha256"]) == 64 and card["training"]["counts"]["studies"] > 0
    assert card["model"]["image"]["size"] == model.image_size and card["stored_size"] == 64
    assert str(model.width) in repr(model)


def test_threads_take_turns(model, radiographs):
    expected = model.embed_images(radiographs[:4])
    found: list[torch.Tensor | None] = [None] * 4

    def embed(number: int) -> None:
        found[number] = model.embed_images(radiographs[:4])

    threads = [threading.Thread(target=embed, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.allclose(own, expected, atol=1e-6) for own in found)
