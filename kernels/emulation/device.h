// Runs CUDA C++ on the processor: blocks one after the other on each OS thread, a block's threads as fibers.
//
// A fiber runs until a barrier or a warp's collective; the scheduler goes on when all have come. What the hardware
// would let slip is an error: a barrier or collective that some do not reach, that others reach elsewhere, misaligned
// rows. Blocks and their threads are run in the order of EMULATION_ORDER (forward, reverse, shuffled).
// Asynchronous copies arrive when they are waited for; with EMULATION_COPIES=eager at once.
// With EMULATION_THREADS each CUDA thread is an OS thread, for the thread sanitizer.
#pragma once
#ifndef EMULATION_THREADS
#define EMULATION_THREADS 0
#endif
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>
#if !defined(__x86_64__) && !EMULATION_THREADS
#include <ucontext.h>
#endif

struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) float2 { float x, y; };

namespace emulation {

[[noreturn]] inline void die(const char* what, long a = 0, long b = 0) {
    fprintf(stderr, "emulation: %s (%ld, %ld)\n", what, a, b);
    abort();
}

struct Lane;
/// What a warp does together: given the argument of each lane.
using Collective = void (*)(void** arguments);

struct Warp {
    Lane* lanes = nullptr;
    void* arguments[32];
    std::unique_ptr<std::barrier<>> barrier;
};

enum class State { Ready, Barrier, Collective, Done };

struct Copy { void* to; const void* from; int bytes, read; };
/// A product of a warpgroup that was started: where its sums are, and the matrices.
struct Product { float* sums; int columns; unsigned long long a, b; };

struct Lane {
    dim3 index;
    unsigned lane = 0;
    Warp* warp = nullptr;
    State state = State::Ready;
    long site = 0;
    Collective collective = nullptr;
    void* argument = nullptr;
    /// Asynchronous copies that have not arrived, and where each group of them ends.
    std::vector<Copy> copies;
    std::vector<size_t> groups;
    /// Products of a warpgroup that are under way, and where each group of them ends.
    std::vector<Product> products;
    std::vector<size_t> product_groups;
    std::unique_ptr<char[]> stack;
#if defined(__x86_64__)
    void* sp = nullptr;
#elif !EMULATION_THREADS
    ucontext_t context;
#endif
};

struct Block {
    dim3 index, size, grid;
    std::vector<Lane> lanes;
    std::vector<Warp> warps;
    std::function<void()> body;
    unsigned char* shared = nullptr;
    std::unique_ptr<std::barrier<>> barrier;
#if defined(__x86_64__)
    void* scheduler = nullptr;
#elif !EMULATION_THREADS
    ucontext_t scheduler;
#endif
};

#if EMULATION_THREADS
inline Block* the_block;
#else
inline thread_local Block* the_block;
#endif
inline thread_local Lane* the_lane;

// ── fibers ──
#if !EMULATION_THREADS
#if defined(__x86_64__)
extern "C" void emulation_switch(void** save, void* to);
asm(R"(
.text
.globl emulation_switch
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#endif
constexpr size_t STACK = 64 << 10;

inline void leave() {
#if defined(__x86_64__)
    emulation_switch(&the_lane->sp, the_block->scheduler);
#else
    swapcontext(&the_lane->context, &the_block->scheduler);
#endif
}
inline void enter(Lane& lane) {
    the_lane = &lane;
#if defined(__x86_64__)
    emulation_switch(&the_block->scheduler, lane.sp);
#else
    swapcontext(&the_block->scheduler, &lane.context);
#endif
}
inline void fiber() {
    the_block->body();
    the_lane->state = State::Done;
    leave();
    die("a finished thread was run");
}
inline void prepare(Lane& lane) {
    if (!lane.stack) lane.stack.reset(new char[STACK]);
    lane.state = State::Ready;
    lane.copies.clear();
    lane.groups.clear();
#if defined(__x86_64__)
    auto top = (uintptr_t)(lane.stack.get() + STACK) & ~(uintptr_t)63;
    auto* frame = (void**)top;
    *--frame = nullptr;         // keeps the stack aligned as after a call
    *--frame = (void*)fiber;    // where the first switch returns to
    for (int i = 0; i < 6; i++) *--frame = nullptr;
    lane.sp = frame;
#else
    getcontext(&lane.context);
    lane.context.uc_stack.ss_sp = lane.stack.get();
    lane.context.uc_stack.ss_size = STACK;
    lane.context.uc_link = nullptr;
    makecontext(&lane.context, fiber, 0);
#endif
}
#endif

/// __syncthreads.
inline void barrier(long site) {
#if EMULATION_THREADS
    (void)site;
    the_block->barrier->arrive_and_wait();
#else
    the_lane->state = State::Barrier;
    the_lane->site = site;
    leave();
#endif
}

/// Does something with the arguments of all lanes of the warp.
inline void together(Collective what, void* argument, long site) {
#if EMULATION_THREADS
    (void)site;
    Warp& warp = *the_lane->warp;
    warp.arguments[the_lane->lane] = argument;
    warp.barrier->arrive_and_wait();
    if (the_lane->lane == 0) what(warp.arguments);
    warp.barrier->arrive_and_wait();
#else
    the_lane->state = State::Collective;
    the_lane->site = site;
    the_lane->collective = what;
    the_lane->argument = argument;
    leave();
#endif
}

enum class Order { Forward, Reverse, Shuffled };
inline Order order() {
    const char* e = getenv("EMULATION_ORDER");
    return !e ? Order::Forward : e[0] == 'r' ? Order::Reverse : e[0] == 's' ? Order::Shuffled : Order::Forward;
}
inline bool eager_copies() {
    static const bool eager = [] {
        const char* e = getenv("EMULATION_COPIES");
        return e && e[0] == 'e';
    }();
    return eager;
}

#if !EMULATION_THREADS
/// Runs a warp until all its lanes are at a barrier or done.
inline void run_warp(Block& block, Warp& warp, const std::vector<unsigned>& lanes) {
    (void)block;
    for (;;) {
        for (unsigned l : lanes)
            if (warp.lanes[l].state == State::Ready) enter(warp.lanes[l]);
        int collective = 0;
        for (unsigned l = 0; l < 32; l++) collective += warp.lanes[l].state == State::Collective;
        if (!collective) return;
        Lane& first = warp.lanes[0];
        if (collective != 32) die("a collective of a warp is not reached by all lanes: site, lanes", first.site, collective);
        for (unsigned l = 0; l < 32; l++) {
            Lane& lane = warp.lanes[l];
            if (lane.collective != first.collective || lane.site != first.site) die("lanes are at different collectives: sites", first.site, lane.site);
            warp.arguments[l] = lane.argument;
            lane.state = State::Ready;
        }
        first.collective(warp.arguments);
    }
}
#endif

inline void run_block(Block& block) {
    the_block = &block;
#if EMULATION_THREADS
    block.barrier = std::make_unique<std::barrier<>>(block.lanes.size());
    for (auto& warp : block.warps) warp.barrier = std::make_unique<std::barrier<>>(32);
    std::vector<std::thread> threads;
    for (auto& lane : block.lanes) threads.emplace_back([&] { lane.copies.clear(); lane.groups.clear(); the_lane = &lane; block.body(); });
    for (auto& thread : threads) thread.join();
#else
    for (auto& lane : block.lanes) prepare(lane);
    std::vector<unsigned> lanes(32), warps(block.warps.size());
    for (unsigned i = 0; i < 32; i++) lanes[i] = i;
    for (unsigned i = 0; i < warps.size(); i++) warps[i] = i;
    std::mt19937 random(block.index.x * 7919 + block.index.y * 31 + block.index.z);
    const Order by = order();
    if (by == Order::Reverse) { std::reverse(lanes.begin(), lanes.end()); std::reverse(warps.begin(), warps.end()); }
    for (;;) {
        if (by == Order::Shuffled) { std::shuffle(lanes.begin(), lanes.end(), random); std::shuffle(warps.begin(), warps.end(), random); }
        for (unsigned w : warps) run_warp(block, block.warps[w], lanes);
        size_t done = 0;
        long site = 0;
        for (auto& lane : block.lanes) {
            if (lane.state == State::Done) { done++; continue; }
            if (site && site != lane.site) die("threads are at different barriers: lines", site, lane.site);
            site = lane.site;
        }
        if (done == block.lanes.size()) break;
        if (done) die("a barrier that some threads do not reach: line, threads gone", site, (long)done);
        for (auto& lane : block.lanes) lane.state = State::Ready;
    }
#endif
    for (auto& lane : block.lanes)
        if (!lane.products.empty()) die("a thread ends with products that it did not wait for", (long)lane.products.size());
    for (auto& lane : block.lanes)
        if (!lane.copies.empty()) die("a thread ends with copies that it did not wait for", (long)lane.copies.size());
}

/// Runs a kernel.
inline void launch(dim3 grid, dim3 size, size_t shared, const std::function<void()>& body) {
    const unsigned threads = size.x * size.y * size.z;
    if (threads == 0 || threads % 32 || threads > 1024) die("a block has whole warps, at most 32: threads", threads);
    if (shared > (227u << 10)) die("more shared memory than a block can have", (long)shared);
    const size_t blocks = (size_t)grid.x * grid.y * grid.z;
    auto some = [&](size_t first, size_t step) {
        Block block;
        block.size = size;
        block.grid = grid;
        block.body = body;
        block.lanes = std::vector<Lane>(threads);
        block.warps = std::vector<Warp>(threads / 32);
        std::vector<unsigned char> memory(shared + 128);
        block.shared = (unsigned char*)(((uintptr_t)memory.data() + 127) & ~(uintptr_t)127);
        for (unsigned i = 0; i < threads; i++) {
            Lane& lane = block.lanes[i];
            lane.lane = i % 32;
            lane.index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
            lane.warp = &block.warps[i / 32];
            if (i % 32 == 0) lane.warp->lanes = &lane;
        }
        for (size_t i = first; i < blocks; i += step) {
            size_t k = order() == Order::Reverse ? blocks - 1 - i : i;
            block.index = {(unsigned)(k % grid.x), (unsigned)(k / grid.x % grid.y), (unsigned)(k / grid.x / grid.y)};
            // NaN as half, as bfloat16 and as float: nobody may read what nobody wrote.
            memset(memory.data(), 0xff, memory.size());
            run_block(block);
        }
    };
#if EMULATION_THREADS
    some(0, 1);
#else
    const char* limit = getenv("EMULATION_CORES");
    size_t workers = std::min<size_t>(blocks, limit ? atoi(limit) : std::max(1u, std::thread::hardware_concurrency()));
    std::vector<std::thread> pool;
    for (size_t i = 1; i < workers; i++) pool.emplace_back(some, i, workers);
    some(0, std::max<size_t>(workers, 1));
    for (auto& thread : pool) thread.join();
#endif
}

/// Kernels by name.
struct Kernel { size_t argument_bytes; unsigned threads; std::function<void(const void*)> run; };
inline std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}
struct Registered {
    Registered(const char* name, Kernel kernel) { kernels()[name] = std::move(kernel); }
};

}  // namespace emulation
