#!/usr/bin/env python3
"""Tests the promises of docs/reliability.md on the real command: kills, flipped bits, bombs, and
clients that never read.

    tools/soak.py [kills|flips|bombs|readers ...] [--kills 1000] [--flips 10000] [--bombs 100]
                  [--readers 1024] [--seed 1]

Without names, all four parts run. Everything is synthetic and in a temporary folder; the service
listens on the loopback only. Exits with 0 only if everything held. Needs nothing but Python 3.9 and
Linux. `make soak` builds and runs it; SOAK='kills --kills 20' passes arguments.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEDST = os.environ.get("MEDST", str(ROOT / "target/release/medst"))
SMALL = [
    "model.image.size=48", "model.image.patch=16", "model.image.hidden_size=32", "model.image.num_layers=1", "model.image.num_heads=2",
    "model.image.intermediate_size=64", "model.text.hidden_size=32", "model.text.num_layers=1", "model.text.num_heads=2", "model.text.intermediate_size=64",
    "model.projection.hidden=48", "model.projection.embedding=32", "train.sequences_per_batch=4", "train.max_steps=6",
    "train.validate_every=2", "data.corpus=corpus",
]  # fmt: skip
# A model that is part of the program.
BUILTIN = "phantom"
# The list of checksums in every folder.
SUMS = "SHA256SUMS"
problems = []
# Threads that wait for each other would make the small model slow while other programs run.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def problem(text):
    problems.append(text)
    print(f"  PROBLEM: {text}", flush=True)


def medst(folder, *arguments, codes=(0,)):
    """Runs the command; another exit code than those expected ends the script."""
    done = subprocess.run([MEDST, "-q", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode not in codes:
        sys.exit(f"medst {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def pretrain(output):
    settings = [*SMALL, f"train.output={output}"]
    return ["pretrain", str(ROOT / "configs/tiny.toml"), *(word for own in settings for word in ("--set", own))]


def checksums(path, names=None):
    """Checksums of every file of a folder, or of one file."""
    files = [path] if path.is_file() else sorted(own for own in path.rglob("*") if own.is_file())
    kept = (own for own in files if names is None or own.name in names)
    return {str(own.relative_to(path.parent)): hashlib.sha256(own.read_bytes()).hexdigest() for own in kept}


def prepared():
    """A folder with a cohort, its corpus, a run, embeddings and an index."""
    folder = Path(tempfile.mkdtemp(prefix="medst-soak-"))
    medst(folder, "phantom", "raw", "--subjects", "40", "--size", "96")
    medst(folder, "prepare", "table", "raw/studies.csv", "--out", "corpus", "--image-size", "64")
    medst(folder, *pretrain("run"))
    medst(folder, "search", "index", "corpus", "--model", "run", "--out", "index")
    return folder


class Service:
    """`medst serve` with a model; `before` runs in the new process."""

    def __init__(self, folder, model, *more, before=None):
        command = [MEDST, "serve", "--model", model, "--bind", "127.0.0.1:0", "--no-token", *more]
        # The new process joins the group, this script does not.
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=before)
        self.lines, self.address = [], None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"serving at http://([0-9.]+):(\d+)", line):
                self.address = (found[1], int(found[2]))
                break
        # Its later output must be read, or it would block.
        threading.Thread(target=self.lines.extend, args=(self.process.stderr,), daemon=True).start()

    def ask(self, path, body=None, kind="application/json", patience=120):
        """Status and body; status 0 without an answer."""
        request = urllib.request.Request(f"http://{self.address[0]}:{self.address[1]}{path}", data=body)
        if body is not None:
            request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=patience) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            return 0, str(error).encode()

    def memory(self):
        """The peak memory of the process, MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120)


def upload(picture):
    line = b"a-line-that-no-picture-holds"
    head = b'--' + line + b'\r\nContent-Disposition: form-data; name="frontal"; filename="x"\r\n\r\n'
    return head + picture + b"\r\n--" + line + b"--\r\n", "multipart/form-data; boundary=" + line.decode()


# Kills
# --------------------------------------------------------------------------------------------------


def kills(arguments, chance):
    """SIGKILL at random moments; afterwards the target must be a previous or a complete result, and
    the end result must have the same bytes.
    """
    folder = prepared()
    embed = ["embed", "corpus", "--model", "run", "--out"]
    index = ["search", "index", "corpus", "--model", "run", "--out"]
    medst(folder, *embed, "whole.parquet")
    # Weights, optimiser and position; logs are excluded because they contain times.
    lasting = {"model.safetensors", "optimizer.safetensors", "state.json", "config.toml", "config.json"}
    stages = {
        "prepare": ("corpus", "again", lambda out: ["prepare", "table", "raw/studies.csv", "--out", out, "--image-size", "64"], None),
        "pretrain": ("run", "again", pretrain, lasting),
        "embed": ("whole.parquet", "again.parquet", lambda out: [*embed, out], None),
        "index": ("index", "again", lambda out: [*index, out], None),
    }
    counts = dict.fromkeys([*stages, "serve"], 0)
    different = 0
    each = max(1, arguments.kills // len(counts))
    for name, (whole, out, command, names) in stages.items():
        own = folder
        if name == "pretrain":
            # A run's configuration names its output, so both outputs have the same name, in
            # separate folders.
            own, out = folder / "killed", "run"
            own.mkdir()
            (own / "corpus").symlink_to(folder / "corpus")
        expected = {key.split("/", 1)[-1]: value for key, value in checksums(folder / whole, names).items()}
        target = own / out
        start = time.monotonic()
        subprocess.run([MEDST, "-q", *command(out)], cwd=own, check=True, capture_output=True)
        whole_time = time.monotonic() - start
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        while counts[name] < each:
            more = ["--resume"] if name == "pretrain" and (target / "config.toml").exists() else []
            process = subprocess.Popen([MEDST, "-q", *command(out), *more], cwd=own, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
            try:
                said = process.communicate(timeout=chance.uniform(0, 1.05 * whole_time))[1]
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                counts[name] += 1
                # A target that appears completely or not at all must be complete now.
                if name == "pretrain" or not target.exists():
                    continue
            else:
                if process.returncode != 0:
                    problem(f"{name} after a kill: {process.returncode} {said.decode()[-300:]}")
                    break
            found = {key.split("/", 1)[-1]: value for key, value in checksums(target, names).items()}
            if name == "pretrain":
                # Links list the same files twice, and older checkpoints are removed at other
                # moments.
                found, wanted = ({key: value for key, value in all.items() if "checkpoints" not in key} for all in (found, expected))
            else:
                wanted = expected
            if name == "embed":
                found, wanted = set(found.values()), set(wanted.values())
            if found != wanted:
                different += 1
                problem(f"{name}: other bytes than those of an uninterrupted run in {target}")
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        print(f"  {name}: {counts[name]} kills within {whole_time:.2f} s of work", flush=True)
    different += killed_services(folder, each, counts, chance)
    total = sum(counts.values())
    print(f"kills: {total} ({counts}), {different} end results with other bytes")
    shutil.rmtree(folder)


def killed_services(folder, each, counts, chance):
    """Every answer that a service gave before it was killed is right, and no file that it reads has
    changed.
    """
    before = checksums(folder / "run"), checksums(folder / "index")
    picture = next(iter(sorted((folder / "raw").rglob("*.png")))).read_bytes()
    body, kind = upload(picture)
    service = Service(folder, "run", "--index", "index")
    expected = service.ask("/v1/embed", body, kind)
    service.end()
    different = answered = 0
    while counts["serve"] < each:
        service = Service(folder, "run", "--index", "index")
        ended = threading.Event()

        def asking(service=service, ended=ended):
            nonlocal answered, different
            while not ended.is_set():
                status, answer = service.ask("/v1/embed", body, kind)
                if status == 200:
                    answered += 1
                    if (status, answer) != expected:
                        different += 1
                        problem("serve: another answer than before")

        # One client only: in a batch with another client's inputs, the last bits of an answer
        # differ.
        client = threading.Thread(target=asking)
        client.start()
        time.sleep(chance.uniform(0, 0.5))
        service.process.kill()
        ended.set()
        service.process.wait()
        client.join()
        counts["serve"] += 1
    if (checksums(folder / "run"), checksums(folder / "index")) != before:
        different += 1
        problem("serve: a killed service left other files")
    print(f"  serve: {counts['serve']} kills, {answered} answers before them", flush=True)
    return different


# Flips
# --------------------------------------------------------------------------------------------------


def flips(arguments, chance):
    """One bit of every file of a corpus, a checkpoint or an index is flipped; `medst verify` must
    name each of them.

    The list of checksums is flipped in separate rounds, since a wrong list may hide which of the
    others are wrong.
    """
    folder = prepared()
    targets = [folder / "corpus", (folder / "run/last").resolve(), folder / "index"]
    files = {}
    for target in targets:
        medst(folder, "verify", str(target))
        found = [own for own in sorted(target.rglob("*")) if own.is_file() and own.stat().st_size]
        files[target] = [own for own in found if own.name == SUMS], [own for own in found if own.name != SUMS]
    unnoticed, by_file = [], {}
    while sum(by_file.values()) < arguments.flips:
        target = chance.choice(targets)
        lists, others = files[target]
        flipped = lists if lists and chance.random() < 0.15 else others
        places = [(file, chance.randrange(file.stat().st_size), 1 << chance.randrange(8)) for file in flipped]
        for place in places:
            flip(*place)
        done = subprocess.run([MEDST, "-q", "--json", "verify", str(target)], cwd=folder, capture_output=True, text=True)
        if done.returncode < 0 or "panicked" in done.stderr:
            problem(f"verify of {target.name} with {places}: {done.returncode} {done.stderr[-300:]}")
        try:
            named = {Path(fault["path"]).name for fault in json.loads(done.stdout)["faults"]}
        except ValueError:
            # Nothing can be read: with one flipped file that is a detection; with several it does
            # not show which.
            named = {file.name for file in flipped} if len(flipped) == 1 else set()
        for file, place, bit in places:
            by_file[file.name] = by_file.get(file.name, 0) + 1
            whole = done.returncode == 0 or (flipped is others and file.name not in named)
            if whole:
                unnoticed.append(f"{file.name} byte {place} bit {bit}")
            flip(file, place, bit)
    for target in targets:
        medst(folder, "verify", str(target))
    for own in unnoticed:
        problem(f"unnoticed: {own}")
    print(f"flips: {sum(by_file.values())} ({by_file}), {len(unnoticed)} unnoticed")
    shutil.rmtree(folder)


def flip(file, place, bit):
    with open(file, "r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ bit]))


# Bombs
# --------------------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(count, raw=False, before=b""):
    """Deflates bytes followed by that many zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15 if raw else 15)
    parts = [packer.compress(before)]
    block = bytes(1 << 20)
    parts += [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, packer.compress(bytes(count % (1 << 20))), packer.flush()])


def png(width, height, depth, colour, more=b""):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    row = width * {0: 1, 6: 4}[colour] * depth // 8 + 1
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zeros(row * height)) + chunk(b"IEND", b"")


def element(group, number, kind, value):
    value += b"\0" * (len(value) % 2)
    if kind in (b"OB", b"OW", b"SQ", b"UN"):
        return struct.pack("<HH", group, number) + kind + b"\0\0" + struct.pack("<I", len(value)) + value
    return struct.pack("<HH", group, number) + kind + struct.pack("<H", len(value)) + value


def dicom(rows, columns, deflated=False, in_front=b"", after=0):
    """A DICOM file of 16-bit zeros."""
    us = lambda number, value: element(0x28, number, b"US", struct.pack("<H", value))  # noqa: E731
    front = in_front + us(0x02, 1) + element(0x28, 0x04, b"CS", b"MONOCHROME2") + us(0x10, rows) + us(0x11, columns)
    front += us(0x100, 16) + us(0x101, 16) + us(0x102, 15) + us(0x103, 0)
    size = rows * columns * 2
    front += struct.pack("<HH", 0x7FE0, 0x10) + b"OW\0\0" + struct.pack("<I", size)
    syntax = b"1.2.840.10008.1.2.1.99" if deflated else b"1.2.840.10008.1.2.1"
    group = element(2, 0x10, b"UI", syntax)
    meta = element(2, 0, b"UL", struct.pack("<I", len(group))) + group
    body = zeros(size + after, raw=True, before=front) if deflated else front + bytes(size)
    return bytes(128) + b"DICM" + meta + body


def scans(width, height, count):
    """A progressive JPEG: a table with one code for 16384 empty blocks, and many scans of these."""
    head = b"\xff\xd8\xff\xdb" + struct.pack(">HB", 67, 0) + b"\1" * 64
    head += b"\xff\xc2" + struct.pack(">HBHHBBBB", 11, 8, height, width, 1, 1, 0x11, 0)
    head += b"\xff\xc4" + struct.pack(">HBB", 20, 0, 1) + bytes(15) + b"\0" + b"\xff\xc4" + struct.pack(">HBB", 20, 0x10, 1) + bytes(15) + b"\xe0"
    blocks = -(-width // 8) * -(-height // 8)
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0) + bytes(blocks * 15 // 16384 // 8 + 2)
    return head + scan * count + b"\xff\xd9"


def kinds_of_bombs():
    profile = chunk(b"iCCP", b"p\0\0" + zeros(400 << 20))
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 2_000_000
    values = b'{"studies": [' + b"{}," * 5_000_000 + b"{}]}"
    nested = b'{"texts": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    encoded = json.dumps({"frontal": base64.b64encode(png(6000, 5600, 16, 6)).decode()}).encode()
    # The largest size that a service with half of 1 GiB still decodes.
    pictures = {
        "PNG, 49 million pixels of 8 bits": png(7000, 7000, 8, 0),
        "PNG, 34 million pixels of 16-bit RGBA": png(6000, 5600, 16, 6),
        "PNG, 4 thousand million pixels": png(1, 1, 8, 0)[:16] + struct.pack(">II", 65536, 65536) + png(1, 1, 8, 0)[24:],
        "PNG, colour profile of 400 MiB": png(64, 64, 8, 0, profile),
        "JPEG, 49 million pixels, 64 scans": scans(7000, 7000, 64),
        "JPEG, a thousand scans": scans(4096, 4096, 1000),
        "DICOM, deflated, 41 million pixels": dicom(6400, 6400, deflated=True),
        "DICOM, deflated, 1 GiB after the pixels": dicom(64, 64, deflated=True, after=1 << 30),
        "DICOM, two million items": dicom(64, 64, in_front=element(0x21, 0x1010, b"SQ", items)),
        "DICOM, 65535 rows and columns": dicom(64, 64).replace(struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 64), struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 65535)),
    }
    bodies = {name: upload(picture) for name, picture in pictures.items()}
    kind = "application/json"
    bodies |= {"JSON, five million values": (values, kind), "JSON, 200,000 levels": (nested, kind), "PNG of 16-bit RGBA in base64": (encoded, kind)}
    return bodies


class Group:
    """A control group (version 1 or 2) below that of this process, with a memory limit. None if it
    cannot be made.
    """

    def __init__(self, limit):
        self.path = None
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kind, own = line.split(":", 2)
            if kind not in ("", "memory"):
                continue
            self.root = Path("/sys/fs/cgroup") / kind / own.lstrip("/")
            self.names = ("memory.max", "memory.events") if kind == "" else ("memory.limit_in_bytes", "memory.oom_control")
            try:
                (self.root / "medst-soak").mkdir()
                self.path = self.root / "medst-soak"
                (self.path / self.names[0]).write_text(str(limit))
                return
            except OSError:
                if self.path:
                    self.path.rmdir()
                    self.path = None

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def killed(self):
        return int(re.search(r"oom_kill (\d+)", (self.path / self.names[1]).read_text())[1])


def bombs(arguments, chance):
    """Uploads that are small to send and large to decode, four at a time, against a service limited
    to 1 GiB.
    """
    folder = Path(tempfile.mkdtemp(prefix="medst-soak-"))
    group = Group(1 << 30)
    if group.path is None:
        print("  no control group can be made here: the peak is only compared with the limit")
    service = Service(folder, BUILTIN, "--max-body", "64", before=group.enter if group.path else None)
    rest = service.memory()
    bodies = kinds_of_bombs()
    names = sorted(bodies)
    counts, slowest, lock = {}, {}, threading.Lock()

    def send(number):
        name = names[number % len(names)]
        route = "/v1/embed" if number // len(names) % 2 == 0 or bodies[name][1] == "application/json" else "/v1/picture"
        body, kind = bodies[name]
        if route == "/v1/picture":
            body = body.replace(b'name="frontal"', b'name="picture"')
        for _ in range(200):
            start = time.monotonic()
            status, answer = service.ask(route, body, kind, patience=300)
            if status not in (429, 503):
                break
            time.sleep(0.3)
        with lock:
            key = f"{name}: {status}"
            counts[key] = counts.get(key, 0) + 1
            slowest[name] = max(slowest.get(name, 0), time.monotonic() - start)
            if status not in (200, 400, 413, 504):
                problem(f"{name}: {status} {answer[:200]!r}")

    numbers = list(range(arguments.bombs))
    chance.shuffle(numbers)
    threads = [threading.Thread(target=lambda own=numbers[n::4]: [send(number) for number in own]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    peak = service.memory()
    if service.ask("/health")[0] != 200 or service.process.poll() is not None:
        problem("the service does not answer after the bombs")
    if group.path and group.killed():
        problem("the control group ran out of memory")
    if peak > 1024:
        problem(f"{peak:.0f} MiB at the peak")
    code = service.end()
    if code != 0 or any("panicked" in line for line in service.lines):
        problem(f"the service ended with {code}")
    if group.path:
        group.path.rmdir()
    for key in sorted(counts):
        print(f"  {counts[key]:3} × {key}, at most {slowest[key.rsplit(':', 1)[0]]:.1f} s")
    limit = "in a control group of 1 GiB" if group.path else "without a control group"
    print(f"bombs: {sum(counts.values())} {limit}; {rest:.0f} MiB at rest, {peak:.0f} MiB at the peak")
    shutil.rmtree(folder)


# Readers
# --------------------------------------------------------------------------------------------------


def readers(arguments, chance):
    """Clients from eight addresses that request large answers and never read them; other clients
    must be answered meanwhile.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * arguments.readers + 256), most))
    folder = Path(tempfile.mkdtemp(prefix="medst-soak-"))
    service = Service(folder, BUILTIN)
    body, kind = upload(png(512, 512, 8, 0))
    alone = []
    for _ in range(10):
        start = time.monotonic()
        expected = service.ask("/v1/embed", body, kind)
        alone.append(time.monotonic() - start)
    silent, refused = [], 0
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    for number in range(arguments.readers):
        client = socket.socket()
        # A small buffer, so that the answers stay with the service.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            client.bind((f"127.0.0.{2 + number % 8}", 0))
            client.settimeout(10)
            client.connect(service.address)
            client.sendall(request)
        except OSError:
            refused += 1
        silent.append(client)
    meanwhile = []
    for _ in range(20):
        start = time.monotonic()
        status, answer = service.ask("/v1/embed", body, kind, patience=30)
        meanwhile.append(time.monotonic() - start)
        if (status, answer) != expected:
            problem(f"a client next to the silent ones: {status} {answer[:200]!r}")
    peak = service.memory()
    for client in silent:
        client.close()
    time.sleep(1)
    descriptors = len(os.listdir(f"/proc/{service.process.pid}/fd"))
    code = service.end()
    if code != 0 or descriptors > 64:
        problem(f"ended with {code}; {descriptors} descriptors after all had gone")
    alone, meanwhile = (sorted(times)[len(times) // 2] * 1000 for times in (alone, meanwhile))
    print(f"readers: {arguments.readers} silent ({refused} refused); median answer {alone:.0f} ms alone, {meanwhile:.0f} ms next to them; {peak:.0f} MiB at the peak")
    shutil.rmtree(folder)


def main():
    parts = {"kills": (kills, 1000), "flips": (flips, 10_000), "bombs": (bombs, 100), "readers": (readers, 1024)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="which; all where none is named")
    parser.add_argument("--seed", type=int, default=1)
    for name, (_, default) in parts.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    for name in arguments.parts or parts:
        if name not in parts:
            parser.error(f"{name}: expected {', '.join(parts)}")
        print(f"{name} …", flush=True)
        start = time.monotonic()
        parts[name][0](arguments, random.Random(arguments.seed))
        print(f"  {time.monotonic() - start:.0f} s", flush=True)
    print("held" if not problems else f"DID NOT HOLD: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
