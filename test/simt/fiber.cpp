#include "simt/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#if !defined(__x86_64__)
#error "the emulator switches stacks in x86-64 assembly"
#endif

extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* address, size_t size);
__attribute__((weak)) void* __tsan_get_current_fiber();
__attribute__((weak)) void* __tsan_create_fiber(unsigned flags);
__attribute__((weak)) void __tsan_destroy_fiber(void* fiber);
__attribute__((weak)) void __tsan_switch_to_fiber(void* fiber, unsigned flags);
__attribute__((weak)) void __tsan_acquire(void* address);
__attribute__((weak)) void __tsan_release(void* address);
__attribute__((weak)) void AnnotateIgnoreWritesBegin(const char* file, int line);
__attribute__((weak)) void AnnotateIgnoreWritesEnd(const char* file, int line);

void simt_switch_stack(void** save, void* load);
}

asm(R"(
.text
.globl simt_switch_stack
.type simt_switch_stack, @function
simt_switch_stack:
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
.size simt_switch_stack, .-simt_switch_stack
)");

namespace simt {

namespace {

constexpr size_t kGuard = 4096;
constexpr size_t kStack = 124 * 1024;
constexpr unsigned kNoOrder = 1;  // a switch of fibers orders nothing

Fiber* running = nullptr;
void* host_pointer = nullptr;
void* host_fake_stack = nullptr;
const void* host_bottom = nullptr;
size_t host_size = 0;
void* host_thread = nullptr;
std::vector<char*> spare;

char* take_stack() {
  if (!spare.empty()) {
    char* memory = spare.back();
    spare.pop_back();
    return memory;
  }
  void* memory = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuard, PROT_NONE);
  return static_cast<char*>(memory);
}

}  // namespace

Fiber::Fiber(Entry entry, void* argument) : entry_(entry), argument_(argument), memory_(take_stack()) {
  auto** top = reinterpret_cast<void**>(memory_ + kGuard + kStack) - 1;  // aligned as after a call
  *--top = reinterpret_cast<void*>(&Fiber::start);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
  if (__tsan_create_fiber) thread_ = __tsan_create_fiber(0);
}

Fiber::~Fiber() {
  if (thread_) __tsan_destroy_fiber(thread_);
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(memory_ + kGuard, kStack);
  if (thread_) munmap(memory_, kGuard + kStack);  // a stack that another thread used would look like shared memory
  else spare.push_back(memory_);
}

void Fiber::start() {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, &host_bottom, &host_size);
  Fiber* self = running;
  self->entry_(self->argument_);
  self->ended_ = true;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(nullptr, host_bottom, host_size);
  if (host_thread) __tsan_switch_to_fiber(host_thread, kNoOrder);
  simt_switch_stack(&self->stack_pointer_, host_pointer);
  std::abort();
}

void Fiber::resume() {
  running = this;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&host_fake_stack, memory_ + kGuard, kStack);
  if (thread_) {
    host_thread = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(thread_, kNoOrder);
  }
  simt_switch_stack(&host_pointer, stack_pointer_);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(host_fake_stack, nullptr, nullptr);
  running = nullptr;
}

void Fiber::pause() {
  Fiber* self = running;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&self->sanitizer_stack_, host_bottom, host_size);
  if (host_thread) __tsan_switch_to_fiber(host_thread, kNoOrder);
  simt_switch_stack(&self->stack_pointer_, host_pointer);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(self->sanitizer_stack_, &host_bottom, &host_size);
}

namespace order {

bool watched() { return __tsan_acquire != nullptr; }
void* create() { return watched() ? std::malloc(1) : nullptr; }
void release(void* place) { if (place) __tsan_release(place); }
void acquire(void* place) { if (place) __tsan_acquire(place); }
void destroy(void* place) { std::free(place); }

Quiet::Quiet() { if (AnnotateIgnoreWritesBegin) AnnotateIgnoreWritesBegin(__FILE__, __LINE__); }
Quiet::~Quiet() { if (AnnotateIgnoreWritesEnd) AnnotateIgnoreWritesEnd(__FILE__, __LINE__); }

void as_engine(void* from, void* to, void (*work)(void*), void* argument) {
  if (!watched()) return work(argument);
  void* caller = __tsan_get_current_fiber();
  void* engine = __tsan_create_fiber(0);
  __tsan_switch_to_fiber(engine, kNoOrder);
  acquire(from);
  work(argument);
  release(to);
  __tsan_switch_to_fiber(caller, kNoOrder);
  __tsan_destroy_fiber(engine);
}

}  // namespace order

}  // namespace simt
