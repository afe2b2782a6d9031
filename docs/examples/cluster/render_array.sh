#!/bin/bash
# A render as a Slurm array: each task makes one shard, and Slurm starts the next task on whatever GPU is free.
#   sbatch --array=$(torchgenaug render my-model --out /scratch/shards --count 100000 --list-jobs)%64 render_array.sh
# Submitted again after an interruption, the array holds the shards that are still missing.
#SBATCH --gpus=1
#SBATCH --time=01:00:00
#SBATCH --requeue
torchgenaug render "${MODEL:-my-model}" --out "${OUT:-/scratch/shards}" --count "${COUNT:-100000}" \
    --batch-size "${BATCH_SIZE:-32}" --shard-size "${SHARD_SIZE:-1024}" --job "$SLURM_ARRAY_TASK_ID"
