"""What an isolated process sees of the machine."""

import os

import numpy as np


def cpus(x):
    return np.array(len(os.sched_getaffinity(0))), np.array(int(os.environ["OMP_NUM_THREADS"]))
