#include "core/memory.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/status.h"

namespace engine {

namespace {

// Eight size classes per power of two: at most 12.5 % is wasted, and sizes that differ a little
// between steps (the last batch of an epoch) share blocks.
size_t size_class(size_t bytes) {
    if (bytes <= kAlignment) return kAlignment;
    int log2 = 63 - __builtin_clzll(bytes - 1);
    size_t step = size_t{1} << (log2 > 3 ? log2 - 3 : 0);
    if (step < kAlignment) step = kAlignment;
    return (bytes + step - 1) / step * step;
}

struct Cache {
    std::mutex mutex;
    std::unordered_map<size_t, std::vector<void*>> free_blocks;
    MemoryStats stats{0, 0, 0};
};

// Never destroyed: arrays held by Python objects are released after static destructors have run.
Cache& cache() {
    static Cache* instance = [] {
        auto* made = new Cache;
        // A fork must not copy a locked mutex into the child.
        pthread_atfork([] { cache().mutex.lock(); }, [] { cache().mutex.unlock(); },
                       [] { cache().mutex.unlock(); });
        return made;
    }();
    return *instance;
}

// A number from a file of one line, `otherwise` when there is none ("max").
size_t read_number(const std::string& path, size_t otherwise) {
    std::ifstream file(path);
    unsigned long long number = 0;
    return file >> number ? static_cast<size_t>(number) : otherwise;
}

// What the machine has, or less where a control group sets a limit.
size_t memory_limit() {
    static const size_t bytes = [] {
        size_t limit = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) *
                       static_cast<size_t>(sysconf(_SC_PAGESIZE));
        limit = std::min(limit, read_number("/sys/fs/cgroup/memory.max", limit));
        std::ifstream groups("/proc/self/cgroup");
        for (std::string line; std::getline(groups, line);) {
            const size_t path = line.rfind(':') + 1;
            if (line.compare(0, 3, "0::") == 0)
                limit = std::min(
                    limit,
                    read_number("/sys/fs/cgroup" + line.substr(path) + "/memory.max", limit));
            else if (line.find(":memory:") != std::string::npos)
                limit = std::min(limit, read_number("/sys/fs/cgroup/memory" + line.substr(path) +
                                                        "/memory.limit_in_bytes",
                                                    limit));
        }
        return limit;
    }();
    return bytes;
}

void free_cached(Cache& c) {
    for (auto& [size, blocks] : c.free_blocks)
        for (void* block : blocks) std::free(block);
    c.free_blocks.clear();
    c.stats.cached = 0;
}

}  // namespace

void* allocate(size_t bytes) {
    ENGINE_CHECK(bytes <= memory_limit(), Kind::memory, "expected to need at most ",
                 memory_limit() >> 20,
                 " MiB (this machine's or container's memory), got a request for ", bytes >> 20,
                 " MiB: use smaller tensors or a smaller batch");
    const size_t size = size_class(bytes);
    Cache& c = cache();
    std::lock_guard<std::mutex> lock(c.mutex);
    void* block = nullptr;
    auto found = c.free_blocks.find(size);
    if (found != c.free_blocks.end() && !found->second.empty()) {
        block = found->second.back();
        found->second.pop_back();
        c.stats.cached -= static_cast<int64_t>(size);
    } else {
        block = std::aligned_alloc(kAlignment, size);
        if (!block) {
            free_cached(c);
            block = std::aligned_alloc(kAlignment, size);
        }
        ENGINE_CHECK(block, Kind::memory, "the system has no ", bytes >> 20, " MiB left");
    }
    c.stats.in_use += static_cast<int64_t>(size);
    if (c.stats.in_use > c.stats.peak) c.stats.peak = c.stats.in_use;
    return block;
}

void release(void* block, size_t bytes) noexcept {
    if (!block) return;
    const size_t size = size_class(bytes);
    Cache& c = cache();
    std::lock_guard<std::mutex> lock(c.mutex);
    c.free_blocks[size].push_back(block);
    c.stats.in_use -= static_cast<int64_t>(size);
    c.stats.cached += static_cast<int64_t>(size);
}

MemoryStats memory_stats() {
    std::lock_guard<std::mutex> lock(cache().mutex);
    return cache().stats;
}

void reset_peak() {
    std::lock_guard<std::mutex> lock(cache().mutex);
    cache().stats.peak = cache().stats.in_use;
}

void empty_cache() {
    std::lock_guard<std::mutex> lock(cache().mutex);
    free_cached(cache());
}

}  // namespace engine
