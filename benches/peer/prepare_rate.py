"""Prepares a corpus of copies of one radiograph with the command: pictures per second, share of the
cores used, memory.

prepare_rate.py MEDST FILE COUNT
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main(medst, file, count):
    with tempfile.TemporaryDirectory(dir=Path(file).parent) as folder:
        folder = Path(folder)
        rows = ["subject_id,view,image"]
        for n in range(count):
            os.link(file, folder / f"{n}.jpg")
            rows.append(f"{n},PA,{n}.jpg")
        (folder / "studies.csv").write_text("\n".join(rows) + "\n")
        start = time.perf_counter()
        command = [medst, "--quiet", "prepare", "table", folder / "studies.csv", "--out", folder / "corpus"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = len(os.sched_getaffinity(0))
    share = (used.ru_utime + used.ru_stime) / wall / cores
    print(json.dumps({"per_s": count / wall, "cores": cores, "cores_used": share, "peak_gib": used.ru_maxrss / 2**20}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
