"""live.py FOLDER REFERENCE: the real torch, timm and transformers open what `medst convert` wrote
(see live.rs).
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from timm.layers import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizer, ViTImageProcessor, ViTModel
from transformers.models.bert.modeling_bert import BertAttention

folder, reference = map(Path, sys.argv[1:])


class Head(nn.Module):
    def __init__(self, inputs, hidden, outputs, local):
        super().__init__()
        layer = (lambda i, o: nn.Conv1d(i, o, 1)) if local else nn.Linear
        self.head = nn.Sequential(
            layer(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), layer(hidden, outputs), nn.BatchNorm1d(outputs, affine=False)
        )


class Reference(nn.Module):
    """Modules of the real libraries under the reference's names."""

    def __init__(self, s):
        super().__init__()
        dim, hidden, embedding = s["dim"], s["projection_hidden"], s["embedding"]
        image = VisionTransformer(
            img_size=s["image"], patch_size=s["patch"], embed_dim=dim, depth=s["depth"], num_heads=s["heads"], num_classes=0
        )
        for block in image.blocks:
            block.norm2_l, block.mlp_l = nn.LayerNorm(dim, eps=1e-6), Mlp(dim, 4 * dim)
        config = BertConfig(
            vocab_size=82, hidden_size=dim, num_hidden_layers=s["bert_layers"], num_attention_heads=s["heads"],
            intermediate_size=s["bert_intermediate"], max_position_embeddings=s["bert_max_positions"],
        )
        text = BertModel(config)
        del text.embeddings.token_type_embeddings
        text.embeddings.register_buffer("position_ids", torch.arange(s["bert_max_positions"])[None], persistent=True)
        for layer in text.encoder.layer:
            layer.crossattention = BertAttention(config)
        self.img_encoder_q, self.text_encoder_q = nn.Module(), nn.Module()
        self.img_encoder_q.model, self.text_encoder_q.model = image, text
        for encoder, ending in [(self.img_encoder_q, ""), (self.img_encoder_q, "_la"), (self.text_encoder_q, "")]:
            setattr(encoder, "global_embed" + ending, Head(dim, hidden, embedding, False))
            setattr(encoder, "local_embed" + ending, Head(dim, hidden, embedding, True))
        for side in ["word", "patch"]:
            for attention in ["local_atten_layer", "element_wise_multi_head"]:
                setattr(self, f"{side}_{attention}", nn.MultiheadAttention(embedding, 1, batch_first=True))


def check_reference():
    import json

    ours = torch.load(folder / "reference.ckpt", weights_only=True)
    theirs = torch.load(reference / "lightning.ckpt", weights_only=True)
    assert torch.load(folder / "reference.ckpt", weights_only=True, mmap=True)["global_step"] == 0
    state = ours["state_dict"]
    assert set(state) == set(theirs["state_dict"])
    for name, tensor in theirs["state_dict"].items():
        assert state[name].shape == tensor.shape and state[name].dtype == tensor.dtype, name
    model = Reference(json.loads((reference / "config.json").read_text()))
    model.load_state_dict(theirs["state_dict"], strict=True)
    model.load_state_dict(state, strict=True)
    print(f"torch.load(weights_only=True): {len(state)} tensors, strict load into modules of the reference's names")


def load(cls, name):
    model, info = cls.from_pretrained(folder / "folder" / name, add_pooling_layer=False, output_loading_info=True)
    assert not any(info[key] for key in ["missing_keys", "unexpected_keys", "mismatched_keys"]), info
    return model.double().eval()


def compare(what, found, expected, where=None):
    found, expected = found.detach(), expected.double()
    if where is not None:
        found, expected = found[where], expected[where]
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    print(f"{what}: {error:.1e}")
    assert error < 1e-5, (what, error)


def check_transformers():
    ours = load_file(folder / "features.safetensors")
    processor = ViTImageProcessor.from_pretrained(folder / "folder" / "frontal_image_encoder")
    pictures = [picture.numpy() for picture in ours["pixels"][:, :, :, None].expand(-1, -1, -1, 3)]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    plain = (ours["pixels"].double() / 255 - 0.5) / 0.5
    compare("pixels", pixels[:, 0].double(), plain)
    pixels = plain[:, None].expand(-1, 3, -1, -1)
    for view in ["frontal", "lateral"]:
        model = load(ViTModel, f"{view}_image_encoder")
        compare(f"ViTModel, {view}", model(pixels).last_hidden_state, ours[view])
    model = load(BertModel, "report_encoder")
    states = model(ours["ids"], attention_mask=ours["mask"]).last_hidden_state
    compare("BertModel", states, ours["states"], ours["mask"].bool())
    tokenizer = BertTokenizer.from_pretrained(folder / "folder" / "report_encoder")
    words = [tokenizer.convert_ids_to_tokens(n) for n in [10, 20]]
    assert tokenizer.convert_tokens_to_ids(words) == [10, 20] and tokenizer.cls_token_id == 2 and not tokenizer.do_lower_case


check_reference()
check_transformers()
