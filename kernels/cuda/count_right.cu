// total += for how many columns of a the largest entry is that of its class; of one row, whether it exceeds 1/2.
//
// a is (n, m) by columns, classes are m numbers. Of equal entries the first is the largest, and NaN is larger than all.
// A warp takes a column: threadIdx.x is the lane, threadIdx.y the warp in the block. Above this text stands the type
// REAL.
#define EVERY_LANE 0xffffffffu

static __device__ bool comes_first(const REAL x, const int i, const REAL y, const int j) {
    const bool x_is_nan = x != x, y_is_nan = y != y;
    if (x_is_nan || y_is_nan) {
        return x_is_nan && (!y_is_nan || i < j);
    }
    return x > y || (x == y && i < j);
}

extern "C" __global__ void count_right(
    const REAL* a, const long long* classes, long long* total, const int n, const int m) {
    const int warps = gridDim.x * blockDim.y;
    unsigned long long right = 0;
    for (int column = blockIdx.x * blockDim.y + threadIdx.y; column < m; column += warps) {
        const REAL* entries = a + (long long)column * n;
        int found = 0;
        REAL largest = entries[0];
        for (int j = threadIdx.x; j < n; j += 32) {
            if (comes_first(entries[j], j, largest, found)) {
                largest = entries[j];
                found = j;
            }
        }
        for (int step = 16; step > 0; step /= 2) {
            const REAL other = __shfl_xor_sync(EVERY_LANE, largest, step);
            const int j = __shfl_xor_sync(EVERY_LANE, found, step);
            if (comes_first(other, j, largest, found)) {
                largest = other;
                found = j;
            }
        }
        if (n == 1) {
            found = largest > REAL(0.5) ? 1 : 0;
        }
        if (found == classes[column]) {
            right++;
        }
    }
    if (threadIdx.x == 0) {
        atomicAdd((unsigned long long*)total, right);
    }
}
