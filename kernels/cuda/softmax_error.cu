// out = a * (sum of y) - y, BP1 for log-likelihood and softmax, equation (84) where y sums to 1; with the batch's cost,
// -sum of y ln a, in the same pass.
//
// All are (n, m) by columns. A warp takes a column: threadIdx.x is the lane, threadIdx.y the warp in the block. Block i
// adds its share of the cost to total[i], always in the same order. Above this text stand the type REAL, the number FLOOR
// that the logarithm takes smaller ones for, and the number of warps WARPS.
#define EVERY_LANE 0xffffffffu

extern "C" __global__ void softmax_error(
    const REAL* a, const REAL* y, REAL* out, double* total, const int n, const int m) {
    __shared__ double part[WARPS];
    const int warps = gridDim.x * blockDim.y;
    double cost = 0.0;
    for (int column = blockIdx.x * blockDim.y + threadIdx.y; column < m; column += warps) {
        const int first = column * n;
        REAL sum = 0;
        for (int j = threadIdx.x; j < n; j += 32) {
            sum += y[first + j];
        }
        for (int step = 16; step > 0; step /= 2) {
            sum += __shfl_xor_sync(EVERY_LANE, sum, step);
        }
        for (int j = threadIdx.x; j < n; j += 32) {
            const REAL aj = a[first + j], yj = y[first + j];
            out[first + j] = aj * sum - yj;
            cost -= yj * log(aj < FLOOR ? FLOOR : aj);
        }
    }
    for (int step = 16; step > 0; step /= 2) {
        cost += __shfl_xor_sync(EVERY_LANE, cost, step);
    }
    if (threadIdx.x == 0) {
        part[threadIdx.y] = cost;
    }
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        for (int warp = 1; warp < WARPS; warp++) {
            cost += part[warp];
        }
        total[blockIdx.x] += cost;
    }
}
