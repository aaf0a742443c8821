// The softmax of each column of z + b, shifted by its largest entry; and the product with its Jacobian.
//
// z, a, g, out are (n, m) by columns, b is (n, 1). A warp takes a column: threadIdx.x is the lane, threadIdx.y the
// warp in the block. Above this text stands the type REAL.
#define EVERY_LANE 0xffffffffu

static __device__ REAL warp_sum(REAL value) {
    for (int step = 16; step > 0; step /= 2) {
        value += __shfl_xor_sync(EVERY_LANE, value, step);
    }
    return value;
}

static __device__ REAL warp_max(REAL value) {
    for (int step = 16; step > 0; step /= 2) {
        const REAL other = __shfl_xor_sync(EVERY_LANE, value, step);
        value = other > value ? other : value;
    }
    return value;
}

// a = softmax(z + b); z becomes z + b, unless a is z.
extern "C" __global__ void softmax(REAL* z, const REAL* b, REAL* a, const int n, const int m) {
    const int warps = gridDim.x * blockDim.y;
    for (int column = blockIdx.x * blockDim.y + threadIdx.y; column < m; column += warps) {
        const int first = column * n;
        REAL largest = z[first] + b[0];
        for (int j = threadIdx.x; j < n; j += 32) {
            const REAL s = z[first + j] + b[j];
            largest = s > largest ? s : largest;
        }
        largest = warp_max(largest);
        REAL sum = 0;
        for (int j = threadIdx.x; j < n; j += 32) {
            const REAL s = z[first + j] + b[j];
            const REAL e = exp(s - largest);
            sum += e;
        }
        sum = warp_sum(sum);
        for (int j = threadIdx.x; j < n; j += 32) {
            const REAL s = z[first + j] + b[j];
            z[first + j] = s;
            a[first + j] = exp(s - largest) / sum;
        }
    }
}
