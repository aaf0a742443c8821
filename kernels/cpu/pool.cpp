#include "pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
long gpunet::process() { return getpid(); }
#else
long gpunet::process() { return 1; }
#endif

namespace gpunet {

namespace {

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

//: Looks at a barrier before a thread sleeps: some 50 microseconds, the length of a long wait within a step.
constexpr int SPINS = 2000;

class Barrier : public Team {
   public:
    Barrier() : Team{1, wait, {}} {}

   private:
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<unsigned> round_{0};
    std::atomic<int> asleep_{0};
    std::mutex mutex_;
    std::condition_variable opened_;

    static void wait(Team *team) { static_cast<Barrier *>(team)->wait(); }

    void wait() {
        const unsigned round = round_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1) == size - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(round + 1);
            if (asleep_.load() > 0) {
                std::lock_guard<std::mutex> lock(mutex_);
                opened_.notify_all();
            }
            return;
        }
        for (int i = 0; i < SPINS; i++) {
            if (round_.load(std::memory_order_acquire) != round) return;
            pause();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_.fetch_add(1);  // before the look at round_: whoever opens looks at asleep_ after it has set round_
        opened_.wait(lock, [&] { return round_.load() != round; });
        asleep_.fetch_sub(1);
    }
};

}  // namespace

class Pool::Threads {
   public:
    ~Threads() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
        }
        called_.notify_all();
        for (std::thread &thread : threads_) thread.join();
    }

    const long owner = process();

    void run(int size, const std::function<void(Team &, int)> &work) {
        size = std::min(size, start_threads(size - 1) + 1);
        {
            // All at once: a thread that had no part in the last call may only now wake and look at it.
            std::lock_guard<std::mutex> lock(mutex_);
            barrier_.size = size;
            work_ = &work;
            running_ = size - 1;
            call_++;
        }
        called_.notify_all();
        work(barrier_, 0);
        std::unique_lock<std::mutex> lock(mutex_);
        finished_.wait(lock, [&] { return running_ == 0; });
    }

   private:
    Barrier barrier_;
    std::mutex mutex_;
    std::condition_variable called_, finished_;
    const std::function<void(Team &, int)> *work_ = nullptr;
    unsigned long call_ = 0;
    int running_ = 0;
    bool stopping_ = false;
    std::vector<std::thread> threads_;

    // Have so many threads, or as many as the system allows: the work is the same, whoever does it.
    int start_threads(int wanted) {
        try {
            while (int(threads_.size()) < wanted) {
                const int index = int(threads_.size()) + 1;
                threads_.emplace_back([this, index, call = call_] { serve(index, call); });
            }
        } catch (const std::system_error &) {
        }
        return int(threads_.size());
    }

    void serve(int index, unsigned long call) {
        std::unique_lock<std::mutex> lock(mutex_);
        while (true) {
            called_.wait(lock, [&] { return stopping_ || call_ != call; });
            if (stopping_) return;
            call = call_;
            if (index >= barrier_.size) continue;
            const std::function<void(Team &, int)> *work = work_;
            lock.unlock();
            (*work)(barrier_, index);
            lock.lock();
            if (--running_ == 0) finished_.notify_one();
        }
    }
};

Pool::Pool() = default;

Pool::~Pool() { forget_threads_of_parent(); }

// After a fork the child has none of its parent's threads, and a mutex of theirs may be locked for ever.
void Pool::forget_threads_of_parent() {
    if (threads_ && threads_->owner != process()) (void)threads_.release();
}

void Pool::run(int threads, const std::function<void(Team &, int)> &work) {
    if (threads == 1) {
        Team alone{1, nullptr, {}};
        work(alone, 0);
        return;
    }
    forget_threads_of_parent();
    if (!threads_) threads_ = std::make_unique<Threads>();
    threads_->run(threads, work);
}

}  // namespace gpunet
