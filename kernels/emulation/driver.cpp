// A `libcuda.so` that has no GPU: what the program asks of a driver, with the kernels run by the emulation.
//
// For tests of what is around the kernels: streams, recorded graphs, memory that ends, calls that fail, several GPUs. Work
// of a stream is done in order by a thread of its own, so that what is started is not done, as on a GPU; memory of the
// "GPU" is full of NaN at first. Has the functions that `infer/cuda` calls, and no others.
//
//   EMULATION_GPUS=2              how many there are, default 1
//   EMULATION_MEMORY=BYTES        memory of each
//   EMULATION_FAILS=GPU:N         the N-th launch on this GPU fails, and from then on everything there
//   EMULATION_OLD=GPU             compute capability 7.5 of this one, else 9.0
//   EMULATION_NO_GRAPHS=1         there is no memory for recorded graphs
//   EMULATION_LOG=FILE            a line per call and per piece of work: see `note`
#define EMULATION 1
#include "../all.cu"
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <utility>

namespace {

enum Result { OK = 0, OUT_OF_MEMORY = 2, NOT_FOUND = 500, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900 };

long setting(const char* name, long otherwise) {
    const char* value = getenv(name);
    return value ? atol(value) : otherwise;
}

std::mutex all;
using Clock = std::chrono::steady_clock;
const Clock::time_point start = Clock::now();

/// WHAT GPU STREAM BYTES FROM_MICROS TO_MICROS DETAIL
void note(const char* what, long gpu, long stream, long bytes, Clock::time_point from, const char* detail = "-") {
    static FILE* log = [] {
        const char* name = getenv("EMULATION_LOG");
        return name ? fopen(name, "a") : nullptr;
    }();
    if (!log) return;
    static std::mutex one;
    std::lock_guard lock(one);
    auto micros = [](Clock::time_point t) { return (long)std::chrono::duration_cast<std::chrono::microseconds>(t - start).count(); };
    fprintf(log, "%s %ld %ld %ld %ld %ld %s\n", what, gpu, stream, bytes, micros(from), micros(Clock::now()), detail);
    fflush(log);
}

struct Gpu {
    int number;
    long used = 0, launches = 0;
    std::atomic<bool> broken = false;
};
std::map<int, Gpu>& gpus() {
    static std::map<int, Gpu> them;
    return them;
}
Gpu& gpu(int number) {
    std::lock_guard lock(all);
    auto& it = gpus()[number];
    it.number = number;
    return it;
}
thread_local Gpu* current = nullptr;

std::map<void*, std::pair<Gpu*, long>> allocated;
std::map<char*, size_t> pinned;

bool is_pinned(const void* p, size_t bytes) {
    std::lock_guard lock(all);
    auto it = pinned.upper_bound((char*)p);
    if (it == pinned.begin()) return false;
    --it;
    return (char*)p + bytes <= it->first + it->second;
}

struct Work {
    const char* what;
    long bytes;
    std::string detail;
    std::function<void(Gpu&)> run;
};
using Graph = std::vector<Work>;

struct Stream {
    Gpu& gpu;
    long number;
    std::deque<Work> queue;
    std::mutex mutex;
    std::condition_variable changed;
    bool busy = false, gone = false;
    Graph* capture = nullptr;
    std::thread worker;

    Stream(Gpu& gpu, long number) : gpu(gpu), number(number), worker([this] { loop(); }) {}
    void loop() {
        for (;;) {
            std::unique_lock lock(mutex);
            changed.wait(lock, [&] { return gone || !queue.empty(); });
            if (queue.empty()) return;
            Work work = std::move(queue.front());
            queue.pop_front();
            busy = true;
            lock.unlock();
            auto from = Clock::now();
            if (!gpu.broken) work.run(gpu);
            note(work.what, gpu.number, number, work.bytes, from, work.detail.c_str());
            lock.lock();
            busy = false;
            changed.notify_all();
        }
    }
    int add(Work work) {
        if (gpu.broken) return LAUNCH_FAILED;
        if (capture) {
            capture->push_back(std::move(work));
            return OK;
        }
        std::lock_guard lock(mutex);
        queue.push_back(std::move(work));
        changed.notify_all();
        return OK;
    }
    int wait() {
        if (capture) return CAPTURE_UNSUPPORTED;
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return queue.empty() && !busy; });
        return gpu.broken ? LAUNCH_FAILED : OK;
    }
};

/// A launch, which may be the one that fails.
void launch(Gpu& gpu, const emulation::Kernel& kernel, dim3 grid, unsigned threads, size_t shared, const std::string& argument) {
    static const char* fails = getenv("EMULATION_FAILS");
    long which;
    {
        std::lock_guard lock(all);
        which = ++gpu.launches;
    }
    if (fails && atoi(fails) == gpu.number && which >= atol(strchr(fails, ':') + 1)) {
        gpu.broken = true;
        return;
    }
    std::unique_ptr<unsigned char, void (*)(void*)> aligned((unsigned char*)aligned_alloc(64, (argument.size() + 63) / 64 * 64), free);
    memcpy(aligned.get(), argument.data(), argument.size());
    emulation::launch(grid, {threads, 1, 1}, shared, [&] { kernel.run(aligned.get()); });
}

}  // namespace

extern "C" {
using Address = unsigned long long;

int cuInit(unsigned) { return OK; }
int cuDeviceGetCount(int* count) { return *count = (int)setting("EMULATION_GPUS", 1), OK; }
int cuDeviceGet(int* device, int number) { return *device = number, OK; }
int cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "an emulation, no GPU"), OK; }
int cuDeviceGetAttribute(int* value, int which, int device) {
    const bool is_old = setting("EMULATION_OLD", -1) == device;
    switch (which) {
        case 75: *value = is_old ? 7 : 9; break;  // compute capability
        case 76: *value = is_old ? 5 : 0; break;
        case 38: *value = 50 << 20; break;   // bytes of the second-level cache
        case 16: *value = 132; break;        // multiprocessors
        default: emulation::die("an attribute that nobody emulates", which);
    }
    return OK;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = setting("EMULATION_MEMORY", 1l << 40), OK; }
int cuDevicePrimaryCtxRetain(void** context, int device) { return *context = &gpu(device), OK; }
int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
int cuCtxSetCurrent(void* context) { return current = (Gpu*)context, OK; }
int cuGetErrorString(int error, const char** text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == LAUNCH_FAILED ? "unspecified launch failure" : "an error of the emulation";
    return OK;
}
int cuGetErrorName(int error, const char** text) { return cuGetErrorString(error, text); }

int cuModuleLoadData(void** module, const void*) { return *module = current, OK; }
int cuModuleUnload(void*) { return OK; }
int cuModuleGetFunction(void** function, void*, const char* name) {
    auto kernel = emulation::kernels().find(name);
    if (kernel == emulation::kernels().end()) return NOT_FOUND;
    return *function = &*kernel, OK;
}
int cuFuncSetAttribute(void*, int, int) { return OK; }

int cuMemAlloc_v2(Address* address, size_t bytes) {
    if (current->broken) return LAUNCH_FAILED;
    static const long most = setting("EMULATION_MEMORY", 1l << 40);
    std::lock_guard lock(all);
    auto from = Clock::now();
    if (current->used + (long)bytes > most) return note("refused", current->number, -1, bytes, from), OUT_OF_MEMORY;
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes)) return OUT_OF_MEMORY;
    memset(memory, 0xff, bytes);
    current->used += bytes;
    allocated[memory] = {current, (long)bytes};
    note("allocate", current->number, -1, bytes, from);
    return *address = (Address)memory, OK;
}
int cuMemFree_v2(Address address) {
    std::lock_guard lock(all);
    auto it = allocated.find((void*)address);
    if (it == allocated.end()) emulation::die("memory is freed that nobody has");
    it->second.first->used -= it->second.second;
    note("free", it->second.first->number, -1, it->second.second, Clock::now());
    free(it->first);
    allocated.erase(it);
    return OK;
}
int cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    if (posix_memalign(memory, 4096, bytes)) return OUT_OF_MEMORY;
    std::lock_guard lock(all);
    pinned[(char*)*memory] = bytes;
    return OK;
}
int cuMemFreeHost(void* memory) {
    std::lock_guard lock(all);
    pinned.erase((char*)memory);
    return free(memory), OK;
}
int cuMemsetD8Async(Address to, unsigned char value, size_t bytes, Stream* stream) {
    return stream->add({"set", (long)bytes, "-", [=](Gpu&) { memset((void*)to, value, bytes); }});
}
int cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) { return memcpy((void*)to, from, bytes), current->broken ? LAUNCH_FAILED : OK; }
int cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) { return memcpy(to, (void*)from, bytes), current->broken ? LAUNCH_FAILED : OK; }
int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, Stream* stream) {
    return stream->add({is_pinned(from, bytes) ? "upload" : "upload_pageable", (long)bytes, "-", [=](Gpu&) { memcpy((void*)to, from, bytes); }});
}
int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, Stream* stream) {
    return stream->add({is_pinned(to, bytes) ? "download" : "download_pageable", (long)bytes, "-", [=](Gpu&) { memcpy(to, (void*)from, bytes); }});
}

int cuStreamCreate(Stream** stream, unsigned flags) {
    static std::atomic<long> count = 0;
    if (flags != 1) emulation::die("a stream that waits for others");
    return *stream = new Stream(*current, count++), OK;
}
int cuStreamSynchronize(Stream* stream) { return stream->wait(); }
int cuStreamDestroy_v2(Stream* stream) {
    {
        std::lock_guard lock(stream->mutex);
        stream->gone = true;
        stream->changed.notify_all();
    }
    stream->worker.join();
    delete stream;
    return OK;
}
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned, unsigned shared, Stream* stream, void** parameters, void**) {
    auto* kernel = (std::pair<const std::string, emulation::Kernel>*)function;
    if (threads > kernel->second.threads) emulation::die("more threads than the kernel is built for", threads, kernel->second.threads);
    std::string argument((const char*)parameters[0], kernel->second.argument_bytes);
    dim3 grid;
    grid.x = x, grid.y = y, grid.z = z;
    return stream->add({"launch", 0, kernel->first, [=](Gpu& gpu) { launch(gpu, kernel->second, grid, threads, shared, argument); }});
}

int cuStreamBeginCapture_v2(Stream* stream, int) { return stream->capture = new Graph, stream->gpu.broken ? LAUNCH_FAILED : OK; }
int cuStreamEndCapture(Stream* stream, Graph** graph) { return *graph = std::exchange(stream->capture, nullptr), OK; }
int cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
    if (setting("EMULATION_NO_GRAPHS", 0)) return note("refused", current->number, -1, 0, Clock::now()), OUT_OF_MEMORY;
    note("record", current->number, -1, (long)graph->size(), Clock::now());
    return *executable = new Graph(*graph), OK;
}
int cuGraphDestroy(Graph* graph) { return delete graph, OK; }
int cuGraphExecDestroy(Graph* graph) { return delete graph, OK; }
int cuGraphLaunch(Graph* graph, Stream* stream) {
    note("replay", stream->gpu.number, stream->number, (long)graph->size(), Clock::now());
    for (const Work& work : *graph)
        if (int error = stream->add(work)) return error;
    return OK;
}
}
