// How threads wait for each other: meetings of a warp's lanes, barriers of a block.
#include "simt/machine_state.h"

namespace simt {

void finish_barrier(Barrier& barrier) {
  ++counters().barriers;
  for (Thread* thread : barrier.waiting) launched->block->set(thread, Thread::ready);
  barrier = Barrier();
}

void meet_warp(uint32_t mask, Site site, void* argument, WarpRun run, bool ordered) {
  Thread* thread = self();
  Block& block = *thread->block;
  const unsigned lane = thread->place.lane, warp = thread->place.warp;
  if (!(mask >> lane & 1)) fail("the mask does not name the calling lane", site);
  if (mask & ~block.alive[warp]) fail("the mask names a lane that has ended or never was", site);
  std::vector<Meeting>& open = block.meetings[warp];
  Meeting all;
  {
    const order::Quiet quiet;
    size_t at = 0;
    for (; at < open.size(); ++at) {
      const Meeting& other = open[at];
      if (other.mask == mask && same(other.site, site) && !(other.arrived >> lane & 1)) break;
      if ((other.mask >> lane & 1) && (mask & other.arrived))  // each waits for the other
        fail("divergent collective: others of this warp are in " + text(other.site), site);
    }
    if (at == open.size()) open.push_back({mask, 0, site, {}, {}, ordered ? new_fence() : nullptr});
    Meeting& meeting = open[at];
    meeting.arrived |= 1u << lane;
    meeting.of_lane[lane] = argument;
    meeting.thread[lane] = thread;
    all = meeting;
    if (all.arrived == mask) open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
  }
  order::release(all.fence);
  if (all.arrived != mask) {
    pause(Thread::waiting, site);
  } else {
    ++counters().warp_collectives;
    if (run) {  // for all of them: after what they did, and before what they do next
      order::acquire(all.fence);
      run(all.of_lane, mask);
      order::release(all.fence);
    }
    for (int i = 0; i < 32; ++i)
      if ((mask >> i & 1) && all.thread[i] != thread) block.set(all.thread[i], Thread::ready);
    preempt();
  }
  order::acquire(all.fence);
}

namespace {

void sync(int id, int count, bool wait, Site site) {
  const order::Quiet quiet;
  Thread* thread = self();
  Block& block = *thread->block;
  Barrier& barrier = block.barriers[id];
  if (!barrier.arrived) {
    barrier.count = count;
    barrier.site = site;
    barrier.fence = new_fence();
  } else if (barrier.count != count) {
    fail("others came to this barrier with another number of threads, in " + text(barrier.site), site);
  } else if (count == 0 && !same(barrier.site, site)) {
    fail("divergent barrier: others of this block are in " + text(barrier.site), site);
  }
  void* fence = barrier.fence;
  order::release(fence);
  const bool last = ++barrier.arrived >= (count ? count : block.running);
  if (last) {
    finish_barrier(barrier);
    preempt();
  } else if (wait) {
    barrier.waiting.push_back(thread);
    pause(Thread::waiting, site);
  }
  if (wait) order::acquire(fence);
}

}  // namespace

void sync_block(Site site) { sync(0, 0, true, site); }

void sync_named(int id, int count, bool wait, Site site) {
  if (id < 1 || id >= kBarriers) fail("named barriers are 1 to 15", site);
  if (count <= 0 || count % 32) fail("the threads of a named barrier must be a multiple of 32", site);
  sync(id, count, wait, site);
}

}  // namespace simt
