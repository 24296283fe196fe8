#!/bin/sh
# One hour of one GPU: the CIFAR-10 rows of the four systems, one seed, a time budget a fit. Rows are written as they are made; the same
# command continues. COTERIE_BENCH_DATA names the folder with cifar10.npz (or COTERIE_DATA one with torchvision's files).
#   sh benchmarks/gpu.sh                                       # on the GPU
#   sh benchmarks/gpu.sh --device cpu --budget 20s --sets cifar10:500 --preset quick -o /tmp/rehearsal --page /tmp/rehearsal   # a rehearsal
set -e
: "${PYTHON:=.venv/bin/python}"
exec "$PYTHON" -m coterie bench overview --methods kmeans,pcp,deepcluster,scan,spice --sets cifar10 --seeds 1 --budget 13m --device cuda \
    -o benchmarks/results --page docs/benchmarks --keep runs/bench "$@"
