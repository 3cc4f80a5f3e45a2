"""Trains a scikit-learn probe on the features of a model, and compares it with the model's own
zero-shot answers.

    python python/examples/probe.py --model phantom --corpus try/corpus

Needs scikit-learn. The cells (`# %%`) are those of a notebook.
"""

# %% A model and the studies of a corpus
import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medst

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", required=True, help="a run of medst pretrain")
parser.add_argument("--corpus", required=True, help="a corpus of medst prepare, with findings as labels 0 and 1")
arguments = parser.parse_args()

model = medst.load(arguments.model)
train = medst.Corpus(arguments.corpus, split="train")
test = medst.Corpus(arguments.corpus, split="test")
print(model, train, test, sep="\n")

# %% Features once, for every probe: [n, H], NumPy over the memory of the tensor
features = {name: model.image_features(part).numpy() for name, part in (("train", train), ("test", test))}


# %% One probe per finding
def truth(corpus: medst.Corpus, finding: str) -> np.ndarray:
    return np.array([corpus.describe(n).labels.get(finding) == "1" for n in range(len(corpus))])


findings = sorted(key for key, value in train.describe(0).labels.items() if value in ("0", "1"))
zero_shot = model.zero_shot(test, [finding.replace("_", " ") for finding in findings])
print(f"\n{'AUROC on the test split':24}  {'probe':>6}  {'zero-shot':>9}")
probed = []
for number, finding in enumerate(findings):
    y_train, y_test = truth(train, finding), truth(test, finding)
    if len(set(y_train)) < 2 or len(set(y_test)) < 2:
        print(f"{finding:24}  shown by all or by none")
        continue
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced"))
    probe.fit(features["train"], y_train)
    area = roc_auc_score(y_test, probe.predict_proba(features["test"])[:, 1])
    asked = roc_auc_score(y_test, zero_shot.scores[:, number].numpy())
    probed.append(area)
    print(f"{finding:24}  {area:6.3f}  {asked:9.3f}")
print(f"{'mean':24}  {np.mean(probed):6.3f}")
