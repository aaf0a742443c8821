// Work that the threads of a team share: whoever comes takes the next part of it.
#pragma once

class Shared {
   public:
    // Between the making of all threads' and the first work lies a barrier, and one between two works.
    Shared(Team &team, int thread) : team_(team), thread_(thread) {
        if (thread == 0) team.taken[0] = team.taken[1] = 0;
    }

    // Call f(begin, end) for parts of `count` pieces of work until all are taken, in parts that get smaller: a thread
    // that the system keeps from its work would else be waited for, with all that was to be its share.
    template <class F>
    void operator()(int64_t count, F f) {
        if (team_.size == 1) {
            f(0, count);
            return;
        }
        int64_t *taken = &team_.taken[works_++ % 2];
        // The next work's, where nobody is yet.
        if (thread_ == 0) __atomic_store_n(&team_.taken[works_ % 2], 0, __ATOMIC_RELAXED);
        int64_t begin = __atomic_load_n(taken, __ATOMIC_RELAXED);
        while (begin < count) {
            const int64_t part = (count - begin) / (2 * team_.size), end = begin + (part > 0 ? part : 1);
            if (!__atomic_compare_exchange_n(taken, &begin, end, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
            f(begin, end);
            begin = __atomic_load_n(taken, __ATOMIC_RELAXED);
        }
    }

   private:
    Team &team_;
    const int thread_;
    int works_ = 0;  // so far, the same in all threads
};
