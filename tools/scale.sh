#!/usr/bin/env bash
# Makes the measurements that docs/scale.md compares its model with, and writes
# docs/scale/measured.json: steps of one process, of several programs at the same time, and of 1, 2
# and 4 processes, each with one thread; sums of tensors among processes; the loss over all pairs.
# Needs the programs that `make scale-measure` builds, Open MPI, and an otherwise idle machine;
# takes some minutes. MODELS="small middle full" are the sizes;
# PART=collectives|pairs|small|middle|full measures one part, into WORK.
set -euo pipefail
cd "$(dirname "$0")/.."

medst=$PWD/target/release/medst
examples=$PWD/target/release/examples
work=${WORK:-$PWD/target/scale}
out=docs/scale/measured.json
mkdir -p "$work"
export OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# A small validation split for the full size, whose validation is slow.
for corpus in corpus:300 few:40; do
  name=${corpus%:*}
  [ -d "$work/$name" ] && continue
  "$medst" -q phantom "$work/raw-$name" --subjects "${corpus#*:}" --size 256 --seed 7
  "$medst" -q prepare table "$work/raw-$name/studies.csv" --out "$work/$name" --image-size 256
done

settings() {
  case $1 in
    small) echo "model.image.size=64 model.image.hidden_size=128 model.image.num_layers=2 model.image.num_heads=2 model.image.intermediate_size=512
      model.text.hidden_size=128 model.text.num_layers=2 model.text.num_heads=2 model.text.intermediate_size=512 model.projection.hidden=256" ;;
    middle) echo "model.image.size=128 model.image.hidden_size=384 model.image.num_layers=6 model.image.num_heads=6 model.image.intermediate_size=1536
      model.text.hidden_size=384 model.text.num_layers=3 model.text.num_heads=6 model.text.intermediate_size=1536" ;;
    full) echo "" ;;
  esac
}

# pretrain MODEL PROCESSES COPY SEQUENCES STEPS: seconds of all steps except the first two, and the
# studies, as JSON in WORK.
pretrain() {
  local run=$work/run-$1-$2-$3 arguments=() launch=() corpus=$work/corpus
  [ "$1" != full ] || corpus=$work/few
  rm -rf "$run"
  for setting in $(settings "$1"); do arguments+=(--set "$setting"); done
  [ "$2" -eq 1 ] || launch=(mpirun --oversubscribe -n "$2")
  "${launch[@]}" "$medst" -q pretrain configs/pretrain.toml "${arguments[@]}" --device cpu --set data.corpus="$corpus" \
    --set train.output="$run" --set train.sequences_per_batch="$4" --set train.max_steps="$5" --set train.validate_every=100000 \
    --set train.patience=0 >/dev/null
}

# step MODEL PROCESSES COPIES SEQUENCES STEPS: COPIES runs at the same time.
step() {
  for copy in $(seq "$3"); do pretrain "$1" "$2" "$copy" "$4" "$5" & done
  wait
  python3 - "$work" "$@" <<'PYTHON'
import json, statistics, sys
work, model, processes, copies, sequences = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
studies, seconds = [], []
for copy in range(1, copies + 1):
    for line in open(f"{work}/run-{model}-{processes}-{copy}/metrics.jsonl"):
        line = json.loads(line)
        if line["kind"] == "train" and line["step"] > 2:
            studies.append(line["studies"])
            seconds.append(line["studies"] / line["studies_per_second"])
# Seconds per study by the median, which ignores steps that other work disturbed.
rate = statistics.median(s / n for s, n in zip(seconds, studies))
mean = statistics.mean(studies)
run = dict(processes=processes, copies=copies, sequences=sequences, studies=mean, seconds=rate * mean)
print(json.dumps(run))
PYTHON
}

model() {
  local steps=${STEPS:-14}
  : > "$work/$1.jsonl"
  if [ "$1" = full ]; then
    for run in "1 1 2 5" "1 1 1 5" "1 2 1 5" "2 1 2 5"; do
      read -r processes copies sequences steps <<<"$run"
      step "$1" "$processes" "$copies" "$sequences" "$steps" >> "$work/$1.jsonl"
    done
    return
  fi
  # Sequences of a batch; concurrent programs compute the shares of 2 and 4 processes.
  local whole=16
  [ "$1" = small ] || whole=8
  for run in "1 1 1" "1 1 2" "1 1 4" "1 2 2" "1 4 4" "2 1 1" "4 1 1"; do
    read -r processes copies part <<<"$run"
    step "$1" "$processes" "$copies" $((whole / part)) "$steps" >> "$work/$1.jsonl"
  done
}

collectives() {
  for processes in 2 4; do mpirun --oversubscribe -n "$processes" "$examples/bench_collectives"; done > "$work/collectives.jsonl"
}

pairs() {
  for studies in 2048 4096 8192; do lab/target/release/simulate-scale pairs=$studies && lab/target/release/simulate-scale pairs=$studies own=$((studies / 8)); done > "$work/pairs.jsonl"
}

case ${PART:-} in
  collectives | pairs) "$PART" ;;
  ?*) model "$PART" ;;
  *) collectives; pairs; for name in ${MODELS:-small middle full}; do model "$name"; done ;;
esac

# Writes the file from the results so far.
lab/target/release/simulate-scale describe="$work/corpus" > "$work/studies.json"
declare -A said=([small]="small" [middle]="middle" [full]="full size")
{
  for name in small middle full; do
    [ -s "$work/$name.jsonl" ] && printf '%s\t%s\t%s\n' "${said[$name]}" "$work/$name.jsonl" "$(settings "$name" | tr -s '\n ' ' ')"
  done || true
} > "$work/models.tsv"
python3 - "$work" "$out" "$(date -u +%F)" "$(lscpu | sed -n 's/^Model name: *//p'), $(nproc --all) cores, one thread per process" <<'PYTHON'
import json, os, sys
work, out, date, machine = sys.argv[1:]
read = lambda path: [json.loads(line) for line in open(path)] if os.path.exists(path) else []
models = []
for line in open(f"{work}/models.tsv"):
    name, path, settings = line.rstrip("\n").split("\t")
    models.append(dict(name=name, settings=settings.split(), runs=read(path)))
measured = dict(machine=machine, date=date, studies=json.load(open(f"{work}/studies.json")), collectives=read(f"{work}/collectives.jsonl"),
                pairs=read(f"{work}/pairs.jsonl"), models=models)
json.dump(measured, open(out, "w"), indent=1)
PYTHON
echo "written: $out" >&2
