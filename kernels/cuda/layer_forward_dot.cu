// The same as layer_forward.cu, for few outputs: a block takes one neuron and EXAMPLES examples, and shares out the
// terms of the sum.
//
// threadIdx.x is the lane, threadIdx.y the warp. Above this text stand the type REAL, the numbers WARPS and EXAMPLES,
// the expression F(z), and BIAS(j), which is b[j] or nothing.
#define EVERY_LANE 0xffffffffu

extern "C" __global__ void layer_forward_dot(
    const REAL* w, const REAL* x, const REAL* b, REAL* z, REAL* a, const int I, const int J, const int S) {
    __shared__ REAL part[WARPS][EXAMPLES];
    const int j = blockIdx.x, first = blockIdx.y * EXAMPLES;
    REAL sum[EXAMPLES] = {};
    for (int s = threadIdx.y * 32 + threadIdx.x; s < S; s += 32 * WARPS) {
        const REAL weight = w[j * S + s];
        for (int e = 0; e < EXAMPLES; e++) {
            if (first + e < I) {
                sum[e] += weight * x[(first + e) * S + s];
            }
        }
    }
    for (int e = 0; e < EXAMPLES; e++) {
        for (int step = 16; step > 0; step /= 2) {
            sum[e] += __shfl_xor_sync(EVERY_LANE, sum[e], step);
        }
        if (threadIdx.x == 0) {
            part[threadIdx.y][e] = sum[e];
        }
    }
    __syncthreads();
    const int i = first + threadIdx.x;
    if (threadIdx.y == 0 && threadIdx.x < EXAMPLES && i < I) {
        REAL weighted = BIAS(j);
        for (int warp = 0; warp < WARPS; warp++) {
            weighted += part[warp][threadIdx.x];
        }
        z[i * J + j] = weighted;
        a[i * J + j] = F(weighted);
    }
}
