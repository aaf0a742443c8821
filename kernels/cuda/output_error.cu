// out = dC/da * f'(z), BP1, for costs that are a sum over outputs; with the batch's cost in the same pass.
//
// s is what f' is computed from, z or a. Block i adds its share of the cost to total[i], always in the same order, so
// that the same data give the same bits. A thread takes EACH elements, so that as many loads are under way. Above this
// text stand the type REAL, its smallest normal number TINY, the number FLOOR that logarithms of probabilities take
// smaller ones for, the expressions DELTA(a, y, s) and COST(a, y), the number of threads BLOCK, a power of 2, and EACH.
extern "C" __global__ void output_error(
    const REAL* a, const REAL* y, const REAL* s, REAL* out, double* total, const int size) {
    __shared__ double part[BLOCK];
    const int stride = gridDim.x * BLOCK * EACH;
    double cost = 0.0;
    for (int first = blockIdx.x * BLOCK * EACH + threadIdx.x; first < size; first += stride) {
        REAL delta[EACH] = {};
        for (int e = 0; e < EACH; e++) {
            const int i = first + e * BLOCK;
            if (i < size) {
                delta[e] = DELTA(a[i], y[i], s[i]);
                cost += COST(a[i], y[i]);
            }
        }
        for (int e = 0; e < EACH; e++) {
            const int i = first + e * BLOCK;
            if (i < size) {
                out[i] = delta[e];
            }
        }
    }
    part[threadIdx.x] = cost;
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            part[threadIdx.x] += part[threadIdx.x + half];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        total[blockIdx.x] += part[0];
    }
}
