"""The same picture gives the same embedding in every form; input that is not a picture is refused
by name.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import medst


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_path_bytes_pil_an_array_and_a_tensor_are_one_picture(model, radiographs):
    path = radiographs[0]
    image = Image.open(path)
    pixels = np.asarray(image)
    forms = [path, str(path), path.read_bytes(), image, pixels, torch.from_numpy(pixels.copy()), pixels[:, :, None]]
    # Each form alone, because the last bits of float32 depend on the position in a batch.
    found = [model.embed_images([form]) for form in forms]
    assert found[0].shape == (1, model.width) and found[0].dtype == torch.float32
    for other in found[1:]:
        assert torch.equal(other, found[0])
    assert torch.allclose(model.embed_images(forms), torch.cat(found), atol=1e-6)


def test_every_mode_of_pil_is_its_png_file(model):
    generator = np.random.default_rng(0)
    colour = Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    alpha = colour.convert("RGBA")
    alpha.putalpha(Image.fromarray(generator.integers(0, 256, (40, 50), dtype=np.uint8)))
    deep = Image.fromarray(generator.integers(0, 65536, (40, 50), dtype=np.uint16))
    grey = colour.convert("L")
    pictures = {
        "L": grey,
        "1": grey.convert("1"),
        "LA": alpha.convert("LA"),
        "P": colour.quantize(16),
        "RGB": colour,
        "RGBA": alpha,
        "I;16": deep,
    }
    for mode, image in pictures.items():
        assert image.mode == mode
        assert torch.equal(model.embed_images([image]), model.embed_images([png(image)])), mode
    wide = Image.fromarray(np.asarray(deep).astype(np.int32))
    assert wide.mode == "I"
    assert torch.equal(model.embed_images([wide]), model.embed_images([png(deep)]))
    # 12 bits in 16: neither is nearly black.
    low = Image.fromarray((np.asarray(deep) >> 4).astype(np.uint16))
    found = model.embed_images([low, png(low), np.asarray(low)])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_picture_is_turned_as_its_exif_data_say(model, radiographs):
    image = Image.open(radiographs[0]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    turned = Image.open(io.BytesIO(buffer.getvalue()))
    of_file, of_pil, upright = (model.embed_images([own]) for own in (buffer.getvalue(), turned, image))
    assert torch.equal(of_file, of_pil)
    assert not torch.equal(of_file, upright)


def test_a_jpeg_file_and_what_pil_decodes_of_it_are_a_grey_level_apart(model, radiographs):
    buffer = io.BytesIO()
    Image.open(radiographs[0]).convert("L").save(buffer, "JPEG", quality=92)
    of_file, of_pil = model.embed_images([buffer.getvalue(), Image.open(io.BytesIO(buffer.getvalue()))])
    assert of_file @ of_pil > 0.995


def test_a_pydicom_dataset_is_its_file(model, dicoms):
    pydicom = pytest.importorskip("pydicom")
    paths = dicoms[:3]
    assert paths
    datasets = [pydicom.dcmread(path) for path in paths]
    assert torch.equal(model.embed_images(datasets), model.embed_images(paths))
    del datasets[0].file_meta
    with pytest.raises(medst.ImageError, match=r"images\[0\].*TransferSyntaxUID"):
        model.embed_images(datasets[:1])


def test_a_study_has_two_views_and_single_ones_are_others(model, corpus):
    study = next(study for study in corpus if study.lateral is not None)
    both, pair, frontal, lateral = (
        model.embed_images([study]),
        model.embed_images([(study.frontal, study.lateral)]),
        model.embed_images([study.frontal]),
        model.embed_images([study.lateral], view="lateral"),
    )
    assert torch.equal(both, pair)
    assert not torch.allclose(both, frontal) and not torch.allclose(both, lateral)
    assert torch.equal(model.embed_images([medst.Study(lateral=study.lateral)]), lateral)


def test_what_is_no_picture_is_refused_by_name(model, radiographs, tmp_path):
    good = radiographs[0]
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(good.read_bytes()[:-40])
    cases = [
        (tmp_path / "nowhere.png", medst.MissingFileError, "nowhere.png"),
        (damaged, medst.ImageError, "damaged.png.*truncated"),
        (b"GIF89a", medst.ImageError, r"images\[1\].*GIF files are not supported"),
        (np.zeros((8, 8)), medst.ImageError, r"images\[1\].*float64"),
        (np.zeros((2, 8, 8, 1), np.uint8), medst.ImageError, "shape"),
        (np.zeros((8, 8, 7), np.uint8), medst.ImageError, "7 channels"),
        (np.zeros((0, 8), np.uint8), medst.ImageError, "no pixels"),
        (Image.new("CMYK", (8, 8)), medst.ImageError, "CMYK"),
        (Image.fromarray(np.full((8, 8), 1 << 20, np.int32)), medst.ImageError, "1048576"),
        (3.5, medst.InputError, "float is not an image"),
        ((good,), medst.InputError, "pair"),
        (medst.Study(report="clear"), medst.InputError, "has no image"),
    ]
    for image, kind, message in cases:
        with pytest.raises(kind, match=message):
            model.embed_images([good, image])
    with pytest.raises(medst.InputError, match="list"):
        model.embed_images(str(good))
    with pytest.raises(medst.InputError, match="view"):
        model.embed_images([good], view="sideways")
    try:
        model.embed_images([tmp_path / "nowhere.png"])
    except FileNotFoundError as error:
        assert error.errno == 2 and error.filename == str(tmp_path / "nowhere.png")


def test_no_images_are_no_rows_and_iterators_are_read(model, radiographs):
    assert model.embed_images([]).shape == (0, model.width)
    many = (path for path in radiographs[:40])
    assert torch.allclose(model.embed_images(many), model.embed_images(radiographs[:40]), atol=1e-6)
