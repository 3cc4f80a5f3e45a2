#!/usr/bin/env bash
# Reads the file store that runs of pre-training and fine-tuning write with MLFLOW_TRACKING_URI, by
# MLflow's own library. Installs it into .venv-mlflow (PyPI, 90 MB).
#   tools/mlflow_check.sh          MEDST: the program, by default target/release/medst
set -euo pipefail
cd "$(dirname "$0")/.."
tools/environment.sh mlflow mlflow_check
medst=${MEDST:-target/release/medst}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$medst" --quiet phantom "$folder/cohort" --subjects 20 --size 112 > /dev/null
"$medst" --quiet prepare table "$folder/cohort/studies.csv" --image-size 112 --out "$folder/corpus" > /dev/null
MLFLOW_TRACKING_URI="file://$folder/mlruns" "$medst" --quiet pretrain configs/tiny.toml --set data.corpus="$folder/corpus" --set train.output="$folder/run" \
  --set train.max_steps=6 --set train.validate_every=3 > /dev/null
MLFLOW_TRACKING_URI="file://$folder/mlruns" "$medst" --quiet finetune configs/finetune.toml --set data.corpus="$folder/corpus" \
  --set train.output="$folder/tuned" --set train.epochs=2 > /dev/null
# MLflow enables its file store only with this variable.
MLFLOW_ALLOW_FILE_STORE=true .venv-mlflow/bin/python - "$folder" <<'PYTHON'
import json
import sys

from mlflow.tracking import MlflowClient

folder = sys.argv[1]
client = MlflowClient(f"file://{folder}/mlruns")
(experiment,) = [own for own in client.search_experiments() if own.name == "medst"]
runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
for name, parameter, value, loss in [("run", "train.max_steps", "6", "total"), ("tuned", "train.epochs", "2", "loss")]:
    run = runs.pop(name)
    assert run.info.status == "FINISHED", run.info
    assert run.data.params[parameter] == value, run.data.params
    with open(f"{folder}/{name}/metrics.jsonl", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    for kind in ("train", "validate"):
        ours = [(own["step"], own[loss]) for own in lines if own["kind"] == kind]
        read = [(own.step, own.value) for own in client.get_metric_history(run.info.run_id, f"{kind}/{loss}")]
        assert ours and ours == read, (ours, read)
        print(f"{name}: {kind}/{loss}: {len(read)} values as in metrics.jsonl")
    print(f"{name}: {len(run.data.params)} parameters, {len(run.data.metrics)} metrics")
assert not runs, runs
PYTHON
