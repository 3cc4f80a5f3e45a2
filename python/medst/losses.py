"""The Med-ST losses (paper, sections 3.3 and 3.4) as differentiable functions of tensors, for any
trainer.

Each function computes the loss and its gradients together in Rust, in the memory of the given
tensors, and registers the gradients with torch's autograd: ``backward`` yields the gradients that
``medst pretrain`` uses. Second derivatives are not supported and raise an error. Embeddings must be
unit vectors (``torch.nn.functional.normalize``); float16 and bfloat16 are computed in float32, also
under autocast.

Letters: ``B`` studies, ``D`` embedding width, ``W`` words, ``P`` patches of a view, ``L`` lateral
views, ``Q`` sequences, ``T`` steps.

>>> loss = losses.global_alignment(image, report)
>>> loss = loss + losses.local_alignment(words, word_exists, patches, importance)
>>> loss = loss + losses.forward_mapping(image, report, sequences)
>>> loss = loss + losses.reverse_mapping(image, report, sequences)
>>> loss.backward()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Union

import torch
from torch import Tensor, nn

from medst._engine import lent, native, tensor
from medst._errors import EngineError, InputError

__all__ = [
    "Importance",
    "forward_mapping",
    "global_alignment",
    "local_alignment",
    "retrieval_accuracy",
    "reverse_mapping",
]

#: Indices of studies in time order, one row per sequence; rows of different lengths, or padded with
#: -1.
Sequences = Union[Tensor, Sequence[Sequence[int]]]

#: The paper's weight of the logarithm of the variance.
_VARIANCE_WEIGHT = 0.001


def global_alignment(
    image: Tensor,
    report: Tensor,
    *,
    temperature: float = 0.07,
    kind: Literal["softmax", "sigmoid"] = "softmax",
) -> Tensor:
    """Global alignment of images with reports: symmetric InfoNCE, the sum of both directions.

    Parameters
    ----------
    image, report
        ``[B, D]`` unit vectors, row ``b`` of both from study ``b``.
    kind
        ``"sigmoid"``: binary classification of every pair (SigLIP), beyond the paper.

    Returns
    -------
    A scalar.
    """
    _embeddings(image, report)
    return _differentiable(lambda inputs: native.global_alignment(inputs, temperature, kind), image, report)


def retrieval_accuracy(image: Tensor, report: Tensor) -> tuple[float, float]:
    """Top-1 and top-5 accuracy of retrieving the matching image or report within the batch,
    averaged over both directions; 0…1.

    ``image``, ``report``: ``[B, D]`` unit vectors.
    """
    _embeddings(image, report)
    return native.retrieval_accuracy([(lent(_wide(image)), False), (lent(_wide(report)), False)])


def local_alignment(
    words: Tensor,
    word_exists: Tensor,
    patches: Tensor,
    importance: Importance,
    *,
    lateral_patches: Tensor | None = None,
    lateral_rows: Sequence[int] | Tensor | None = None,
    temperature: float = 0.1,
) -> Tensor:
    """Modality-weighted local alignment: each word finds its context among the patches, each patch
    among the words.

    Parameters
    ----------
    words, patches
        ``[B, W, D]`` and ``[B, P, D]`` unit vectors, the patches of frontal views.
    word_exists
        ``[B, W]`` bool, true where a word exists; every report needs one.
    importance
        Learned weights of words and patches.
    lateral_patches, lateral_rows
        ``[L, P, D]``, and the index of the study of each, in ascending order.

    Returns
    -------
    A scalar.
    """
    if words.ndim != 3 or patches.ndim != 3 or words.shape[0] != patches.shape[0] or words.shape[2] != patches.shape[2]:
        raise InputError(f"expected words [B, W, D] and patches [B, P, D], not {_shape(words)} and {_shape(patches)}")
    if word_exists.dtype != torch.bool or word_exists.shape != words.shape[:2]:
        expected = list(words.shape[:2])
        raise InputError(f"word_exists: expected bool {expected}, not {word_exists.dtype} {_shape(word_exists)}")
    studies, width = words.shape[0], words.shape[2]
    if 0 in words.shape or 0 in patches.shape:
        raise InputError(f"the batch is empty: words {_shape(words)}, patches {_shape(patches)}")
    if not bool(word_exists.any(1).all()):
        raise InputError("word_exists: a report has no words; leave its study out")
    rows = [] if lateral_rows is None else [int(row) for row in torch.as_tensor(lateral_rows).reshape(-1)]
    if lateral_patches is None:
        lateral_patches = patches.new_zeros((0, *patches.shape[1:]))
    if lateral_patches.shape != (len(rows), *patches.shape[1:]):
        raise InputError(f"lateral_patches: expected shape {[len(rows), *patches.shape[1:]]}, not {_shape(lateral_patches)}")
    if rows != sorted(set(rows)) or any(not 0 <= row < studies for row in rows):
        raise InputError(f"lateral_rows {rows}: expected ascending indices of the {studies} studies")
    if importance.width != width:
        raise InputError(f"importance has width {importance.width}, but the embeddings have {width}")
    layers = (importance.word_weight, importance.word_bias, importance.patch_weight, importance.patch_bias)
    exists = word_exists.contiguous()
    _one_device(words, patches, lateral_patches, exists, *layers)
    return _differentiable(
        lambda inputs: native.local_alignment(inputs, lent(exists), rows, temperature),
        words,
        patches,
        lateral_patches,
        *layers,
    )


def forward_mapping(
    image: Tensor,
    report: Tensor,
    sequences: Sequences,
    *,
    temperature: float = 0.1,
) -> Tensor:
    """Forward mapping classification: each step of one sequence finds its own among the steps of
    the other, from images to reports and back.

    Parameters
    ----------
    image, report
        ``[B, D]`` unit vectors.
    sequences
        ``[Q, T]``: indices of studies in time order, padded with -1; or lists of two or more
        indices. Without sequences, the loss is exactly 0.

    Returns
    -------
    A scalar, the sum of both directions.
    """
    return _temporal(image, report, sequences, temperature, _VARIANCE_WEIGHT, reverse=False)


def reverse_mapping(
    image: Tensor,
    report: Tensor,
    sequences: Sequences,
    *,
    temperature: float = 0.1,
    variance_weight: float = _VARIANCE_WEIGHT,
) -> Tensor:
    """Reverse mapping regression: each step is mapped to its soft neighbour in the other sequence
    and back, and must find its own time.

    Parameters
    ----------
    image, report, sequences
        See :func:`forward_mapping`.
    variance_weight
        Weight of the logarithm of the variance.

    Returns
    -------
    A scalar, the sum of both directions. With random weights, its gradients can be very large; clip
    them.
    """
    return _temporal(image, report, sequences, temperature, variance_weight, reverse=True)


class Importance(nn.Module):
    """The learned importance of words and patches (paper, section 3.3): single-head attention of
    which only the attention weights are used.

    ``word_weight``, ``patch_weight``: ``[2D, D]``, query rows, then key rows; ``word_bias``,
    ``patch_bias``: ``[2D]``.
    """

    word_weight: nn.Parameter
    word_bias: nn.Parameter
    patch_weight: nn.Parameter
    patch_bias: nn.Parameter

    def __init__(self, width: int, *, deviation: float = 0.02) -> None:
        super().__init__()
        self.width = width
        for name in ("word", "patch"):
            weight = nn.Parameter(torch.empty(2 * width, width))
            nn.init.trunc_normal_(weight, std=deviation)
            self.register_parameter(f"{name}_weight", weight)
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(2 * width)))


class _Differentiated(torch.autograd.Function):
    """A loss that is computed together with its gradients."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[[list[Any]], Any], *inputs: Tensor) -> Tensor:
        needed = [bool(need) for need in ctx.needs_input_grad[1:]]
        value, gradients = compute([(lent(own), need) for own, need in zip(inputs, needed)])
        # One per input; None for inputs that the loss does not depend on.
        ctx.needed = [gradient is not None for gradient in gradients]
        ctx.save_for_backward(*inputs, *[tensor(gradient) for gradient in gradients if gradient is not None])
        return tensor(value)

    @staticmethod
    def backward(ctx: Any, outside: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.needed)
        inputs, saved = ctx.saved_tensors[:count], iter(ctx.saved_tensors[count:])
        found = [next(saved) * outside if needed else None for needed in ctx.needed]
        if torch.is_grad_enabled():
            # The gradients may be differentiated again, so they must not be treated as constants.
            found = [None if own is None else _Gradient.apply(own, *inputs) for own in found]
        return (None, *found)


class _Gradient(torch.autograd.Function):
    """A gradient that raises an error when it is differentiated."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *_inputs: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        raise EngineError("second derivatives of the losses of medst are not supported")


def _differentiable(compute: Callable[[list[Any]], Any], *inputs: Tensor) -> Tensor:
    kind = torch.promote_types(torch.float32, inputs[0].dtype)
    # Autocast would compute the products in half precision, in Rust as well.
    with torch.autocast(inputs[0].device.type, enabled=False):
        return _Differentiated.apply(compute, *[own.to(kind) for own in inputs])


def _temporal(
    image: Tensor,
    report: Tensor,
    sequences: Sequences,
    temperature: float,
    variance_weight: float,
    *,
    reverse: bool,
) -> Tensor:
    _embeddings(image, report)
    rows = [[int(number) for number in row] for row in _lists(sequences)]
    longest = max(map(len, rows), default=0)
    rows = [row + [-1] * (longest - len(row)) for row in rows]
    for row in rows:
        lasting = [number for number in row if number != -1]
        if row[: len(lasting)] != lasting or any(not 0 <= number < len(image) for number in lasting):
            raise InputError(f"sequences: {row}: expected indices of the {len(image)} studies, then -1")
        if len(lasting) < 2:
            raise InputError(f"sequences: {row}: a sequence must have two or more studies")
    return _differentiable(
        lambda inputs: native.temporal_mapping(inputs, rows, temperature, variance_weight, reverse), image, report
    )


def _lists(rows: Any) -> list[list[Any]]:
    return rows.tolist() if hasattr(rows, "tolist") else [list(row) for row in rows]


def _embeddings(image: Tensor, report: Tensor) -> None:
    if image.ndim != 2 or image.shape != report.shape or 0 in image.shape:
        raise InputError(f"expected image and report of the same shape [B, D], not {_shape(image)} and {_shape(report)}")
    _one_device(image, report)


def _one_device(first: Tensor, *others: Tensor) -> None:
    if not first.is_floating_point():
        raise InputError(f"unsupported dtype {first.dtype}; expected float16, bfloat16, float32 or float64")
    other = next((own.device for own in others if own.device != first.device), None)
    if other is not None:
        raise InputError(f"tensors must be on the same device, not on {first.device} and {other}")


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(torch.float32, x.dtype))


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)
