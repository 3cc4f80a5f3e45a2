"""The losses: values against torch's own operations, gradients against finite differences, and
invalid inputs.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

import medst
from medst import losses
from medst._engine import lent


def units(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1).to(dtype).requires_grad_()


SEQUENCES = [[0, 1, 2], [3, 4]]


def tokens() -> tuple[torch.Tensor, ...]:
    exists = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] * 2 + [False] * 3, [True] * 4 + [False]])
    return units(4, 5, 6, seed=1), exists, units(4, 9, 6, seed=2), units(2, 9, 6, seed=3)


def importance() -> losses.Importance:
    torch.manual_seed(0)
    return losses.Importance(6, deviation=0.5).double()


def test_global_alignment_is_symmetric_cross_entropy():
    image, report = units(7, 16, seed=1), units(7, 16, seed=2)
    logits, target = image @ report.T / 0.07, torch.arange(7)
    expected = cross_entropy(logits, target) + cross_entropy(logits.T, target)
    found = losses.global_alignment(image, report)
    assert torch.allclose(found, expected)
    ours = torch.autograd.grad(found * 3.0, (image, report))
    theirs = torch.autograd.grad(expected * 3.0, (image, report))
    for a, b in zip(ours, theirs):
        assert torch.allclose(a, b)


def test_forward_mapping_is_a_classification_of_steps():
    image, report = units(6, 8, seed=3), units(6, 8, seed=4)
    table = torch.tensor([[0, 1, 2], [3, 4, 5]])

    def one(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        logits = -(torch.cdist(u[table], v[table]) ** 2) / 0.1
        return cross_entropy(logits.reshape(-1, 3), torch.arange(3).repeat(2))

    expected = one(image, report) + one(report, image)
    found = losses.forward_mapping(image, report, table)
    assert torch.allclose(found, expected)
    ours, theirs = torch.autograd.grad(found, image)[0], torch.autograd.grad(expected, image)[0]
    assert torch.allclose(ours, theirs)


def test_reverse_mapping_is_the_formula():
    image, report, steps = units(4, 8, seed=5), units(4, 8, seed=6), 4

    def one(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        near = torch.softmax(-(torch.cdist(u, v) ** 2) / 0.1, -1) @ v
        back = torch.softmax(-(torch.cdist(near, u) ** 2) / 0.1, -1)
        times = torch.arange(steps, dtype=torch.float64) / (steps + 1e-7)
        mean = back @ times
        log_variance = torch.log((back * (times - mean[:, None]) ** 2).sum(1) + 1e-7)
        return (torch.exp(-log_variance) * (times - mean) ** 2 + 0.001 * log_variance).mean()

    found = losses.reverse_mapping(image, report, [[0, 1, 2, 3]])
    assert torch.allclose(found, one(image, report) + one(report, image))


def test_local_alignment_is_the_formula():
    words, exists, patches, _ = tokens()
    layer = importance()

    def direction(q: torch.Tensor, k: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        context = normalize(torch.softmax(q @ k.T / 0.1, -1) @ k, dim=-1)
        aligned, width = normalize(q * context, dim=-1), q.shape[1]
        query = weight[:width] @ aligned.mean(0) + bias[:width]
        keys = aligned @ weight[width:].T + bias[width:]
        share = torch.softmax(keys @ query / math.sqrt(width), 0)
        logits, target = q @ context.T / 0.1, torch.arange(len(q))
        both = cross_entropy(logits, target, reduction="none") + cross_entropy(logits.T, target, reduction="none")
        return 0.5 * (share * both).sum()

    expected = torch.zeros((), dtype=torch.float64)
    for own, there, picture in zip(words, exists, patches):
        own = own[there]
        expected = expected + direction(own, picture, layer.word_weight, layer.word_bias)
        expected = expected + direction(picture, own, layer.patch_weight, layer.patch_bias)
    expected = expected / 4
    found = losses.local_alignment(words, exists, patches, layer)
    assert torch.allclose(found, expected)
    inputs = (words, patches, *layer.parameters())
    for a, b in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs)):
        assert torch.allclose(a, b, atol=1e-9)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: losses.global_alignment(x, y, temperature=0.5),
        lambda x, y: losses.global_alignment(x, y, kind="sigmoid", temperature=0.5),
        lambda x, y: losses.forward_mapping(x, y, SEQUENCES, temperature=0.5),
        lambda x, y: losses.reverse_mapping(x, y, SEQUENCES, temperature=0.5),
    ],
)
def test_gradients_are_those_of_finite_differences(loss):
    image, report = units(5, 6, seed=7), units(5, 6, seed=8)
    assert torch.autograd.gradcheck(loss, (image, report))


def test_gradients_of_local_alignment_are_those_of_finite_differences():
    words, exists, patches, lateral = tokens()
    layer = importance()

    def loss(words, patches, lateral, *parameters):
        own = losses.Importance(6).double()
        for name, value in zip(("word_weight", "word_bias", "patch_weight", "patch_bias"), parameters):
            del own._parameters[name]
            setattr(own, name, value)
        return losses.local_alignment(words, exists, patches, own, lateral_patches=lateral, lateral_rows=[1, 3], temperature=0.5)

    assert torch.autograd.gradcheck(loss, (words, patches, lateral, *(own.detach().requires_grad_() for own in layer.parameters())))


def test_only_what_is_asked_for_is_differentiated_and_memory_is_shared():
    image, report = units(4, 8, seed=1).detach(), units(4, 8, seed=2)
    losses.global_alignment(image, report).backward()
    assert image.grad is None and report.grad is not None
    assert not losses.global_alignment(image, report.detach()).requires_grad
    with torch.no_grad():
        assert not losses.global_alignment(image, report).requires_grad
    assert torch.utils.dlpack.from_dlpack(lent(report)).data_ptr() == report.data_ptr()
    strided = units(8, 4, seed=3).T
    assert torch.equal(losses.global_alignment(strided, strided), losses.global_alignment(strided.contiguous(), strided.contiguous()))


def test_half_precision_and_autocast_are_computed_in_float32():
    image, report = units(6, 8, seed=1, dtype=torch.float32).detach(), units(6, 8, seed=2, dtype=torch.float32).detach()
    expected = losses.global_alignment(image, report)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(losses.global_alignment(image, report), expected)
    half = image.bfloat16().requires_grad_()
    found = losses.global_alignment(half, report)
    assert found.dtype == torch.float32
    found.backward()
    assert half.grad.dtype == torch.bfloat16


def test_second_derivatives_are_refused_instead_of_wrong():
    image, report = units(4, 8, seed=1), units(4, 8, seed=2)
    gradient = torch.autograd.grad(losses.global_alignment(image, report), image, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="second derivatives"):
        gradient.sum().backward()


def test_no_sequences_are_no_loss():
    image, report = units(4, 8, seed=1), units(4, 8, seed=2)
    for loss in (losses.forward_mapping(image, report, []), losses.reverse_mapping(image, report, [])):
        assert loss.item() == 0
        (loss + image.sum()).backward()
    assert torch.equal(image.grad, torch.full_like(image, 2.0))


def test_gradients_come_through_checkpointed_layers():
    from torch.utils.checkpoint import checkpoint

    image, report = units(4, 8, seed=1), units(4, 8, seed=2)
    checkpoint(lambda x, y: losses.global_alignment(normalize(x, dim=1), y), image, report, use_reentrant=True).backward()
    kept = image.grad.clone()
    image.grad = None
    losses.global_alignment(normalize(image, dim=1), report).backward()
    assert torch.allclose(kept, image.grad)


def test_accuracy_of_aligned_and_of_shifted_pairs():
    image = units(12, 16, seed=1)
    assert losses.retrieval_accuracy(image, image) == (1.0, 1.0)
    assert losses.retrieval_accuracy(image, image.roll(1, 0))[0] == 0.0


def test_what_does_not_fit_is_refused():
    x, y = units(5, 6, seed=1), units(5, 6, seed=2)
    (words, exists, patches, lateral), layer = tokens(), importance()
    wrong = [
        (lambda: losses.global_alignment(x, y[:4]), "same shape \\[B, D\\]"),
        (lambda: losses.global_alignment(x[:0], y[:0]), "same shape \\[B, D\\]"),
        (lambda: losses.global_alignment(x.long(), y.long()), "int64"),
        (lambda: losses.global_alignment(x, y, temperature=0.0), "global_temperature"),
        (lambda: losses.global_alignment(x, y, kind="hinge"), "hinge"),
        (lambda: losses.forward_mapping(x, y, [[0, 9]]), "9"),
        (lambda: losses.forward_mapping(x, y, [[0]]), "two or more studies"),
        (lambda: losses.forward_mapping(x, y, [[0, -1, 2]]), "then -1"),
        (lambda: losses.local_alignment(words, exists.long(), patches, layer), "bool"),
        (lambda: losses.local_alignment(words, torch.zeros_like(exists), patches, layer), "has no words"),
        (lambda: losses.local_alignment(words, exists, patches[:2], layer), "patches"),
        (lambda: losses.local_alignment(words, exists, patches, losses.Importance(3)), "width 3"),
        (lambda: losses.local_alignment(words, exists, patches, layer, lateral_patches=lateral, lateral_rows=[3, 1]), "ascending"),
        (lambda: losses.local_alignment(words, exists, patches, layer, lateral_patches=lateral, lateral_rows=[1]), "lateral_patches"),
    ]
    for call, message in wrong:
        with pytest.raises(medst.InputError, match=message):
            call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_losses_on_a_gpu_are_those_on_the_cpu():
    x, y = units(5, 6, seed=1), units(5, 6, seed=2)
    expected = losses.global_alignment(x, y)
    found = losses.global_alignment(x.cuda(), y.cuda())
    assert found.is_cuda and torch.allclose(found.cpu(), expected)
