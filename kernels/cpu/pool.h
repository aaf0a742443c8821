// The threads of one engine. They sleep between calls.
#pragma once

#include <functional>
#include <memory>

#include "engine.h"

namespace gpunet {

// This process's number: after a fork the child has another, and none of its parent's threads.
long process();

class Pool {
   public:
    Pool();
    ~Pool();
    // Call work(team, i) for i = 0 ... team.size - 1, the first on this thread, and return when all are done. The team
    // has that many threads, or fewer where the system does not allow so many.
    void run(int threads, const std::function<void(Team &, int)> &work);

   private:
    class Threads;
    std::unique_ptr<Threads> threads_;
    void forget_threads_of_parent();
};

}  // namespace gpunet
