"""The average of two models of one shape, value by value (Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022).

    python3 tools/average_weights.py FIRST SECOND SHARE OUT     # folders of models; SHARE of SECOND, 0 to 1

What a model gains late in training often costs it something that it could do before; on the way between the two it keeps most of both.
Needs the standard library only. Both must be float32, as runs leave them.
"""

import array
import json
import pathlib
import shutil
import struct
import sys


def read(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    head = json.loads(data[8 : 8 + length])
    return data[: 8 + length], head, data[8 + length :]


def main():
    first, second, share, out = (*map(pathlib.Path, sys.argv[1:3]), float(sys.argv[3]), pathlib.Path(sys.argv[4]))
    _, a_head, a = read(first / "model.safetensors")
    raw_head, b_head, b = read(second / "model.safetensors")
    tensors = {name: entry for name, entry in b_head.items() if name != "__metadata__"}
    assert set(tensors) == set(a_head) - {"__metadata__"}, "the models have different tensors"
    result = bytearray(b)
    for name, entry in tensors.items():
        other = a_head[name]
        assert entry["dtype"] == other["dtype"] == "F32", f"{name}: not float32"
        assert entry["shape"] == other["shape"], f"{name}: different shapes"
        (start, end), (from_, to) = entry["data_offsets"], other["data_offsets"]
        values = zip(array.array("f", a[from_:to]), array.array("f", b[start:end]))
        result[start:end] = array.array("f", [(1 - share) * x + share * y for x, y in values]).tobytes()
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.safetensors").write_bytes(raw_head + bytes(result))
    for name in ("config.json", "vocab.txt"):
        shutil.copy(second / name, out / name)


main()
