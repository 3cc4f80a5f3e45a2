#!/usr/bin/env python3
"""Measures time and memory of `medst prepare SOURCE --check` on generated tables of 100,000 rows
for each kind of importer.

    tools/many_rows.py [OUT] [--rows N] [--only SOURCE …]     MEDST: the program, by default
                                                              target/release/medst

The tables are written in the layouts of the sources, without pictures, which the check reports as
missing. A second run with a tenth of the rows shows how memory grows.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

REPORT = "FINDINGS: There is a small left pleural effusion. The heart is not enlarged. IMPRESSION: Small effusion, number {n}."
LABELS = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion", "Pneumonia", "Pneumothorax", "No Finding"]


def write(path: Path, columns: list[str], rows: Iterator[list[str]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open(path, "wt", newline="", compresslevel=1) if path.suffix == ".gz" else open(path, "w", newline="")) as file:
        table = csv.writer(file, delimiter=separator)
        table.writerow(columns)
        table.writerows(rows)


def labels(n: int) -> list[str]:
    return [str((n >> bit) & 1) for bit in range(len(LABELS))]


def person(n: int) -> int:
    """Four images per patient, two per study."""
    return n // 4


def dicom(n: int) -> str:
    return f"{n:08x}-00000000-00000000-00000000-00000000"


def mimic_path(n: int) -> str:
    subject = str(10000000 + person(n))
    return f"files/p{subject[:2]}/p{subject}/s{50000000 + n // 2}/{dicom(n)}.jpg"


def table(out: Path, rows: int) -> list[str]:
    def row(n: int) -> list[str]:
        return [f"p{person(n)}", f"s{n // 2}", str(n // 2 % 2), "LATERAL" if n % 2 else "PA", f"images/{n}.png", REPORT.format(n=n // 2), *labels(n // 2)]

    write(out / "studies.csv", ["subject_id", "study_id", "day", "view", "image", "report", *LABELS], map(row, range(rows)))
    return ["table", str(out / "studies.csv")]


def mimic(out: Path, rows: int) -> list[str]:
    def ids(n: int) -> list[str]:
        return [str(10000000 + person(n)), str(50000000 + n // 2)]

    (out / "files").mkdir(parents=True, exist_ok=True)
    write(
        out / "mimic-cxr-2.0.0-metadata.csv.gz",
        ["dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"],
        ([dicom(n), *ids(n), "LATERAL" if n % 2 else "AP", f"21{10 + n // 2 % 2}0101", "101010.1"] for n in range(rows)),
    )
    write(
        out / "mimic-cxr-2.0.0-split.csv.gz",
        ["dicom_id", "study_id", "subject_id", "split"],
        ([dicom(n), *reversed(ids(n)), "train"] for n in range(rows)),
    )
    write(out / "mimic-cxr-2.0.0-chexpert.csv.gz", ["subject_id", "study_id", *LABELS], ([*ids(n), *labels(n)] for n in range(0, rows, 2)))
    with zipfile.ZipFile(out / "mimic-cxr-reports.zip", "w") as reports:
        for n in range(0, rows, 2):
            subject, study = ids(n)
            reports.writestr(f"files/p{subject[:2]}/p{subject}/s{study}.txt", " FINAL REPORT\n " + REPORT.format(n=n).replace(". IMP", ".\n IMP"))
    return ["mimic-cxr", str(out)]


def chexpert(out: Path, rows: int) -> list[str]:
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]

    def row(n: int) -> list[str]:
        view = "view2_lateral" if n % 2 else "view1_frontal"
        path = f"CheXpert-v1.0-small/train/patient{person(n) + 1:05}/study{n // 2 % 2 + 1}/{view}.jpg"
        return [path, "Female", "61", "Lateral" if n % 2 else "Frontal", "" if n % 2 else "AP", *labels(n)]

    write(out / "train.csv", columns, map(row, range(rows)))
    write(out / "valid.csv", columns, iter([]))
    return ["chexpert", str(out)]


def chexpert_plus(out: Path, rows: int) -> list[str]:
    columns = ["path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order", "report"]
    sections = ["narrative", "clinical_history", "history", "comparison", "technique", "procedure_comments", "findings", "impression"]
    sections += ["end_of_impression", "summary", "accession_number"]
    people = ["age", "sex", "race", "ethnicity", "interpreter_needed", "insurance_type", "recent_bmi", "deceased", "split"]
    columns += [*(f"section_{name}" for name in sections), *people]

    def path(n: int) -> str:
        return f"train/patient{person(n) + 1:05}/study{n // 2 % 2 + 1}/view{n % 2 + 1}_{'lateral' if n % 2 else 'frontal'}.jpg"

    def row(n: int) -> list[str]:
        own = [path(n), path(n), "Lateral" if n % 2 else "Frontal", "" if n % 2 else "AP", f"patient{person(n) + 1:05}", str(n // 2 % 2 + 1)]
        told = {"findings": f"Small effusion, number {n // 2}.", "impression": "The effusion is small."}
        cells = [told.get(name, "") for name in sections]
        return [*own, REPORT.format(n=n // 2), *cells, "61", "Female", "", "", "", "", "", "", "train"]

    write(out / "df_chexpert_plus_240401.csv", columns, map(row, range(rows)))
    folder = out / "chexbert_labels"
    folder.mkdir(exist_ok=True)
    for part in ["findings", "impression", "report"]:
        with open(folder / f"{part}_fixed.json", "w") as file:
            for n in range(rows):
                file.write(json.dumps({"path_to_image": path(n), **dict(zip(LABELS, map(float, labels(n))))}) + "\n")
    return ["chexpert-plus", str(out)]


def padchest(out: Path, rows: int) -> list[str]:
    columns = ["", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection", "Report"]

    def row(n: int) -> list[str]:
        own = ["", f"{n}.png", str(n % 50), f"20{10 + n // 2 % 2}0101", f"s{n // 2}", f"p{person(n)}", "1950.0", "F", "L" if n % 2 else "PA"]
        return [*own, "sin alteracion", "['pneumonia', ' normal']", "[]"]

    write(out / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", [*columns, "Labels", "Localizations"], map(row, range(rows)))
    return ["padchest", str(out)]


def padchest_gr(out: Path, rows: int) -> list[str]:
    def study(n: int) -> dict[str, object]:
        finding = {"sentence_en": "There is a left effusion.", "sentence_es": "", "abnormal": True, "boxes": [[0.1, 0.2, 0.3, 0.4]]}
        finding |= {"extra_boxes": [], "labels": ["pleural effusion"], "locations": [], "progression": None}
        return {"StudyID": f"s{n}", "ImageID": f"{n}.png", "PreviousStudyID": None, "PreviousImageID": None, "findings": [finding]}

    out.mkdir(parents=True, exist_ok=True)
    (out / "grounded_reports_20240819.json").write_text("[" + ",\n".join(json.dumps(study(n)) for n in range(rows)) + "]")
    columns = ["StudyID", "ImageID", "label", "boxes_count", "extra_boxes_count", "locations", "prior_study", "progression_status"]
    columns += ["prior_imageID", "sentence_en", "sentence_es", "study_is_benchmark", "study_is_validation", "split", "PatientID"]
    columns += ["patient_is_benchmark", "PatientBirth", "PatientSex_DICOM", "StudyDate_DICOM", "StudyDate", "PatientAge", "label_group", "Year"]
    empty = dict.fromkeys(columns, "")

    def row(n: int) -> list[str]:
        own = {"StudyID": f"s{n}", "ImageID": f"{n}.png", "label": "pleural effusion", "split": "train", "PatientID": f"p{person(n)}"}
        return list((empty | own | {"StudyDate_DICOM": "20100101", "PatientSex_DICOM": "F"}).values())

    write(out / "master_table.csv", columns, map(row, range(rows)))
    return ["padchest-gr", str(out)]


def nih(out: Path, rows: int) -> list[str]:
    columns = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"]
    columns += ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]", ""]

    def name(n: int) -> str:
        return f"{person(n) + 1:08}_{n % 4:03}.png"

    def row(n: int) -> list[str]:
        return [name(n), "Effusion|Edema", str(n % 4), str(person(n) + 1), "61", "F", "PA", "2500", "2048", "0.143", "0.143", ""]

    write(out / "Data_Entry_2017.csv", columns, map(row, range(rows)))
    boxes = ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""]
    write(out / "BBox_List_2017.csv", boxes, ([name(n), "Effusion", "208", "640", "208", "144", "", "", ""] for n in range(0, rows, 10)))
    (out / "train_val_list.txt").write_text("".join(f"{name(n)}\n" for n in range(rows) if person(n) % 5))
    (out / "test_list.txt").write_text("".join(f"{name(n)}\n" for n in range(rows) if not person(n) % 5))
    return ["nih", str(out)]


def vindr(out: Path, rows: int) -> list[str]:
    folder = out / "annotations"
    names = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural effusion", "Pneumonia", "Pneumothorax", "No finding"]
    # Three readers per image.
    readers = ([f"{n // 3:032x}", f"R{n % 3}", *labels(n)] for n in range(rows))
    write(folder / "image_labels_train.csv", ["image_id", "rad_id", *names], readers)
    write(folder / "image_labels_test.csv", ["image_id", *names], iter([]))
    boxes = ([f"{n // 3:032x}", f"R{n % 3}", "Edema", "10.5", "20.5", "30", "40"] for n in range(rows))
    write(folder / "annotations_train.csv", ["image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max"], boxes)
    return ["vindr", str(out)]


def cxr_lt(out: Path, rows: int) -> list[str]:
    columns = ["dicom_id", "subject_id", "study_id", "ViewPosition", "fpath", *[name for name in LABELS if name != "No Finding"], "Normal"]

    def row(n: int) -> list[str]:
        view = "LATERAL" if n % 2 else "AP"
        return [dicom(n), str(10000000 + person(n)), str(50000000 + n // 2), view, mimic_path(n)[6:], *labels(n // 2)]

    write(out / "cxr-lt-2024/development_labeled_task1.csv", columns, map(row, range(rows)))
    return ["cxr-lt", str(out), "--images", str(out)]


def ms_cxr(out: Path, rows: int) -> list[str]:
    columns = ["dicom_id", "subject_id", "study_id", "path", "split", "category_name", "label_text", "x", "y", "w", "h"]

    def row(n: int) -> list[str]:
        own = [dicom(n), str(10000000 + person(n)), str(50000000 + n // 2), mimic_path(n), "test", "Pneumonia", "left pneumonia"]
        return [*own, "10", "20", "30", "40", "2500", "3000"]

    write(out / "MS_CXR_Local_Alignment_v1.1.0.csv", [*columns, "image_width", "image_height"], map(row, range(rows)))
    return ["ms-cxr", str(out), "--images", str(out)]


def ms_cxr_t(out: Path, rows: int) -> list[str]:
    findings = ["consolidation", "edema", "pleural_effusion", "pneumonia", "pneumothorax"]
    columns = ["dicom_id", "previous_dicom_id", "subject_id", "study_id", *(f"{name}_progression" for name in findings)]
    frontal = range(0, rows, 2)
    pairs = ([dicom(n + 2), dicom(n), str(10000000 + person(n)), str(50000000 + n // 2 + 1), *["stable"] * 5] for n in frontal if n % 4 == 0)
    write(out / "MS_CXR_T_temporal_image_classification_v1.0.0.csv", columns, pairs)
    sentences = (["It is better.", "It has improved.", "paraphrase", "RadGraph"] for _ in range(rows))
    write(out / "MS_CXR_T_temporal_sentence_similarity_v1.0.0.csv", ["sentence_1", "sentence_2", "category", "subset_name"], sentences)
    return ["ms-cxr-t", str(out), "--images", str(out.parent / "mimic-cxr")]


def imagenome(out: Path, rows: int) -> list[str]:
    columns = ["patient_id", "relationship_id", "subject_id", "object_id", "bbox", "comparison", "attribute", "sentence"]
    columns += ["bbox_coord_224_subject", "bbox_coord_224_object", "bbox_coord_original_subject", "bbox_coord_original_object"]
    columns += ["label_name", "current_image_id", "previous_image_id"]

    def row(n: int) -> list[str]:
        first = n // 8 * 4
        own = [str(10000000 + person(first)), "", "", "", "left lung", "no change", "", "", "", "", "", ""]
        return [*own, LABELS[n % 7].lower(), f"{dicom(first + 2)}.dcm", f"{dicom(first)}.dcm"]

    write(out / "gold_dataset/gold_object_comparison_with_coordinates.txt", columns, map(row, range(rows)), "\t")
    return ["imagenome", str(out), "--images", str(out.parent / "mimic-cxr")]


def mi_cxr(out: Path, rows: int) -> list[str]:
    out.mkdir(parents=True, exist_ok=True)
    choices = {"A": "T1", "B": "T2", "C": "T3", "D": "T4", "E": "T5"}
    with open(out / "micxr_test.jsonl", "w") as file:
        for n in range(rows):
            # A patient has two frontal images here; a real series has five different ones.
            images = [mimic_path(n // 4 * 4 + 2 * (visit % 2)) for visit in range(5)]
            question = {"qid": n, "group_type": "TEL", "qtype": "onset", "images": images, "question": "When does edema appear?"}
            file.write(json.dumps(question | {"choices": choices, "answer": "B"}) + "\n")
    return ["mi-cxr", str(out), "--images", str(out.parent / "mimic-cxr")]


def rexgradient(out: Path, rows: int) -> list[str]:
    def study(n: int) -> dict[str, object]:
        folder = f"../deid_png/{10000000 + n // 2}/{50000000 + n}/studies/1.2/series/3.4/instances"
        own = {"ImagePath": [f"{folder}/{n}.{view}.png" for view in range(2)], "ImageViewPosition": ["PA", "LATERAL"]}
        own |= {"Indication": "Cough.", "Comparison": "None.", "Findings": REPORT.format(n=n), "Impression": "Small effusion."}
        return own | {"PatientSex": "F", "PatientAge": "061Y", "StudyDate": "20100101"}

    folder = out / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    (out / "deid_png").mkdir(exist_ok=True)
    for part, numbers in [("train", range(rows // 2)), ("valid", []), ("test", [])]:
        members = ",\n".join(f'"p{n}": {json.dumps(study(n))}' for n in numbers)
        (folder / f"{part}_metadata_view_position.json").write_text("{" + members + "}")
    return ["rexgradient", str(out)]


def covidx(out: Path, rows: int) -> list[str]:
    out.mkdir(parents=True, exist_ok=True)
    (out / "train_COVIDx6.txt").write_text("".join(f"{n} {n:032x}.png pneumonia rsna\n" for n in range(rows)))
    (out / "test_COVIDx6.txt").write_text(f"{rows} {rows:032x}.png normal rsna\n")
    return ["covidx", str(out)]


def chextemporal(out: Path, rows: int) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    words = ["Stable", "New", "Worse", "Improved", "Resolved"]
    numbers = range(rows)
    image = [f"train/patient{n // 4 + 1:05}/study{{}}/view1_frontal.jpg" for n in numbers]
    columns = {
        "patient_id": [f"patient{n // 4 + 1:05}" for n in numbers],
        "study_id_prev": ["study1"] * rows,
        "study_id_curr": ["study2"] * rows,
        "img_path_prev": [path.format(1) for path in image],
        "img_path_curr": [path.format(2) for path in image],
        "disease_name": [LABELS[n % 4].lower() for n in numbers],
        "progression": [words[n % 5] for n in numbers],
        "dataset": ["chexpert"] * rows,
    }
    out.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), out / "gold_progression_pairs.parquet")
    return ["chextemporal", str(out), "--chexpert", str(out)]


# mimic-cxr first, because other sources refer to its images.
SOURCES: dict[str, Callable[[Path, int], list[str]]] = {
    "mimic-cxr": mimic,
    "table": table,
    "chexpert": chexpert,
    "chexpert-plus": chexpert_plus,
    "rexgradient": rexgradient,
    "padchest": padchest,
    "padchest-gr": padchest_gr,
    "nih": nih,
    "vindr": vindr,
    "covidx": covidx,
    "ms-cxr": ms_cxr,
    "cxr-lt": cxr_lt,
    "ms-cxr-t": ms_cxr_t,
    "imagenome": imagenome,
    "mi-cxr": mi_cxr,
    "chextemporal": chextemporal,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", default="many-rows", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=list(SOURCES))
    arguments = parser.parse_args()
    medst = os.environ.get("MEDST", "target/release/medst")
    folder = arguments.out / str(arguments.rows)
    print(f"{'source':14}  {'seconds':>8}  {'MiB':>6}  with {arguments.rows:,} rows")
    for name in arguments.only:
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        try:
            command = SOURCES[name](own, arguments.rows) if not (own / "written").exists() else json.loads((own / "written").read_text())
        except ModuleNotFoundError as error:
            print(f"{name:14}  needs {error.name}")
            continue
        (own / "written").write_text(json.dumps(command))
        started = time.monotonic()
        with open(own / "said", "w") as said:
            program = subprocess.Popen([medst, "-q", "prepare", *command, "--check"], stdout=said, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(program.pid, 0)
        seconds = time.monotonic() - started
        code = os.waitstatus_to_exitcode(status)
        # Every picture is missing, which the check may call an error.
        if code not in (0, 1):
            sys.exit(f"{name}: exit code {code}; see {own / 'said'}")
        print(f"{name:14}  {seconds:8.1f}  {used.ru_maxrss / 1024:6.0f}  {used.ru_utime + used.ru_stime:.1f} s of a core", flush=True)


if __name__ == "__main__":
    main()
