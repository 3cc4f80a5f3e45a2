"""unpickle.py CHECKPOINT WEIGHTS: reads a checkpoint with Python's own pickle and zipfile, allowing
only what torch.load(weights_only=True) allows, and compares every weight that a safetensors file
has too.
"""

import json
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict

checkpoint, weights = sys.argv[1:]
archive = zipfile.ZipFile(checkpoint)
assert archive.testzip() is None
assert archive.read("archive/byteorder") == b"little" and archive.read("archive/version") == b"3\n"
SIZES = {"FloatStorage": 4, "LongStorage": 8}


def rebuild(storage, offset, shape, stride, requires_grad, hooks):
    """Values row by row, as bytes."""
    data, size = storage
    places = [offset]
    for length, step in zip(shape, stride):
        places = [place + n * step for place in places for n in range(length)]
    assert requires_grad is False and hooks == OrderedDict()
    return list(shape), b"".join(data[place * size : (place + 1) * size] for place in places)


class Reader(pickle.Unpickler):
    def find_class(self, module, name):
        known = {("collections", "OrderedDict"): OrderedDict, ("torch._utils", "_rebuild_tensor_v2"): rebuild}
        if module == "torch" and name in SIZES:
            return name
        return known[module, name]

    def persistent_load(self, reference):
        kind, storage, key, location, count = reference
        assert (kind, location) == ("storage", "cpu")
        entry = archive.getinfo(f"archive/data/{key}")
        assert entry.compress_type == zipfile.ZIP_STORED
        data = archive.read(entry)
        assert len(data) == count * SIZES[storage]
        return data, SIZES[storage]


root = Reader(archive.open("archive/data.pkl")).load()
assert set(root) == {"state_dict", "epoch", "global_step", "pytorch-lightning_version", "medst"}
assert json.loads(root["medst"])["format"] == "medst-model"
found = root["state_dict"]

with open(weights, "rb") as file:
    (length,) = struct.unpack("<Q", file.read(8))
    head = json.loads(file.read(length))
    body = file.read()
head.pop("__metadata__", None)
assert set(head) == set(found), set(head) ^ set(found)
compared = 0
for name, entry in head.items():
    shape, data = found[name]
    assert shape == entry["shape"], name
    begin, end = entry["data_offsets"]
    unused = ["_embed_la.", "crossattention", "pooler", "_local_atten_layer", "out_proj", "num_batches_tracked", "position_ids"]
    if not any(part in name for part in unused):
        theirs = body[begin:end]
        # Of the importance attentions two thirds are used: queries and keys.
        used = len(theirs) * 2 // 3 if "element_wise" in name else len(theirs)
        assert data[:used] == theirs[:used], name
        compared += 1
print(f"{compared} tensors have the same bytes, {len(found)} the same shape")
assert compared > 100
