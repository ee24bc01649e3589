"""GFLOP/s of a matrix product of the model's size on so many threads, for choosing the BLAS kernel (OPENBLAS_CORETYPE) that suits this CPU best."""
import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]))
a, b = torch.randn(4096, 256), torch.randn(256, 1024)
best = 1e9
for _ in range(12):
    start = time.perf_counter()
    torch.mm(a, b)
    best = min(best, time.perf_counter() - start)
print(2e-9 * 4096 * 256 * 1024 / best)
