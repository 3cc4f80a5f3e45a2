"""Writes a folder of numbers like the reference's (see crates/medst/tests/parity), with other sizes
and other seeds.

    make_reference.py FOLDER [--seed N] [--depth N] [--dim N] [--heads N] [--layers N] [--tokens N]
                      [--studies N]
                             [--sequences N] [--laterals N]

The numbers come from the peer in model.py, which agrees with the reference's own folder
(`pretrain_step.py --check`); they show that the parity tests hold for any size, not only for the
one they were written with.
"""

import argparse
import json
from pathlib import Path

import torch
from model import MedST, forward_mapping, reverse_mapping
from pretrain_step import theirs
from safetensors.torch import save_file


def main(a):
    torch.manual_seed(a.seed)
    folder = Path(a.folder)
    folder.mkdir(parents=True, exist_ok=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + [f"w{n}" for n in range(30)] + [f"##p{n}" for n in range(10)]
    c = {
        "dim": a.dim, "depth": a.depth, "heads": a.heads, "bert_layers": a.layers, "bert_intermediate": 3 * a.dim,
        "bert_max_positions": a.tokens + 5, "projection_hidden": 40, "embedding": 24, "max_tokens": a.tokens,
        "softmax_temperature": 0.07, "local_temperature": 0.1, "temporal_temperature": 0.1, "variance_lambda": 0.001,
        "huber_delta": 2.0, "sequence_length": 4, "image": 64, "patch": 16, "lr": 3e-4, "weight_decay": 0.05,
        "warmup_steps": 4, "first_cycle_steps": 10, "min_lr": 1e-8, "dropout": 0.0, "mlp": 2 * a.dim, "vocabulary": len(pieces),
    }
    model = MedST(c)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    keep = lambda tensors: {theirs(n): t.detach().float().contiguous().clone() for n, t in tensors if "token_type" not in n and t.is_floating_point()}
    weights = keep(list(model.named_parameters()) + list(model.named_buffers()))
    save_file(weights, folder / "weights.safetensors")
    torch.save({"state_dict": weights}, folder / "lightning.ckpt")
    model = model.double()

    ids, mask = torch.zeros(a.studies, a.tokens, dtype=torch.long), torch.zeros(a.studies, a.tokens, dtype=torch.long)
    for n in range(a.studies):
        length = [a.tokens, a.tokens - 1, 3, a.tokens // 2][n % 4]
        body = torch.randint(4, len(pieces), (length - 2,))
        body[0] = 5
        ids[n, :length] = torch.cat([torch.tensor([2]), body, torch.tensor([3])])
        mask[n, :length] = 1
    pixels = lambda: torch.randint(0, 256, (a.studies, 64, 64), dtype=torch.uint8)
    frontal, lateral = pixels(), pixels()
    has = torch.zeros(a.studies, dtype=torch.bool)
    has[torch.randperm(a.studies)[: a.laterals]] = True
    save_file({
        "frontal": frontal, "lateral": lateral, "has_lateral": has.to(torch.uint8), "input_ids": ids, "attention_mask": mask,
        "sequence_images": torch.tensor([4 * a.sequences]),
    }, folder / "batch.safetensors")
    image = lambda x: ((x.double() / 255 - 0.5) / 0.5)[:, None].expand(-1, 3, -1, -1)
    batch = {
        "frontal": image(frontal), "lateral": image(lateral) * has[:, None, None, None], "has_lateral": has,
        "input_ids": ids, "attention_mask": mask,
    }
    sequences = torch.arange(4 * a.sequences).reshape(-1, 4)
    out = {}
    saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for mode in ("eval", "train"):
        model.train(mode == "train")
        with torch.no_grad():
            record(out, mode, model, batch, pieces, sequences)
        model.load_state_dict(saved)
    with torch.no_grad():
        model.eval()
        views(out, model, batch)
    temporal(out, c)

    model.train()
    loss = sum(model.losses(model(batch, pieces), sequences))
    loss.backward()
    gradients = {theirs(n): p.grad.float() for n, p in model.named_parameters() if p.grad is not None}
    save_file(gradients, folder / "gradients.safetensors")
    model.load_state_dict(saved)
    curve(out, model, batch, pieces, sequences, c)
    save_file(keep(model.named_parameters()), folder / "weights_after_10_steps.safetensors")
    precise = lambda name: "loss" in name or "curve" in name or "mapping" in name
    save_file({n: (t if precise(n) else t.float()).contiguous() for n, t in out.items()}, folder / "outputs.safetensors")
    (folder / "config.json").write_text(json.dumps(c))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")


def record(out, mode, model, batch, pieces, sequences):
    e = model(batch, pieces)
    image, patches = model.image(batch["frontal"], batch["lateral"], batch["has_lateral"])
    text = model.text(
        batch["input_ids"], attention_mask=batch["attention_mask"],
        position_ids=torch.zeros_like(batch["input_ids"]), output_attentions=True,
    )
    words, _ = model.words(text.last_hidden_state, batch["input_ids"], pieces)
    attention = text.attentions[-1][:, :, 0].mean(1)
    shifted = torch.nn.functional.pad(attention[:, 1:], (0, 1))[..., None]
    by_word, _ = model.words(shifted, batch["input_ids"], pieces)
    losses = model.losses(e, sequences)
    logits = e["image"] @ e["report"].T
    own = torch.arange(len(logits))[:, None]
    top = lambda x, k: (x.topk(min(k, len(x))).indices == own).any(1).double().mean() * 100
    found = {
        "image_feature": image, "patch_feature": patches, "report_feature": text.last_hidden_state[:, 0], "word_feature": words,
        "image_embedding": e["image"], "patch_embedding": e["patches"], "report_embedding": e["report"],
        "word_embedding": e["words"], "word_attention": by_word[..., 0],
        "loss.acc1": ((top(logits, 1) + top(logits.T, 1)) / 2)[None], "loss.acc5": ((top(logits, 5) + top(logits.T, 5)) / 2)[None],
    }
    found |= {f"loss.{name}": loss[None] for name, loss in zip(("global", "local", "temporal"), losses)}
    out |= {f"{mode}.{name}": tensor.clone() for name, tensor in found.items()}


def views(out, model, batch):
    encoder = model.image
    for expert in ("frontal", "lateral"):
        x = torch.cat([encoder.cls_token.expand(len(batch["frontal"]), -1, -1), encoder.patch_embed(batch["frontal"])], 1)
        x = x + encoder.pos_embed
        for block in encoder.blocks:
            x = x + block.attn(block.norm1(x), None)
            mlp, norm = (block.mlp, block.norm2) if expert == "frontal" else (block.mlp_l, block.norm2_l)
            x = x + mlp(norm(x))
        x = encoder.norm(x)
        if expert == "frontal":
            out["eval.single_view.image_feature"], out["eval.single_view.patch_feature"] = x[:, 0], x[:, 1:]
            out["eval.single_view.image_embedding"] = model.image_global(x[:, 0])
        else:
            out["eval.lateral_expert.image_feature"] = x[:, 0]


def temporal(out, c):
    unit = lambda: torch.nn.functional.normalize(torch.randn(3, 5, 16), dim=-1).double().requires_grad_()
    source, target = unit(), unit()
    forward, reverse = forward_mapping(source, target, c), reverse_mapping(source, target, c)
    (forward + reverse).backward()
    out |= {
        "temporal.source": source.detach(), "temporal.target": target.detach(), "temporal.grad_source": source.grad,
        "temporal.grad_target": target.grad, "temporal.forward_mapping_classification": forward.detach()[None],
        "temporal.reverse_mapping_regression": reverse.detach()[None],
    }


def curve(out, model, batch, pieces, sequences, c):
    import math

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=c["lr"], weight_decay=c["weight_decay"])
    rates, losses = [], []
    for step in range(10):
        low, high, warm, total = c["min_lr"], c["lr"], c["warmup_steps"], c["first_cycle_steps"]
        rising = low + (high - low) * step / warm
        falling = low + (high - low) * (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2
        rate = rising if step < warm else falling
        for group in optimizer.param_groups:
            group["lr"] = rate
        parts = model.losses(model(batch, pieces), sequences)
        optimizer.zero_grad()
        sum(parts).backward()
        optimizer.step()
        rates.append(rate)
        losses.append([float(part) for part in parts] + [float(sum(parts))])
    out["curve.lr"], out["curve.losses"] = torch.tensor(rates, dtype=torch.float64), torch.tensor(losses, dtype=torch.float64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    for name, value in {"seed": 1, "depth": 3, "dim": 36, "heads": 3, "layers": 3, "tokens": 20, "studies": 9, "sequences": 1, "laterals": 4}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(parser.parse_args())
