"""Reads every DICOM file of pydicom, pydicom-data and DIRECTORIES with medst and with pydicom, and
compares the pixels.

    dicom_peer.py READ_GREYS TABLE [DIRECTORY …]

TABLE gets one row per file: `same` (within one grey level), or `refused` or `differs` with the
reason. A file without a reason makes the exit status 1. `tools/dicom_peer.sh` runs this.
"""

import csv
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

import data_store
import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut, pixel_array
from pydicom.uid import UncompressedTransferSyntaxes

warnings.filterwarnings("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

# Formats that docs/data.md lists as unsupported and that pydicom reads.
REFUSALS = {
    r"it has \d+ frames": "several frames",
    r"a colour palette": "a palette",
    r"unsupported transfer syntax": "a transfer syntax that is not supported",
    r"BitsAllocated is (1|32|64);": "another depth than 8 or 16 bits",
    r"floating-point": "floating-point pixels",
    r"colour of \d+ bit": "colour of more than 8 bits",
    r"-bit lossy JPEG": "lossy JPEG of more than 8 bits",
    r"[23] components of \d+ bit; (lossless|JPEG-LS) grey": "colour in lossless JPEG or JPEG-LS",
}


def first(value):
    """The first valid number of one or several values."""
    values = value if isinstance(value, pydicom.multival.MultiValue) else [value]
    for value in values:
        try:
            return float(value)
        except (TypeError, ValueError):
            continue
    return None


def grey(path: pathlib.Path) -> np.ndarray:
    """The 8-bit grey values by the rules of docs/data.md, from pydicom's stored values."""
    ds = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        little, implicit = ds.original_encoding[1], ds.original_encoding[0]
        ds.file_meta.TransferSyntaxUID = UncompressedTransferSyntaxes[1 if implicit else 0 if little else 3]
    # In luma and chroma images the luma is the grey value; conversion to RGB and back would change
    # it for colours outside RGB.
    is_luma = str(ds.get("PhotometricInterpretation", "")).startswith("YBR_FULL")
    stored = pixel_array(ds, raw=is_luma)
    if is_luma:
        return stored[..., 0]
    if ds.SamplesPerPixel == 3:
        red, green, blue = np.moveaxis(stored.astype(float), -1, 0)
        return np.rint(0.299 * red + 0.587 * green + 0.114 * blue).clip(0, 255).astype(np.uint8)
    stored = stored.astype(np.int64)
    padding = np.zeros(stored.shape, bool)
    if ds.get("PixelPaddingValue") is not None:
        wrap = lambda value: (int(value) + 32768) % 65536 - 32768 if ds.PixelRepresentation else int(value) % 65536
        low = wrap(ds.PixelPaddingValue)
        high = wrap(ds.get("PixelPaddingRangeLimit", low))
        padding = (stored >= min(low, high)) & (stored <= max(low, high))
    if ds.get("RescaleSlope") == 0:
        ds.RescaleSlope = 1
    values = apply_modality_lut(stored, ds).astype(float)
    plain = not ds.get("ModalityLUTSequence") and [first(ds.get(k, d)) for k, d in (("RescaleSlope", 1), ("RescaleIntercept", 0))] == [1, 0]
    shown = interest(ds, values)
    if shown is None:
        low, high = 0, 255
        if not (ds.BitsStored == 8 and ds.PixelRepresentation == 0 and plain):
            low, high = (values[~padding].min(), values[~padding].max()) if (~padding).any() else (0, 1)
        shown = (values - low) * 255 / max(high - low, 1e-300)
    shown = np.floor(shown + 0.5).clip(0, 255).astype(np.uint8)
    if ds.PhotometricInterpretation == "MONOCHROME1" or str(ds.get("PresentationLUTShape", "")).upper() == "INVERSE":
        shown = 255 - shown
    shown[padding] = 0
    return shown


def interest(ds: pydicom.Dataset, values: np.ndarray):
    """Values through the table or window of interest, 0 to 255; None without one."""
    for item in ds.get("VOILUTSequence") or []:
        if not item.get("LUTDescriptor"):
            continue
        count, start, bits = item.LUTDescriptor
        table = np.asarray(item.LUTData if not isinstance(item.LUTData, bytes) else np.frombuffer(item.LUTData, "<u2"), np.int64) & 0xFFFF
        if len(table) < (count or 65536):
            table = np.frombuffer(table.astype("<u2").tobytes(), np.uint8).astype(np.int64)
        fitting = next((depth for depth in (8, 10, 12, 14) if table.max() < 1 << depth), 16)
        depth = bits if table.max() < 1 << bits and fitting + 2 > bits else fitting
        index = np.clip(np.rint(values) - start, 0, len(table) - 1).astype(int)
        return table[index] * 255 / ((1 << depth) - 1)
    center, width = first(ds.get("WindowCenter")), first(ds.get("WindowWidth"))
    function = str(ds.get("VOILUTFunction") or "LINEAR").upper()
    if center is None or width is None or width < (1 if function == "LINEAR" else 1e-300):
        return None
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1) * 255
    if function == "SIGMOID":
        return 255 / (1 + np.exp(-4 * (values - center) / width))
    if width == 1:
        return (values > center - 0.5) * 255.0
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def compare(path: pathlib.Path, found: dict, pixels: pathlib.Path) -> tuple[str, str, str]:
    """Outcome, details, and the reason, which is empty if a difference has no explanation."""
    if "disagreement" in found:
        return "differs", found["disagreement"], ""
    try:
        expected, peer = grey(path), ""
    except Exception as error:  # pydicom raises errors of every kind
        expected, peer = None, f"pydicom: {type(error).__name__}: {error}".split("\n")[0][:120]
    if "error" in found:
        known = next((reason for pattern, reason in REFUSALS.items() if re.search(pattern, found["error"])), "")
        return "refused", f"{found['error']} {peer}", "pydicom does not read it either" if expected is None else known
    if expected is None:
        return "differs", f"read, but {peer}", ""
    shape = (found["height"], found["width"])
    if expected.shape != shape:
        return "differs", f"{shape} pixels, pydicom has {expected.shape}", ""
    values = np.fromfile(pixels, np.uint8).reshape(shape)
    off = int(np.abs(values.astype(int) - expected).max())
    notes = "; ".join(found["notes"])
    return ("same", notes, "within one grey level") if off <= 1 else ("differs", f"{off} levels {notes}", "")


def main() -> int:
    program, table, *directories = sys.argv[1:]
    packages = [pathlib.Path(module.__file__).parent for module in (pydicom, data_store)]
    roots = [*packages, *map(pathlib.Path, directories)]
    skipped = {".py", ".pyc", ".json", ".md", ".txt", ".npy", ".dump", ".icc", ".rst", ".gz", ".typed", ".csv"}
    paths = sorted(path for root in roots for path in root.rglob("*") if path.is_file() and path.suffix not in skipped)
    with tempfile.TemporaryDirectory() as folder:
        listed = "".join(f"{path}\n" for path in paths)
        run = subprocess.run([program, folder], input=listed, capture_output=True, text=True, check=True)
        rows = []
        for number, (path, line) in enumerate(zip(paths, run.stdout.splitlines(), strict=True)):
            outcome = compare(path, json.loads(line), pathlib.Path(folder) / f"{number}.grey")
            root = next(root for root in roots if path.is_relative_to(root))
            rows.append([str(path.relative_to(root.parent)), *outcome])
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows([["file", "outcome", "details", "reason"], *rows])
    for outcome in ("same", "refused", "differs"):
        print(f"{sum(row[1] == outcome for row in rows):4} {outcome}")
    unexplained = [row for row in rows if not row[3]]
    for row in unexplained:
        print("unexplained:", *row[:3], sep="\t")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
