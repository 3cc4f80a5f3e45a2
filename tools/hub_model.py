"""Computes features of a pretrained BERT with transformers, for the test of models by name:
hub_model.py MODEL FEATURES

Writes token ids and mask (``[reports, tokens]``) and the last states (``[reports, tokens, width]``,
computed in float64).
"""

import sys

import torch
from safetensors.torch import save_file
from transformers import BertModel, BertTokenizer

REPORTS = [
    "there is a small left pleural effusion . no pneumothorax is seen .",
    "findings are unchanged .",
    "new consolidation in the right lower lobe is concerning for pneumonia , with mild interstitial edema and cardiomegaly .",
    "the endotracheal tube ends 4 cm above the carina .",
]

folder, out = sys.argv[1:]
tokens = BertTokenizer.from_pretrained(folder)(REPORTS, padding=True, return_tensors="pt")
model = BertModel.from_pretrained(folder, add_pooling_layer=False).double().eval()
with torch.no_grad():
    states = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
save_file({"ids": tokens["input_ids"], "mask": tokens["attention_mask"], "states": states.contiguous()}, out)
