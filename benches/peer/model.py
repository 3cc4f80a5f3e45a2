"""Med-ST in PyTorch, computed as in the reference implementation.

Written from the paper and from the observed behaviour of the released program: every study runs 393
image tokens (an absent lateral view is a picture of zeros whose keys are masked), every report is
padded to the window, attention materialises its weights, words are summed in a Python loop. timm
gives the patch embedding and the MLPs, transformers the BERT.
"""

import math

import torch
import torch.nn.functional as F
from timm.layers import Mlp, PatchEmbed
from torch import nn
from transformers import BertConfig, BertModel


class Attention(nn.Module):
    """timm's attention before fused kernels: softmax(q kᵀ) v with the weights in memory."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, keys):
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * self.scale
        if keys is not None:
            scores = scores.masked_fill(~keys[:, None, None, :], float("-inf"))
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    """Shared attention, then one expert per view."""

    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.norm1, self.norm2, self.norm2_l = (nn.LayerNorm(dim, eps=1e-6) for _ in range(3))
        self.attn = Attention(dim, heads)
        self.mlp, self.mlp_l = Mlp(dim, hidden), Mlp(dim, hidden)

    def forward(self, x, keys, frontal_tokens):
        x = x + self.attn(self.norm1(x), keys)
        frontal, lateral = x[:, :frontal_tokens], x[:, frontal_tokens:]
        frontal = frontal + self.mlp(self.norm2(frontal))
        lateral = lateral + self.mlp_l(self.norm2_l(lateral))
        return torch.cat([frontal, lateral], 1)


class ImageEncoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        dim = c["dim"]
        self.patch_embed = PatchEmbed(c["image"], c["patch"], 3, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.patch_embed.num_patches, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, c["heads"], c["mlp"]) for _ in range(c["depth"]))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, frontal, lateral, has_lateral):
        x = torch.cat([self.cls_token.expand(len(frontal), -1, -1), self.patch_embed(frontal)], 1) + self.pos_embed
        lateral = self.patch_embed(lateral) + self.pos_embed[:, 1:]
        tokens = x.shape[1]
        keys = torch.cat([torch.ones_like(has_lateral)[:, None].expand(-1, tokens), has_lateral[:, None].expand(-1, tokens - 1)], 1)
        x = torch.cat([x, lateral], 1)
        for block in self.blocks:
            x = block(x, keys, tokens)
        x = self.norm(x)
        return x[:, 0], x[:, 1:]


class Head(nn.Module):
    """Linear or 1×1 convolution, batch normalisation, ReLU; again without scale and shift."""

    def __init__(self, inputs, hidden, outputs, local):
        super().__init__()
        layer = (lambda i, o: nn.Conv1d(i, o, 1)) if local else nn.Linear
        self.local = local
        self.head = nn.Sequential(
            layer(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), layer(hidden, outputs), nn.BatchNorm1d(outputs, affine=False)
        )

    def forward(self, x):
        x = self.head(x.transpose(1, 2)).transpose(1, 2) if self.local else self.head(x)
        return F.normalize(x, dim=-1)


class Importance(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.randn(3 * dim, dim) * 0.02)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))

    def forward(self, aligned):
        dim = aligned.shape[-1]
        q, k, _ = self.in_proj_weight.chunk(3)
        bq, bk, _ = self.in_proj_bias.chunk(3)
        query, keys = F.linear(aligned.mean(1, keepdim=True), q, bq), F.linear(aligned, k, bk)
        return (query @ keys.transpose(1, 2) / math.sqrt(dim)).softmax(-1).squeeze(1)


class MedST(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.image = ImageEncoder(c)
        bert = BertConfig(
            vocab_size=c["vocabulary"], hidden_size=c["dim"], num_hidden_layers=c["bert_layers"], num_attention_heads=c["heads"],
            intermediate_size=c["bert_intermediate"], max_position_embeddings=c["bert_max_positions"],
            hidden_dropout_prob=c["dropout"], attention_probs_dropout_prob=c["dropout"], attn_implementation=c.get("attention", "eager"),
        )
        self.text = BertModel(bert, add_pooling_layer=False)
        # The method has no token-type embedding.
        self.text.embeddings.token_type_embeddings.weight.data.zero_()
        self.text.embeddings.token_type_embeddings.weight.requires_grad_(False)
        sizes = (c["projection_hidden"], c["embedding"])
        self.image_global, self.patch_local = Head(c["dim"], *sizes, False), Head(c["dim"], *sizes, True)
        self.report_global, self.word_local = Head(c["dim"], *sizes, False), Head(c["dim"], *sizes, True)
        self.word_importance, self.patch_importance = Importance(c["embedding"]), Importance(c["embedding"])

    def words(self, states, ids, pieces):
        """Sums the pieces of each word by the reference's loop, which visits all tokens except the
        last.
        """
        rows, masks = [], []
        for report_states, report_ids in zip(states, ids):
            row, bank = [], []
            for state, token in zip(report_states[:-1], report_ids[:-1].tolist()):
                piece = pieces[token]
                if piece == "[SEP]":
                    row.append(torch.stack(bank).sum(0))
                    row.append(state)
                    break
                if not piece.startswith("##") and bank:
                    row.append(torch.stack(bank).sum(0))
                    bank = []
                bank.append(state)
            padding = len(report_ids) - len(row)
            masks.append([True] * len(row) + [False] * padding)
            rows.append(torch.cat([torch.stack(row), states.new_zeros(padding, states.shape[-1])]))
        exists = torch.tensor(masks, device=states.device)
        return torch.stack(rows)[:, 1:], exists[:, 1:]

    def forward(self, batch, pieces):
        image, patches = self.image(batch["frontal"], batch["lateral"], batch["has_lateral"])
        ids, mask = batch["input_ids"], batch["attention_mask"]
        output = self.text(ids, attention_mask=mask, position_ids=torch.zeros_like(ids), output_attentions=True)
        states = output.last_hidden_state
        words, exists = self.words(states, ids, pieces)
        return {
            "image": self.image_global(image), "patches": self.patch_local(patches),
            "report": self.report_global(states[:, 0]), "words": self.word_local(words), "exists": exists,
        }

    def losses(self, e, sequences):
        c = self.c
        logits = e["image"] @ e["report"].T / c["softmax_temperature"]
        own = torch.arange(len(logits), device=logits.device)
        total_global = F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)
        t = c["local_temperature"]
        local = directional(e["words"], e["patches"], None, self.word_importance, True, t) + directional(
            e["patches"], e["words"], e["exists"], self.patch_importance, False, t
        )
        if len(sequences) == 0:
            return total_global, local, logits.new_zeros(())
        u, v = e["image"][sequences], e["report"][sequences]
        temporal = sum(forward_mapping(a, b, c) + reverse_mapping(a, b, c) for a, b in ((u, v), (v, u)))
        return total_global, local, temporal


def directional(queries, keys, exists, importance, normalise_context, temperature):
    scores = queries @ keys.transpose(1, 2) / temperature
    if exists is not None:
        scores = scores.masked_fill(~exists[:, None, :], float("-inf"))
    context = scores.softmax(-1) @ keys
    aligned = F.normalize(queries * F.normalize(context, dim=-1), dim=-1)
    weights = importance(aligned)
    target = F.normalize(context, dim=-1) if normalise_context else context
    similarity = queries @ target.transpose(1, 2) / temperature
    batch, count, _ = similarity.shape
    own = torch.arange(count, device=queries.device).expand(batch, -1).reshape(-1)
    rows = F.cross_entropy(similarity.reshape(-1, count), own, reduction="none")
    columns = F.cross_entropy(similarity.transpose(1, 2).reshape(-1, count), own, reduction="none")
    return (weights.reshape(-1) * (rows + columns)).sum() / (2 * batch)


def distances(u, v):
    return (u[:, :, None] - v[:, None]).square().sum(-1)


def forward_mapping(u, v, c):
    logits = -distances(u, v) / c["temporal_temperature"]
    return -logits.log_softmax(-1).diagonal(dim1=1, dim2=2).mean()


def reverse_mapping(u, v, c):
    steps, t = u.shape[1], c["temporal_temperature"]
    soft = (-distances(u, v) / t).softmax(-1) @ v
    back = (-distances(soft, u) / t).softmax(-1)
    times = torch.arange(steps, dtype=u.dtype, device=u.device) / (steps + 1e-7)
    mean = (back * times).sum(-1)
    log_variance = ((back * (times - mean[..., None]).square()).sum(-1) + 1e-7).log()
    return (torch.exp(-log_variance) * (times - mean).square() + c["variance_lambda"] * log_variance).mean()
