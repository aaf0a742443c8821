// total += factor * (sum of w * w), over `size` numbers.
//
// Block i adds its share to total[i], always in the same order, so that the same numbers give the same bits. A thread
// takes EACH elements, so that as many loads are under way. Above this text stand the type REAL, the number of threads
// BLOCK, a power of 2, and EACH.
extern "C" __global__ void add_squares(const REAL* w, double* total, const double factor, const long long size) {
    __shared__ double part[BLOCK];
    const long long stride = (long long)gridDim.x * BLOCK * EACH;
    double sum = 0.0;
    for (long long first = (long long)blockIdx.x * BLOCK * EACH + threadIdx.x; first < size; first += stride) {
        REAL square = 0;
        for (int e = 0; e < EACH; e++) {
            const long long i = first + e * BLOCK;
            if (i < size) {
                square += w[i] * w[i];
            }
        }
        sum += square;
    }
    part[threadIdx.x] = sum;
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            part[threadIdx.x] += part[threadIdx.x + half];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        total[blockIdx.x] += factor * part[0];
    }
}
