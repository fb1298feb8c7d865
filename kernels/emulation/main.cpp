// Runs the launches of a file: emulation JOB RESULT.
//
// JOB: u64 count of regions, then of each u64 bytes and its bytes; u64 count of launches, then of each: u64 length of
// the kernel's name, the name; u64 grid x, y, z, threads, bytes of shared memory; u64 length of the argument, the
// argument; u64 count of pointers, of each u64 position in the argument, region, byte offset.
// RESULT: the bytes of all regions, one after the other.
#define EMULATION 1
#include "../all.cu"
#include <chrono>
#include <fstream>

int main(int argc, char** argv) {
    if (argc != 3) emulation::die("expected JOB RESULT");
    std::ifstream in(argv[1], std::ios::binary);
    auto word = [&] { uint64_t v = 0; in.read((char*)&v, 8); return v; };
    auto bytes = [&](uint64_t n) { std::string s(n, '\0'); in.read(s.data(), n); return s; };
    // Each region ends at the end of its allocation, so that the address sanitizer sees what lies beyond.
    std::vector<std::pair<std::unique_ptr<unsigned char, void (*)(void*)>, size_t>> regions;
    for (uint64_t i = 0, n = word(); i < n; i++) {
        size_t size = word();
        void* memory = nullptr;
        if (posix_memalign(&memory, 256, std::max<size_t>(size, 1))) emulation::die("no memory", (long)size);
        regions.emplace_back(std::unique_ptr<unsigned char, void (*)(void*)>((unsigned char*)memory, free), size);
        in.read((char*)regions.back().first.get(), size);
    }
    std::map<std::string, std::pair<int, double>> times;
    for (uint64_t i = 0, n = word(); i < n; i++) {
        std::string name = bytes(word());
        dim3 grid;
        grid.x = word(), grid.y = word(), grid.z = word();
        unsigned threads = word();
        size_t shared = word();
        std::string argument = bytes(word());
        for (uint64_t p = 0, count = word(); p < count; p++) {
            uint64_t at = word(), region = word(), offset = word();
            if (region >= regions.size() || offset > regions[region].second || at + 8 > argument.size()) emulation::die("a pointer is outside its region", (long)region, (long)offset);
            auto* pointer = regions[region].first.get() + offset;
            memcpy(argument.data() + at, &pointer, 8);
        }
        if (!in) emulation::die("the job is cut short");
        auto kernel = emulation::kernels().find(name);
        if (kernel == emulation::kernels().end()) { fprintf(stderr, "emulation: no kernel %s\n", name.c_str()); return 1; }
        if (kernel->second.argument_bytes != argument.size()) {
            fprintf(stderr, "%s: ", name.c_str());
            emulation::die("the argument has another size: kernel, launch", (long)kernel->second.argument_bytes, (long)argument.size());
        }
        if (threads > kernel->second.threads) emulation::die("more threads than the kernel is built for", threads, kernel->second.threads);
        // Pointers need their alignment.
        std::unique_ptr<unsigned char, void (*)(void*)> aligned((unsigned char*)aligned_alloc(64, (argument.size() + 63) / 64 * 64), free);
        memcpy(aligned.get(), argument.data(), argument.size());
        auto start = std::chrono::steady_clock::now();
        emulation::launch(grid, {threads, 1, 1}, shared, [&] { kernel->second.run(aligned.get()); });
        auto& time = times[name];
        time.first++;
        time.second += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    }
    if (getenv("EMULATION_TIMES"))
        for (auto& [name, time] : times) fprintf(stderr, "%-32s %5d launches %10.1f ms\n", name.c_str(), time.first, time.second);
    std::ofstream out(argv[2], std::ios::binary);
    for (auto& [data, size] : regions) out.write((const char*)data.get(), size);
    return out.good() ? 0 : 1;
}
