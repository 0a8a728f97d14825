#include "core/memory.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/status.h"

namespace engine {

namespace {

// Small blocks are kept by size class, eight per power of two: at most 12.5 % is wasted, and sizes
// that differ a little between steps share blocks.
constexpr size_t kLarge = size_t{256} << 10;

size_t size_class(size_t bytes) {
    if (bytes <= kAlignment) return kAlignment;
    int log2 = 63 - __builtin_clzll(bytes - 1);
    size_t step = size_t{1} << (log2 > 3 ? log2 - 3 : 0);
    if (step < kAlignment) step = kAlignment;
    return (bytes + step - 1) / step * step;
}

constexpr size_t kPage = 4096, kHugePage = size_t{2} << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Large blocks are cut from regions of address space; neighbours that are free grow together again.
// So a training step, whose sizes all differ, holds about as much memory as it has in use at its
// fullest moment; kept by size it held 1.4 times that. Pages become memory when they are first
// written: by two mebibytes where the system can, which makes the first step of a network twice
// as fast; steady state does not change.
class Regions {
  public:
    // Null when the system refuses.
    void* allocate(size_t bytes) {
        auto fit = by_size_.lower_bound({bytes, nullptr});
        if (fit != by_size_.end()) {
            const auto block = blocks_.find(fit->second);
            by_size_.erase(fit);
            return take(block, bytes);
        }
        Region* region = nullptr;
        for (Region& candidate : regions_)
            if (room(candidate) >= bytes) region = &candidate;
        if (!region) region = reserve(bytes);
        if (!region) return nullptr;
        // The free block at the end of what was ever handed out grows into the untouched rest.
        auto last = blocks_.lower_bound(region->top);
        if (last != blocks_.begin() && (--last)->second.free &&
            last->first + last->second.bytes == region->top && last->first >= region->begin) {
            by_size_.erase({last->second.bytes, last->first});
        } else {
            last = blocks_.emplace(region->top, Block{0, 0, true}).first;
        }
        region->top = last->first + bytes;
        last->second.bytes = bytes;
        return take(last, bytes);
    }

    void release(void* data) {
        auto block = blocks_.find(static_cast<char*>(data));
        Block& b = block->second;
        b.free = true;
        poison(block->first, b.bytes, true);
        resident_ += b.bytes;
        b.resident = b.bytes;
        auto next = std::next(block);
        if (next != blocks_.end() && next->second.free && block->first + b.bytes == next->first) {
            by_size_.erase({next->second.bytes, next->first});
            b.bytes += next->second.bytes;
            b.resident += next->second.resident;
            blocks_.erase(next);
        }
        if (block != blocks_.begin()) {
            auto before = std::prev(block);
            if (before->second.free && before->first + before->second.bytes == block->first) {
                by_size_.erase({before->second.bytes, before->first});
                before->second.bytes += b.bytes;
                before->second.resident += b.resident;
                blocks_.erase(block);
                block = before;
            }
        }
        by_size_.emplace(block->second.bytes, block->first);
    }

    // Gives the memory of free blocks back to the system.
    void trim() {
        for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
            Block& b = block->second;
            if (!b.free || !b.resident) continue;
            char* begin = block->first;
            char* end = begin + b.bytes;
            char* first = begin + (round_up(reinterpret_cast<size_t>(begin), kPage) -
                                   reinterpret_cast<size_t>(begin));
            char* last = end - reinterpret_cast<size_t>(end) % kPage;
            if (first < last) madvise(first, static_cast<size_t>(last - first), MADV_DONTNEED);
            resident_ -= b.resident;
            b.resident = 0;
        }
    }

    // Bytes of free blocks that may hold memory.
    size_t resident() const { return resident_; }

  private:
    struct Block {
        size_t bytes;
        size_t resident;  // of a free block: how much of it may hold memory, at most
        bool free;
    };
    struct Region {
        char *begin, *top, *end;  // [begin, top) was handed out before, [top, end) is untouched
    };
    using Blocks = std::map<char*, Block>;

    static size_t room(const Region& region) {
        return static_cast<size_t>(region.end - region.top);
    }

    Region* reserve(size_t bytes) {
        // Address space costs nothing; smaller where it is limited.
        for (size_t size = std::max(size_t{1} << 30, round_up(bytes, kHugePage));;
             size = round_up(bytes, kHugePage)) {
            void* begin = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (begin == MAP_FAILED) {
                if (size == round_up(bytes, kHugePage)) return nullptr;
                continue;
            }
            const auto address = reinterpret_cast<size_t>(begin);
            char* aligned = static_cast<char*>(begin) + (round_up(address, kHugePage) - address);
#ifdef MADV_HUGEPAGE
            madvise(aligned, size, MADV_HUGEPAGE);
#endif
            poison(aligned, size, true);
            regions_.push_back({aligned, aligned, aligned + size});
            return &regions_.back();
        }
    }

    // Hands out the first `bytes` of a block that is in no list; the rest stays free.
    void* take(Blocks::iterator block, size_t bytes) {
        Block& b = block->second;
        const size_t rest = b.bytes - bytes;
        const size_t kept = b.resident > bytes ? b.resident - bytes : 0;
        resident_ -= b.resident - kept;
        if (rest) {
            blocks_.emplace(block->first + bytes, Block{rest, kept, true});
            by_size_.emplace(rest, block->first + bytes);
        }
        b = {bytes, 0, false};
        poison(block->first, bytes, false);
        return block->first;
    }

    // Tells the address sanitizer what nobody may touch.
    static void poison(void* begin, size_t bytes, bool forbidden) {
#ifdef __SANITIZE_ADDRESS__
        if (forbidden)
            __asan_poison_memory_region(begin, bytes);
        else
            __asan_unpoison_memory_region(begin, bytes);
#else
        (void)begin, (void)bytes, (void)forbidden;
#endif
    }

    std::deque<Region> regions_;
    Blocks blocks_;
    std::set<std::pair<size_t, char*>> by_size_;  // of the free blocks
    size_t resident_ = 0;
};

struct Cache {
    std::mutex mutex;
    std::unordered_map<size_t, std::vector<void*>> free_blocks;
    size_t cached_small = 0;
    Regions regions;
    int64_t in_use = 0, peak = 0;
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
    c.cached_small = 0;
    c.regions.trim();
}

// What a request takes: a size class, or for a large one whole cache lines.
size_t taken(size_t bytes) {
    return bytes < kLarge ? size_class(bytes) : round_up(bytes, kAlignment);
}

void* from_system_or_cache(Cache& c, size_t size) {
    if (size >= kLarge) return c.regions.allocate(size);
    std::vector<void*>& blocks = c.free_blocks[size];
    if (blocks.empty()) return std::aligned_alloc(kAlignment, size);
    void* block = blocks.back();
    blocks.pop_back();
    c.cached_small -= size;
    return block;
}

}  // namespace

void* allocate(size_t bytes) {
    const size_t limit = memory_limit();
    Cache& c = cache();
    std::lock_guard<std::mutex> lock(c.mutex);
    const auto in_use = static_cast<size_t>(c.in_use);
    ENGINE_CHECK(bytes <= limit && in_use + bytes <= limit, Kind::memory,
                 "expected to need at most ", limit >> 20,
                 " MiB (this machine's or container's memory), got a request for ", bytes >> 20,
                 " MiB with ", in_use >> 20, " MiB in use: use smaller tensors or a smaller batch");
    const size_t size = taken(bytes);
    if (in_use + c.cached_small + c.regions.resident() + size > limit) free_cached(c);
    void* block = from_system_or_cache(c, size);
    if (!block) {
        free_cached(c);
        block = from_system_or_cache(c, size);
    }
    ENGINE_CHECK(block, Kind::memory, "the system has no ", bytes >> 20, " MiB left");
    c.in_use += static_cast<int64_t>(size);
    if (c.in_use > c.peak) c.peak = c.in_use;
    return block;
}

void release(void* block, size_t bytes) noexcept {
    if (!block) return;
    const size_t size = taken(bytes);
    Cache& c = cache();
    std::lock_guard<std::mutex> lock(c.mutex);
    if (size >= kLarge) {
        c.regions.release(block);
    } else {
        c.free_blocks[size].push_back(block);
        c.cached_small += size;
    }
    c.in_use -= static_cast<int64_t>(size);
}

MemoryStats memory_stats() {
    Cache& c = cache();
    std::lock_guard<std::mutex> lock(c.mutex);
    return {c.in_use, static_cast<int64_t>(c.cached_small + c.regions.resident()), c.peak};
}

void reset_peak() {
    std::lock_guard<std::mutex> lock(cache().mutex);
    cache().peak = cache().in_use;
}

void empty_cache() {
    std::lock_guard<std::mutex> lock(cache().mutex);
    free_cached(cache());
}

}  // namespace engine
