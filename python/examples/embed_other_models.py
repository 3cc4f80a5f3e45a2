r"""Writes the embeddings of another program's model in the form that `medst eval --embeddings`
reads.

    python python/examples/embed_other_models.py rad-dino --corpus corpora/chexpert \
        --out rad-dino.parquet
    medst eval all --embeddings rad-dino.parquet --corpus corpora/chexpert

For a model with a text encoder (MedSigLIP) the texts that the tasks compare are embedded, too:

    medst eval all --corpus corpora/chexpert --list-texts texts.txt
    python python/examples/embed_other_models.py medsiglip --corpus corpora/chexpert \
        --out s.parquet --texts texts.txt --text-out t.parquet
    medst eval all --embeddings s.parquet --text-embeddings t.parquet --corpus corpora/chexpert

Needs pyarrow and, by model, transformers (rad-dino, medsiglip), timm (ark) or hi-ml-multimodal
(biovil-t). Weights come from their authors and under their terms: RAD-DINO and MedSigLIP by name,
Ark+ from a file (`--weights`). `--random` makes the same architecture with random weights, without
a download: a test of the whole workflow, with figures at the level of guessing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import medst


@dataclass
class Encoder:
    """A model, and the form in which it expects a picture."""

    #: Side of the input in pixels, and the mean and deviation with which values in 0…1 are
    #: standardised.
    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    #: ``[B, 3, side, side]`` and those of the same patients' previous studies (``None`` where a
    #: picture has none) to ``[B, D]``.
    images: Callable[[torch.Tensor, list[torch.Tensor | None]], torch.Tensor]
    #: Sentences to ``[n, D]``; ``None`` for a model of images only.
    texts: Callable[[list[str]], torch.Tensor] | None = None


def rad_dino(arguments: argparse.Namespace) -> Encoder:
    """RAD-DINO (Pérez-García et al., 2024): DINOv2, ViT-B/14 at 518 pixels, the `[CLS]` state."""
    from transformers import Dinov2Config, Dinov2Model

    if arguments.random:
        layers = arguments.layers or 12
        model = Dinov2Model(Dinov2Config(image_size=518, patch_size=14, num_hidden_layers=layers))
    else:
        model = Dinov2Model.from_pretrained(arguments.weights or "microsoft/rad-dino")
    model.eval()
    return Encoder(518, (0.5307,) * 3, (0.2583,) * 3, lambda x, _: model(pixel_values=x).pooler_output)


def medsiglip(arguments: argparse.Namespace) -> Encoder:
    """MedSigLIP (Google, 2025): SigLIP, SoViT-400M/14 at 448 pixels, with a text encoder of 64
    pieces.
    """
    from transformers import AutoTokenizer, SiglipConfig, SiglipModel

    if arguments.random:
        # A tokenizer needs a download; without one, only images are embedded.
        wide = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16}
        layers = {"num_hidden_layers": arguments.layers or 27}
        model = SiglipModel(SiglipConfig(text_config={**wide, **layers}, vision_config={**wide, **layers, "image_size": 448, "patch_size": 14}))
        tokenizer = None
    else:
        name = arguments.weights or "google/medsiglip-448"
        model, tokenizer = SiglipModel.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    model.eval()

    def pooled(found: Any) -> torch.Tensor:
        # transformers 5 returns the encoder's output, transformers 4 the vectors.
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    def texts(sentences: list[str]) -> torch.Tensor:
        pieces = tokenizer(sentences, padding="max_length", truncation=True, max_length=64, return_tensors="pt")
        return pooled(model.get_text_features(**pieces))

    images = lambda x, _: pooled(model.get_image_features(pixel_values=x))  # noqa: E731
    return Encoder(448, (0.5,) * 3, (0.5,) * 3, images, texts if tokenizer else None)


def ark(arguments: argparse.Namespace) -> Encoder:
    """Ark+ (Ma et al., Nature 2025): Swin-L at 768 pixels, the mean of the last states; its
    teacher's weights are published as a file.
    """
    import timm

    depths = (2, 2, arguments.layers or 18, 2)
    model = timm.create_model("swin_large_patch4_window12_384", img_size=768, num_classes=0, depths=depths, pretrained=False)
    if not arguments.random:
        if not arguments.weights:
            raise SystemExit("ark: name the authors' file with --weights, or use --random")
        state = torch.load(arguments.weights, map_location="cpu", weights_only=True)
        state = {key.removeprefix("module."): value for key, value in state.get("teacher", state).items()}
        missing, _ = model.load_state_dict(state, strict=False)
        if missing:
            raise SystemExit(f"ark: {arguments.weights} lacks {len(missing)} tensors, such as {missing[0]}")
    model.eval()
    return Encoder(768, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), lambda x, _: model(x))


def biovil_t(arguments: argparse.Namespace) -> Encoder:
    """BioViL-T (Bannur et al., CVPR 2023): ResNet-50 and a transformer over the current and the
    previous image.
    """
    from health_multimodal.image.model.model import ImageModel
    from health_multimodal.image.model.pretrained import get_biovil_t_image_encoder
    from health_multimodal.image.model.types import ImageEncoderType

    if arguments.random:
        model = ImageModel(img_encoder_type=ImageEncoderType.RESNET50_MULTI_IMAGE, joint_feature_size=128)
    else:
        model = get_biovil_t_image_encoder()
    model.eval()

    def images(current: torch.Tensor, previous: list[torch.Tensor | None]) -> torch.Tensor:
        rows = []
        # A batch has a previous image for each study or for none. The published model's own call
        # takes no previous image; its encoder does.
        for one, before in zip(current, previous):
            states = model.encoder(one[None], None if before is None else before[None], return_patch_embeddings=True)
            rows.append(model.forward_post_encoder(*states).projected_global_embedding)
        return torch.cat(rows)

    return Encoder(448, (0.0,) * 3, (1.0,) * 3, images)


MODELS = {"rad-dino": rad_dino, "medsiglip": medsiglip, "ark": ark, "biovil-t": biovil_t}


def prepared(picture: np.ndarray, encoder: Encoder) -> torch.Tensor:
    """A grey square ``[side, side]`` as ``[3, side, side]`` in the form that the model expects."""
    grey = torch.from_numpy(np.ascontiguousarray(picture)).float()[None, None] / 255
    size = (encoder.side, encoder.side)
    grey = torch.nn.functional.interpolate(grey, size, mode="bilinear", antialias=True, align_corners=False)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.deviation))
    return (grey[0].expand(3, -1, -1) - mean) / deviation


def previous_of(corpus: medst.Corpus) -> list[int | None]:
    """For each study the one before it of the same patient; ``None`` for the first, and where no
    time is known.
    """
    studies = [corpus.describe(number) for number in range(len(corpus))]
    last: dict[str, int] = {}
    previous: list[int | None] = [None] * len(studies)
    for number in sorted((n for n, study in enumerate(studies) if study.day is not None), key=lambda n: (studies[n].day, n)):
        previous[number] = last.get(studies[number].subject_id)
        last[studies[number].subject_id] = number
    return previous


def lists(rows: np.ndarray) -> pa.Array:
    """``[n, D]`` as a column of lists of float32."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--corpus", required=True, help="a corpus of medst prepare")
    parser.add_argument("--out", required=True, help="Parquet file of study_id and image_embedding")
    parser.add_argument("--weights", help="a name, folder or file instead of the authors' name")
    parser.add_argument("--texts", help="file with one text per line, from medst eval --list-texts")
    parser.add_argument("--text-out", help="Parquet file of text and embedding")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--random", action="store_true", help="random weights, no download")
    parser.add_argument("--layers", type=int, help="with --random: fewer layers, for a quick trial")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    encoder = MODELS[arguments.model](arguments)
    if bool(arguments.texts) != bool(arguments.text_out):
        parser.error("--texts and --text-out go together")
    if arguments.texts and encoder.texts is None:
        parser.error(f"{arguments.model} has no text encoder here")
    corpus = medst.Corpus(arguments.corpus, images="numpy")
    previous = previous_of(corpus) if arguments.model == "biovil-t" else [None] * len(corpus)
    picture = lambda number: prepared(corpus[number].frontal, encoder)  # noqa: E731
    parts = []
    with torch.inference_mode():
        for start in range(0, len(corpus), arguments.batch):
            numbers = range(start, min(start + arguments.batch, len(corpus)))
            earlier = [None if previous[n] is None else picture(previous[n]) for n in numbers]
            parts.append(encoder.images(torch.stack([picture(n) for n in numbers]), earlier).float().numpy())
        embeddings = np.concatenate(parts)
        pq.write_table(
            pa.table({"study_id": [corpus.describe(n).study_id for n in range(len(corpus))], "image_embedding": lists(embeddings)}),
            arguments.out,
        )
        print(f"{arguments.out}: {embeddings.shape[0]} studies, {embeddings.shape[1]} values per embedding")
        if arguments.texts:
            with open(arguments.texts, encoding="utf-8") as file:
                texts = file.read().splitlines()
            found = [encoder.texts(texts[n : n + arguments.batch]) for n in range(0, len(texts), arguments.batch)]
            vectors = torch.cat(found).float().numpy()
            pq.write_table(pa.table({"text": texts, "embedding": lists(vectors)}), arguments.text_out)
            print(f"{arguments.text_out}: {len(texts)} texts")


if __name__ == "__main__":
    main()
