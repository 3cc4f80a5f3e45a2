// A pool for the large blocks of CPU tensors.
//
// A training step allocates and frees tens of thousands of large blocks of some dozen sizes.
// glibc's heap is fast, but leaves holes of the wrong sizes in memory: half a gibibyte at the peak
// of a step. Blocks that are mapped one by one leave no holes, but every page is cleared again each
// time, which costs a tenth of the step. Here a freed block waits for the next request of its size.
// The total size of waiting blocks is bounded, and the block that has waited longest is returned to
// the system.
//
// Called from src/memory.rs. Small blocks come from the heap, as before.

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>

namespace {

// Smaller blocks come from the heap.
constexpr size_t kSmallest = size_t{1} << 20;
// Sizes are rounded up to this, so that nearly equal requests share blocks.
constexpr size_t kGrain = size_t{1} << 16;
// From this size on the system is asked for pages of 2 MiB, which are cleared at once.
constexpr size_t kHuge = size_t{4} << 20;

class Pool final : public c10::Allocator {
 public:
  explicit Pool(size_t slack) : slack_(slack) {}

  c10::DataPtr allocate(size_t bytes) override {
    void* block = bytes < kSmallest ? c10::alloc_cpu(bytes) : take((bytes + kGrain - 1) / kGrain * kGrain);
    return {block, block, &give_back, c10::Device(c10::DeviceType::CPU)};
  }

  // The same deleter for blocks of both kinds, because kernels of oneDNN require one.
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }

  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  struct Waiting {
    void* block;
    size_t bytes;
  };
  using Queue = std::list<Waiting>;

  static void give_back(void* block);

  void* take(size_t bytes) {
    Queue leaving;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      // A block that is a little larger will do.
      auto found = by_size_.lower_bound(bytes);
      if (found != by_size_.end() && found->first <= bytes + bytes / 8) {
        void* block = found->second->block;
        waiting_ -= found->first;
        in_use_ += found->first;
        most_in_use_ = std::max(most_in_use_, in_use_);
        queue_.erase(found->second);
        by_size_.erase(found);
        return block;
      }
      in_use_ += bytes;
      most_in_use_ = std::max(most_in_use_, in_use_);
      while (!queue_.empty() && in_use_ + waiting_ > most_in_use_ + slack_) leave(leaving);
    }
    for (const auto& own : leaving) munmap(own.block, own.bytes);
    void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) throw std::bad_alloc();
    if (bytes >= kHuge) madvise(block, bytes, MADV_HUGEPAGE);
    std::lock_guard<std::mutex> lock(mutex_);
    sizes_[block] = bytes;
    return block;
  }

  // Keeps a block for later; false for a block that is not from the pool.
  bool wait(void* block) {
    // The pool's blocks begin at a page; few of the heap's do.
    if (reinterpret_cast<uintptr_t>(block) % 4096 != 0) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    auto known = sizes_.find(block);
    if (known == sizes_.end()) return false;
    queue_.push_back({block, known->second});
    by_size_.emplace(known->second, std::prev(queue_.end()));
    in_use_ -= known->second;
    waiting_ += known->second;
    return true;
  }

  // Moves the block that has waited longest to those that go back to the system.
  void leave(Queue& leaving) {
    auto oldest = queue_.begin();
    auto range = by_size_.equal_range(oldest->bytes);
    for (auto entry = range.first; entry != range.second; ++entry) {
      if (entry->second == oldest) {
        by_size_.erase(entry);
        break;
      }
    }
    waiting_ -= oldest->bytes;
    sizes_.erase(oldest->block);
    leaving.splice(leaving.end(), queue_, oldest);
  }

  std::mutex mutex_;
  std::unordered_map<void*, size_t> sizes_;
  // Oldest first, and by size.
  Queue queue_;
  std::multimap<size_t, Queue::iterator> by_size_;
  // Bytes.
  size_t slack_;
  size_t in_use_ = 0;
  size_t waiting_ = 0;
  size_t most_in_use_ = 0;
};

// For the life of the process: tensors outlive everything else.
Pool* pool = nullptr;

void Pool::give_back(void* block) {
  if (!pool->wait(block)) c10::free_cpu(block);
}

}  // namespace

// Puts the pool in front of the process' allocator of CPU tensors; `slack`: bytes. Does nothing the
// second time.
extern "C" void medst_pool_install(uint64_t slack) {
  static std::once_flag once;
  std::call_once(once, [slack] {
    pool = new Pool(slack);
    c10::SetCPUAllocator(pool, /*priority=*/100);
  });
}
