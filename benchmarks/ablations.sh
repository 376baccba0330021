#!/usr/bin/env bash
# Ablations of the gender feed, attention, the second task and the ensemble: quickstart-size runs on synthetic faces,
# seeds 0, 1 and 2, then the feed on real faces (data/crop_part1, as configs/resnet.py finds it) at a small size.
#   benchmarks/ablations.sh
# Repeat the command to resume. Runs are in runs/ablations, results in benchmarks/results/ablation_*.json.
set -euo pipefail
cd "$(dirname "$0")/.."

ablate() { # NAME ARGUMENTS of launch.ablate
    local name=$1
    shift
    "${PYTHON:-python}" -m launch.ablate --seeds=0,1,2 --workdir="runs/ablations/$name" "$@"
    "${PYTHON:-python}" -m benchmarks.result_files "runs/ablations/$name/ablation.json" "ablation_$name"
}

ablate feed_attention --config=configs/quickstart.py:ran \
    --vary=model.gender_to_age=probs,none --vary=model.learning=residual,none
ablate tasks --config=configs/quickstart.py:resnet --config.model.gender_to_age=none \
    --vary=loss.age_weight=1,0 --vary=loss.gender_weight=1,0
ablate ensemble --config=configs/quickstart.py:ran --vary=model.name=ran56,resnet18 --ensemble
ablate real_feed --config=configs/resnet.py --config.model.width=0.25 --config.data.image_size=48 \
    --config.num_epochs=5 --vary=model.gender_to_age=probs,none
