"""Embeds the same radiographs with the command and with the loop of embed.py, in turns, with the
same weights.

embed_rate.py MEDST COHORT FILE ROUNDS: COHORT is one of `medst phantom` in 256 pixels, FILE a large
radiograph. Prints one JSON object: for each way pictures per second of both, without the start of
the program and of its first batch, and the smallest cosine of their embeddings; and the seconds of
the command for a single picture, which are its start.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OWN = Path(__file__).parent / "embed.py"


def main(medst, cohort, file, rounds):
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        folder = Path(folder)
        model, reference = weights(medst, folder)
        studies = {}
        for row in csv.DictReader((cohort / "studies.csv").open()):
            view = "LATERAL" if row["view"] in ("LATERAL", "LL") else "PA"
            studies.setdefault(row["study_id"], {})[view] = os.path.relpath(cohort / row["image"], folder)
        both = [own for own in studies.values() if len(own) == 2][:64]
        for n in range(64):
            os.link(file, folder / f"{n}.jpg")
        single = table(folder / "one.csv", [{"PA": own["PA"]} for own in studies.values() if "PA" in own][:96])
        large = table(folder / "large.csv", [{"PA": f"{n}.jpg"} for n in range(64)])
        lone = table(folder / "lone.csv", [{"PA": "0.jpg"}])
        two = table(folder / "two.csv", both)
        run(medst, "-q", "prepare", "table", single, "--out", folder / "corpus")
        embed = lambda given, out="ours.npy": run(medst, "-q", "embed", given, "--model", model, "--out", folder / out)
        start = sorted(embed(lone) for _ in range(2 * rounds + 1))[rounds]
        ways = {"large": (large, large, 64, 1), "two": (two, two, 128, 2), "corpus": (folder / "corpus", single, 96, 1)}
        results = {"start_s": start}
        for name, (ours, peers, pictures, views) in ways.items():
            rates, theirs = [], []
            for _ in range(rounds):
                rates.append((pictures - 1) / (embed(ours, "ours.parquet" if name == "corpus" else "ours.npy") - start))
                out = python("run", reference, peers, "--views", views, "--out", folder / "peer.npy")
                theirs.append(json.loads(out)["per_s"])
            results[name] = {"ours": rates, "peer": theirs}
            if name != "corpus":
                results[name] |= json.loads(python("compare", folder / "ours.npy", folder / "peer.npy"))
                assert results[name]["smallest_cosine"] > 0.9999, "not the same embeddings"
    print(json.dumps(results))


def weights(medst, folder):
    """Writes random weights in the command's form and under the reference's names."""
    python("make", folder / "parts")
    model, reference = folder / "model", folder / "model.ckpt"
    parts = [f"image={folder}/parts/vit.safetensors", f"text={folder}/parts/bert"]
    run(medst, "-q", "convert", *parts, "--out", model)
    run(medst, "-q", "convert", model, "--to", "reference", "--out", reference)
    return model, reference


def table(path, studies):
    rows = [[f"s{n}", f"s{n}", view, image] for n, own in enumerate(studies) for view, image in own.items()]
    with path.open("w", newline="") as out:
        csv.writer(out).writerows([["subject_id", "study_id", "view", "image"], *rows])
    return path


def run(*command):
    """Runs a command and returns its seconds."""
    start = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def python(*command):
    return subprocess.run([sys.executable, OWN, *map(str, command)], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve(), int(sys.argv[4]))
