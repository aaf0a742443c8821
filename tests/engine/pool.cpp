// A pool that is called with another number of threads each time; for a build with the thread sanitizer.
#include "../../kernels/cpu/pool.h"

#include <cstddef>
#include <cstdio>
#include <vector>

constexpr size_t THREADS[] = {2, 8, 1, 3, 6};

int main() {
    gpunet::Pool pool;
    for (int call = 0; call < 10000; call++) {
        const size_t threads = THREADS[call % 5];
        std::vector<int> once(threads), twice(threads);
        pool.run(int(threads), [&](gpunet::Team &team, int i) {
            once[size_t(i)] = call;
            if (team.size > 1) team.barrier(&team);
            twice[size_t(i)] = once[size_t(team.size - 1 - i)] + call;
        });
        for (int value : twice)
            if (value != 2 * call) {
                std::printf("call %d by %zu threads left %d\n", call, threads, value);
                return 1;
            }
    }
}
