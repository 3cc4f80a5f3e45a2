"""Times pre-training steps of the peer, or checks that it computes the same mathematics.

    pretrain_step.py --steps 3          one JSON object: seconds of each step, peak resident memory
    pretrain_step.py --best [--compile] the same for the program without waste (best_model.py)
    pretrain_step.py --cosine           gradients under autocast against those of float32
    pretrain_step.py --check-best       checks that both programs give the same embeddings
    pretrain_step.py --check FOLDER     losses against the reference's (crates/medst/tests/parity)
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from best_model import BestMedST, best_batch
from model import MedST
from safetensors.torch import load_file

FULL = {
    "dim": 768, "depth": 12, "heads": 12, "mlp": 3072, "image": 224, "patch": 16, "vocabulary": 28996, "bert_layers": 6,
    "bert_intermediate": 3072, "bert_max_positions": 512, "projection_hidden": 2048, "embedding": 128, "dropout": 0.1,
    "softmax_temperature": 0.07, "local_temperature": 0.1, "temporal_temperature": 0.1, "variance_lambda": 0.001,
}


def bench_batch(studies=8):
    """One sequence of four, half with a lateral view, 86-token reports padded to 112."""
    generator = torch.Generator().manual_seed(0)
    frontal, lateral = (torch.rand(studies, 1, 224, 224, generator=generator) * 2 - 1 for _ in range(2))
    has_lateral = torch.arange(studies) % 2 == 0
    lateral = lateral * has_lateral[:, None, None, None]
    ids = torch.zeros(studies, 112, dtype=torch.long)
    for n in range(studies):
        ids[n, :86] = torch.tensor([101] + [1000 + (t * 37 + n * 101) % 20000 for t in range(84)] + [102])
    return {
        "frontal": frontal.expand(-1, 3, -1, -1), "lateral": lateral.expand(-1, 3, -1, -1), "has_lateral": has_lateral,
        "input_ids": ids, "attention_mask": (ids != 0).long(),
    }


def bench_pieces():
    pieces = ["##x" if n % 5 == 0 else "x" for n in range(FULL["vocabulary"])]
    pieces[102] = "[SEP]"
    return pieces


def time_steps(steps, best, compiled, device, precision, studies):
    torch.manual_seed(0)
    model = (BestMedST if best else MedST)(FULL).train().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-5, weight_decay=0.05, fused=True if best else None)
    batch, pieces, sequences = bench_batch(studies), bench_pieces(), torch.tensor([[0, 1, 2, 3]], device=device)
    if best:
        batch, pieces = best_batch(batch, pieces), ()
        model.compile() if compiled else None
    batch = {name: own.to(device) if torch.is_tensor(own) else own for name, own in batch.items()}
    rounded = precision == "bfloat16"
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=rounded):
            embedded = model(batch, *[pieces] if pieces else [])
        if rounded:
            embedded = {name: x.float() if x.is_floating_point() else x for name, x in embedded.items()}
        loss = sum(model.losses(embedded, sequences))
        loss.backward()
        optimizer.step()
        torch.cuda.synchronize() if device == "cuda" else None
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_reserved() if device == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "studies": studies, "threads": torch.get_num_threads()}))


def check_best():
    """Compares embeddings of both programs with the same weights; no report here contains a word
    that the plain one drops.
    """
    torch.manual_seed(0)
    plain = MedST(FULL | {"dropout": 0.0}).eval()
    best = BestMedST(FULL | {"dropout": 0.0}).eval()
    best.load_state_dict(plain.state_dict())
    batch, pieces = bench_batch(), bench_pieces()
    order = torch.argsort(~batch["has_lateral"], stable=True)
    with torch.no_grad():
        a, b = plain(batch, pieces), best(best_batch(batch, pieces))
    for name, x, y in [("image", a["image"][order], b["image"]), ("report", a["report"][order], b["report"]),
                       ("frontal", a["patches"][order, :196], b["frontal"]), ("lateral", a["patches"][batch["has_lateral"], 196:], b["lateral"])]:
        error = float((x - y).abs().max())
        print(f"{name}: off by {error:.1e}")
        assert error < 2e-5, "not the same mathematics"


def cosine(device):
    """Cosine of the gradients under autocast to bfloat16 with those in float32: the figure of
    PyTorch's own mixed precision on this batch.
    """
    torch.manual_seed(0)
    model = BestMedST(FULL | {"dropout": 0.0}).train()
    for parameter in model.parameters():
        torch.nn.init.trunc_normal_(parameter, std=0.02) if parameter.dim() > 1 else None
    model = model.to(device)
    batch = {name: own.to(device) if torch.is_tensor(own) else own for name, own in best_batch(bench_batch(), bench_pieces()).items()}
    trained = [own for own in model.parameters() if own.requires_grad]

    def gradients(rounded):
        with torch.autocast(device, torch.bfloat16, enabled=rounded):
            embedded = model(batch)
        sequences = torch.tensor([[0, 1, 2, 3]], device=device)
        losses = model.losses({name: x.float() if torch.is_tensor(x) else x for name, x in embedded.items()}, sequences)
        for part in (*losses, sum(losses)):
            own = torch.autograd.grad(part, trained, retain_graph=True, allow_unused=True)
            yield [x if x is not None else torch.zeros_like(of) for x, of in zip(own, trained)]

    product = lambda a, b: sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b))
    pairs = zip(list(gradients(False)), gradients(True))
    cosines = [product(a, b) / (product(a, a) * product(b, b)) ** 0.5 for a, b in pairs]
    print(json.dumps(dict(zip(("global", "local", "temporal", "total"), cosines))))


def theirs(name):
    """The name of one of this model's tensors in a reference checkpoint."""
    for ours, reference in [
        ("image.", "img_encoder_q.model."), ("text.", "text_encoder_q.model."),
        ("image_global.", "img_encoder_q.global_embed."), ("patch_local.", "img_encoder_q.local_embed."),
        ("report_global.", "text_encoder_q.global_embed."), ("word_local.", "text_encoder_q.local_embed."),
        ("word_importance.", "word_element_wise_multi_head."), ("patch_importance.", "patch_element_wise_multi_head."),
    ]:
        if name.startswith(ours):
            return reference + name[len(ours):]
    return name


def check(folder):
    folder = Path(folder)
    c = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "weights.safetensors")
    c["mlp"] = weights["img_encoder_q.model.blocks.0.mlp.fc1.weight"].shape[0]
    c["vocabulary"] = weights["text_encoder_q.model.embeddings.word_embeddings.weight"].shape[0]
    model = MedST(c).double()
    with torch.no_grad():
        for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
            if "token_type" not in name and theirs(name) in weights and tensor.is_floating_point():
                tensor.copy_(weights[theirs(name)])
    raw = load_file(folder / "batch.safetensors")
    image = lambda x: ((x.double() / 255 - 0.5) / 0.5)[:, None].expand(-1, 3, -1, -1)
    has_lateral = raw["has_lateral"].bool()
    batch = {
        "frontal": image(raw["frontal"]), "lateral": image(raw["lateral"]) * has_lateral[:, None, None, None],
        "has_lateral": has_lateral, "input_ids": raw["input_ids"], "attention_mask": raw["attention_mask"],
    }
    count, steps = int(raw["sequence_images"]), c["sequence_length"]
    sequences = torch.arange(count).reshape(-1, steps)
    pieces = (folder / "vocab.txt").read_text().splitlines()
    expected = load_file(folder / "outputs.safetensors")
    for mode in ("eval", "train"):
        model.train(mode == "train")
        with torch.no_grad():
            losses = model.losses(model(batch, pieces), sequences)
        for name, loss in zip(("global", "local", "temporal"), losses):
            wanted = float(expected[f"{mode}.loss.{name}"])
            error = abs(float(loss) - wanted) / abs(wanted)
            print(f"{mode} {name}: {float(loss):.8f}, reference {wanted:.8f}, off by {error:.1e}")
            assert error < 1e-6, "not the same mathematics"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cosine", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--studies", type=int, default=8)
    parser.add_argument("--check-best", action="store_true")
    parser.add_argument("--check", metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.check)
    elif arguments.cosine:
        cosine(arguments.device)
    elif arguments.check_best:
        check_best()
    else:
        time_steps(arguments.steps, arguments.best, arguments.compile, arguments.device, arguments.precision, arguments.studies)
