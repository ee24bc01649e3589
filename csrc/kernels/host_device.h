// Functions that kernels on the device call too.
#pragma once
#ifdef __CUDACC__
#define LONGER_BOTH __host__ __device__
#else
#define LONGER_BOTH
#endif
