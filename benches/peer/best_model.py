"""Med-ST in PyTorch, as fast as plain PyTorch allows: the corrected mathematics without waste.

Absent lateral views are not computed (two streams that meet in attention only), reports are cut to
the longest of the batch, attention is `scaled_dot_product_attention`, words are one `scatter_add`,
token heads are one matrix product over all tokens. Parameters are those of `model.MedST`, so one
checks the other.
"""

import torch
import torch.nn.functional as F
from model import MedST, directional, forward_mapping, reverse_mapping


def attend(attention, x, dropout=0.0):
    batch, tokens, dim = x.shape
    q, k, v = attention.qkv(x).view(batch, tokens, 3, attention.heads, dim // attention.heads).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    return attention.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))


def block(own, frontal, lateral):
    """`frontal` [B, 1 + P, H], the studies that have a lateral view first, `lateral` [L, P, H]."""
    paired, tokens = len(lateral), frontal.shape[1]
    both = attend(own.attn, torch.cat([own.norm1(frontal[:paired]), own.norm1(lateral)], 1))
    alone = attend(own.attn, own.norm1(frontal[paired:]))
    frontal = frontal + torch.cat([both[:, :tokens], alone])
    lateral = lateral + both[:, tokens:]
    return frontal + own.mlp(own.norm2(frontal)), lateral + own.mlp_l(own.norm2_l(lateral))


def encode_images(image, frontal, lateral):
    x = torch.cat([image.cls_token.expand(len(frontal), -1, -1), image.patch_embed(frontal)], 1) + image.pos_embed
    y = image.patch_embed(lateral) + image.pos_embed[:, 1:]
    for own in image.blocks:
        x, y = block(own, x, y)
    return image.norm(x), image.norm(y)


def head(own, rows):
    """A head over rows: 1×1 convolutions are matrix products."""
    expand, norm, _, contract, output = own.head
    flat = lambda layer: layer.weight.flatten(1)
    rows = F.linear(rows, flat(expand), expand.bias)
    return F.normalize(output(F.linear(norm(rows).relu(), flat(contract), contract.bias)), dim=-1)


class BestMedST(MedST):
    def __init__(self, c):
        super().__init__(c | {"attention": "sdpa"})
        self.encode_images = encode_images

    def compile(self):
        """Where it helps: the encoders; shapes of the bench do not change."""
        self.encode_images = torch.compile(encode_images)
        self.text = torch.compile(self.text)

    def forward(self, batch):
        frontal, lateral = self.encode_images(self.image, batch["frontal"], batch["lateral"])
        ids, words = batch["input_ids"], batch["word_of_token"]
        states = self.text(ids, position_ids=torch.zeros_like(ids)).last_hidden_state
        # Row 0 is `[CLS]`.
        rows = states.new_zeros(len(ids), batch["words"] + 1, states.shape[-1])
        rows = rows.scatter_add(1, words[..., None].expand_as(states), states)[:, 1:]
        count, tokens, width = frontal.shape
        patches = torch.cat([frontal[:, 1:].reshape(-1, width), lateral.reshape(-1, width)])
        patches = head(self.patch_local, patches)
        border = count * (tokens - 1)
        return {
            "image": self.image_global(frontal[:, 0]), "report": self.report_global(states[:, 0]),
            "frontal": patches[:border].view(count, tokens - 1, -1), "lateral": patches[border:].view(len(lateral), tokens - 1, -1),
            "words": head(self.word_local, rows.reshape(-1, width)).view(count, batch["words"], -1),
        }

    def losses(self, e, sequences):
        c, t = self.c, self.c["local_temperature"]
        logits = e["image"] @ e["report"].T / c["softmax_temperature"]
        own = torch.arange(len(logits), device=logits.device)
        total_global = F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)
        paired, count = len(e["lateral"]), len(own)
        groups = [
            (e["words"][:paired], torch.cat([e["frontal"][:paired], e["lateral"]], 1)), (e["words"][paired:], e["frontal"][paired:]),
        ]
        # `directional` averages over its studies; the loss over all of them.
        local = sum(
            (directional(w, p, None, self.word_importance, True, t) + directional(p, w, None, self.patch_importance, True, t)) * len(w) / count
            for w, p in groups
        )
        u, v = e["image"][sequences], e["report"][sequences]
        temporal = sum(forward_mapping(a, b, c) + reverse_mapping(a, b, c) for a, b in ((u, v), (v, u)))
        return total_global, local, temporal


def best_batch(batch, pieces):
    """The same batch without waste: studies with a lateral view first, reports at their length."""
    has = batch["has_lateral"]
    order = torch.argsort(~has, stable=True)
    length = int(batch["attention_mask"].sum(1).max())
    ids = batch["input_ids"][order, :length]
    starts = torch.tensor([[not pieces[token].startswith("##") for token in row] for row in ids.tolist()])
    words = starts.cumsum(1) - 1
    return {
        "frontal": batch["frontal"][order], "lateral": batch["lateral"][has], "input_ids": ids, "word_of_token": words,
        "words": int(words.max()),
    }
