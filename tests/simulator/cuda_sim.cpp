// Runs a kernel that cuda_sim.h has made ready: a block's threads are fibres, blocks follow one another.
//
// A thread runs until it waits or ends, so two threads that race between two barriers always run one wholly before the
// other; ascending and descending order show both ways round. Linked into each kernel's library, whose state is its own.
#define SIM_RUNTIME
#include "cuda_sim.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace sim {

enum State : char { READY, AT_BARRIER, AT_WARP, DONE };
struct Thread {
    uint3 index;
    State state;
    int fibre, line, source;
    const char* what;
    unsigned mask;
    uint64_t value, result;
};
struct Fibre { jmp_buf at; char* stack; bool fresh; };

constexpr int MOST = 1024;
constexpr size_t STACK = 128 << 10, PAGE = 64 << 10;  // no page is larger
static Thread threads[MOST];
static Fibre fibres[MOST];
static int made, idle[MOST], idles, current, count;
static void** arguments;
static jmp_buf scheduler;
static sigjmp_buf out;
static char message[1024];
static void* address;
extern "C" __attribute__((weak, visibility("hidden"))) char __start_sim_block[], __stop_sim_block[];

/// End the launch with a message, from anywhere within it.
[[noreturn]] __attribute__((format(printf, 1, 2))) static void fail(const char* format, ...) {
    va_list list;
    va_start(list, format);
    int length = vsnprintf(message, sizeof message, format, list);
    if (length < int(sizeof message)) {
        const uint3 b = blockIdx, t = threads[current].index;
        snprintf(message + length, sizeof message - length, " [block (%u, %u, %u), thread (%u, %u, %u)]", b.x, b.y, b.z,
                 t.x, t.y, t.z);
    }
    siglongjmp(out, 1);
}

static void on_signal(int signal, siginfo_t* info, void*) {
    address = info->si_addr;
    fail("%s", strsignal(signal));
}

// -- Fibres: setjmp switches them, since ucontext's switch makes system calls ---------------------------------------

static __attribute__((noinline)) void leave(int fibre) {
    if (_setjmp(fibres[fibre].at) == 0) _longjmp(scheduler, 1);
}

static void live() {
    for (;;) {
        sim_kernel.call(arguments);
        threads[current].state = DONE;
        const int fibre = threads[current].fibre;
        idle[idles++] = fibre;
        leave(fibre);
    }
}

static int new_fibre() {
    Fibre& fibre = fibres[made];
    void* memory = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, PAGE, PROT_NONE)) fail("no memory for a stack");
    fibre.stack = static_cast<char*>(memory) + PAGE;
    fibre.fresh = true;
    return made++;
}

static __attribute__((noinline)) void resume(int t) {
    Thread& thread = threads[t];
    if (thread.fibre < 0) thread.fibre = idles ? idle[--idles] : new_fibre();
    current = t;
    threadIdx = thread.index;
    if (_setjmp(scheduler)) return;
    Fibre& fibre = fibres[threads[t].fibre];
    if (!fibre.fresh) _longjmp(fibre.at, 1);
    fibre.fresh = false;
    static ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = fibre.stack;
    start.uc_stack.ss_size = STACK;
    makecontext(&start, live, 0);
    setcontext(&start);
}

// -- Waiting --------------------------------------------------------------------------------------------------------

static __attribute__((noinline)) void wait(State state, const char* what, int line, unsigned mask = 0) {
    Thread& thread = threads[current];
    thread.state = state;
    thread.what = what;
    thread.line = line;
    thread.mask = mask;
    leave(thread.fibre);
}

[[noreturn]] static void diverged(int t, int other) {
    const Thread &a = threads[t], &b = threads[other];
    current = t;
    char doing[128] = "has exited";
    if (b.state != DONE) snprintf(doing, sizeof doing, "waits at %s in line %d", b.what, b.line);
    fail("divergent %s in line %d: thread (%u, %u, %u) %s%s", a.what, a.line, b.index.x, b.index.y, b.index.z, doing,
         a.state == AT_WARP && b.state == AT_WARP && a.line == b.line ? " with another mask" : "");
}

/// Let the lanes go on that wait at one warp operation; return whether there were any.
static bool meet(int first, int last) {
    for (int t = first; t < last; ++t) {
        const Thread& a = threads[t];
        if (a.state != AT_WARP) continue;
        if (!(a.mask >> (t - first) & 1)) fail("%s in line %d: the mask %#x lacks its own lane", a.what, a.line, a.mask);
        bool all = true;
        for (int u = first; u < last; ++u) {
            const Thread& b = threads[u];
            if (a.mask >> (u - first) & 1) all &= b.state == AT_WARP && b.mask == a.mask && b.line == a.line;
        }
        if (!all) continue;
        for (int u = first; u < last; ++u) {
            if (!(a.mask >> (u - first) & 1)) continue;
            Thread& b = threads[u];
            const int from = first + b.source;  // a lane that takes no part gives anything
            b.result = from < last && a.mask >> b.source & 1 ? threads[from].value : ~uint64_t(0);
        }
        const unsigned mask = a.mask;
        for (int u = first; u < last; ++u)
            if (mask >> (u - first) & 1) threads[u].state = READY;
        return true;
    }
    return false;
}

static void run_warp(int first, int last, bool descending) {
    do {
        for (int i = first; i < last; ++i) {
            const int t = descending ? last - 1 - (i - first) : i;
            if (threads[t].state == READY) resume(t);
        }
    } while (meet(first, last));
    for (int t = first; t < last; ++t) {
        const Thread& a = threads[t];
        if (a.state != AT_WARP) continue;
        for (int u = first; u < last; ++u) {
            const Thread& b = threads[u];
            if (a.mask >> (u - first) & 1 && (b.state != AT_WARP || b.mask != a.mask || b.line != a.line)) diverged(t, u);
        }
    }
}

static void run_block(bool descending) {
    if (__start_sim_block) memset(__start_sim_block, 0xff, __stop_sim_block - __start_sim_block);
    for (int t = 0; t < count; ++t) {
        threads[t].state = READY;
        threads[t].fibre = -1;
    }
    const int warps = (count + warpSize - 1) / warpSize;
    for (;;) {
        for (int i = 0; i < warps; ++i) {
            const int first = (descending ? warps - 1 - i : i) * warpSize;
            run_warp(first, first + warpSize < count ? first + warpSize : count, descending);
        }
        int waiting = -1;
        for (int t = 0; t < count && waiting < 0; ++t)
            if (threads[t].state == AT_BARRIER) waiting = t;
        if (waiting < 0) return;
        for (int t = 0; t < count; ++t)
            if (threads[t].state != AT_BARRIER || threads[t].line != threads[waiting].line) diverged(waiting, t);
        for (int t = 0; t < count; ++t) threads[t].state = READY;
    }
}

static int launch(void** args, const unsigned* size, int descending, void** fault) {
    struct sigaction action = {}, before[4];
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    static char room[64 << 10];
    stack_t stack = {}, old_stack;
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    sigaltstack(&stack, &old_stack);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 4; ++i) sigaction(signals[i], &action, &before[i]);

    arguments = args;
    address = nullptr;
    gridDim.x = size[0], gridDim.y = size[1], gridDim.z = size[2];
    blockDim.x = size[3], blockDim.y = size[4], blockDim.z = size[5];
    count = int(size[3] * size[4] * size[5]);
    for (unsigned t = 0; t < unsigned(count); ++t)
        threads[t].index = {t % size[3], t / size[3] % size[4], t / (size[3] * size[4])};
    const int failed = sigsetjmp(out, 1);
    if (!failed) {
        const uint64_t plane = uint64_t(size[0]) * size[1], blocks = plane * size[2];
        for (uint64_t i = 0; i < blocks; ++i) {
            const uint64_t b = descending ? blocks - 1 - i : i;
            blockIdx = {unsigned(b % size[0]), unsigned(b / size[0] % size[1]), unsigned(b / plane)};
            run_block(descending);
        }
    } else {  // fibres that stopped halfway begin anew
        for (idles = 0; idles < made; ++idles) idle[idles] = idles, fibres[idles].fresh = true;
    }
    for (int i = 0; i < 4; ++i) sigaction(signals[i], &before[i], nullptr);
    sigaltstack(&old_stack, nullptr);
    *fault = address;
    return failed;
}

// -- Warps ----------------------------------------------------------------------------------------------------------

void barrier(int line) { wait(AT_BARRIER, "__syncthreads()", line); }

uint64_t exchange(const char* what, int line, unsigned mask, uint64_t value, int source) {
    threads[current].value = value;
    threads[current].source = source;
    wait(AT_WARP, what, line, mask);
    return threads[current].result;
}

int lane() { return current % warpSize; }

int group(int width) {
    if (width < 1 || width > warpSize || width & (width - 1)) fail("a shuffle's width is %d", width);
    return lane() & ~(width - 1);
}

// -- What -fsanitize=undefined calls: our own, so that no runtime library is needed and a launch, not Python, ends ---

struct Location { const char* file; uint32_t line, column; };
#define SIM_UNDEFINED(name, what)                                                                      \
    extern "C" [[noreturn]] __attribute__((used)) void __ubsan_handle_##name##_abort(const Location* at) { \
        fail("line %u, column %u: %s", at->line, at->column, what);                                    \
    }
SIM_UNDEFINED(out_of_bounds, "an index is outside its array")
SIM_UNDEFINED(type_mismatch_v1, "a null or misaligned pointer")
SIM_UNDEFINED(shift_out_of_bounds, "a shift by too many bits")
SIM_UNDEFINED(divrem_overflow, "a division by zero")
SIM_UNDEFINED(add_overflow, "a signed integer overflows")
SIM_UNDEFINED(sub_overflow, "a signed integer overflows")
SIM_UNDEFINED(mul_overflow, "a signed integer overflows")
SIM_UNDEFINED(negate_overflow, "a signed integer overflows")

}  // namespace sim

// -- What Python calls ----------------------------------------------------------------------------------------------

#define SIM_EXPORT extern "C" __attribute__((visibility("default")))

/// The parameters: "*" a pointer, "c" to const, then kind, bytes and vector length.
SIM_EXPORT const char* sim_signature() {
    static char text[1024];
    char* end = text;
    for (int i = 0; i < sim_kernel.count; ++i) {
        const sim::Parameter& p = sim_kernel.parameters[i];
        end += sprintf(end, "%s%s%c%d,%d ", p.pointer ? "*" : "", p.constant ? "c" : "", p.kind, p.bytes, p.lanes);
    }
    return text;
}

SIM_EXPORT int sim_launch(void** args, const unsigned* size, int down, void** fault, const char** message) {
    *message = sim::message;
    return sim::launch(args, size, down, fault);
}

SIM_EXPORT long sim_shared() {
    return sim::__start_sim_block ? sim::__stop_sim_block - sim::__start_sim_block : 0;
}
