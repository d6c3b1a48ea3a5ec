// The life of a job's PID 1, from its exec by joblet-exec, before there is a job, to the end of the job.
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/time.h>

#include "init.h"

static struct init the_init = {.pipes = {-1, -1}, .ends = {-1, -1}, .signals = -1, .null = -1, .errors = -1};

void wake_exec(struct joblet_ring_header *ring) {
  // Between what was just published and the look at the flag; see joblet_ring.h for what breaks without it.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  // A full FIFO (EAGAIN) holds a wake-up already.
  if (__atomic_load_n(&ring->exec_waiting, __ATOMIC_RELAXED)) sys(write, JOBLET_FD_DATA, "d", 1);
}

void stamp(struct init *init, enum joblet_trace step) {
  __atomic_store_n(&init->ring->trace[step], now(CLOCK_MONOTONIC), __ATOMIC_RELAXED);
}

void publish_phase(struct joblet_ring_header *ring, enum joblet_phase phase) {
  __atomic_store_n(&ring->phase, phase, __ATOMIC_RELEASE);
  wake_exec(ring);
}

void publish_end(struct joblet_ring_header *ring, enum joblet_end_kind kind, int code) {
  ring->end_kind = kind;
  ring->end_code = code;
  ring->ended_at = now(CLOCK_REALTIME);
  publish_phase(ring, JOBLET_PHASE_ENDED);
}

// PID 1 stays: its end would be the end of every process here, before exec has read why.
static __attribute__((noreturn)) void stay(void) {
  for (;;) sys(ppoll, 0, 0, 0, 0, 0);
}

static __attribute__((noreturn)) void fail(struct init *init, struct failure failure) {
  init->ring->setup_step = failure.step;
  init->ring->setup_errno = failure.error;
  publish_end(init->ring, JOBLET_END_SETUP, 0);
  stay();
}

static void check(struct init *init, struct failure failure) {
  if (failure.error) fail(init, failure);
}

// Maps the ring as joblet_ring.h says: header, data, data again.
static int map_ring(struct init *init) {
  long size = sys(lseek, JOBLET_FD_RING, 0, SEEK_END);
  if (size < JOBLET_RING_HEADER_SIZE) return -EINVAL;
  long data = size - JOBLET_RING_HEADER_SIZE;
  long base = sys(mmap, 0, size + data, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base < 0 && base > -4096) return (int)base;
  long first = sys(mmap, base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, JOBLET_FD_RING, 0);
  long second = sys(mmap, base + size, data, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, JOBLET_FD_RING,
                    JOBLET_RING_HEADER_SIZE);
  if (first != base || second != base + size) return -ENOMEM;
  init->ring = (struct joblet_ring_header *)base;
  return joblet_writer_open(&init->writer, init->ring, (uint8_t *)base + JOBLET_RING_HEADER_SIZE, (uint64_t)data);
}

int map_plan(struct joblet_plan *plan, int fd) {
  long seals = sys(fcntl, fd, 1034 /* F_GET_SEALS */);
  if (seals < 0) return (int)seals;
  // seal, shrink, grow, write: whoever still holds the memfd can't change what is checked below.
  if ((seals & 0xf) != 0xf) return -EPERM;
  long size = sys(lseek, fd, 0, SEEK_END);
  if (size <= 0) return -EINVAL;
  long base = sys(mmap, 0, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (base < 0 && base > -4096) return (int)base;
  return joblet_plan_open(plan, (const void *)base, (uint64_t)size);
}

__attribute__((used, noreturn)) void joblet_init_main(void) {
  struct init *init = &the_init;
  uint64_t all = ~0ull;
  sys(rt_sigprocmask, 0 /* SIG_BLOCK */, &all, 0, 8);
  sys(umask, 0);
  // Without a ring there is nobody to tell: exec sees PID 1 end without a word and says so.
  if (map_ring(init) < 0) {
    static const char help[] = "joblet-init is PID 1 of a job; joblet-exec starts it, with a plan and a ring (joblet_plan.h).\n";
    sys(write, 2, help, sizeof help - 1);
    for (;;) sys(exit_group, 70);
  }
  int error = map_plan(&init->plan, JOBLET_FD_PLAN);
  if (error >= 0 && JOBLET_PLAN_IS_JOB(&init->plan)) error = -EINVAL;
  if (error < 0) fail(init, (struct failure){JOBLET_SETUP_STEP(JOBLET_OP_READ_PLAN, 0), -error});
  stamp(init, JOBLET_TRACE_INIT);

  check(init, build_root(init));
  stamp(init, JOBLET_TRACE_ROOT);
  if (JOBLET_PLAN_IS_TEMPLATE(&init->plan)) {
    // exec takes the mount namespace and ends this process.
    publish_phase(init->ring, JOBLET_PHASE_READY);
    stay();
  }
  check(init, prepare_payload(init));
  check(init, start_payload(init));
  // Before anything of a job is here: no program of a job ever runs beside a PID 1 with the host's rights, and a failure costs a
  // sandbox, not a job that is running already. After the clone: cloning into pay/ takes host root.
  struct failure failure = drop_privileges(init);
  if (!failure.error) failure = payload_prepared(init);
  if (failure.error) {
    sys(write, JOBLET_FD_PAY_KILL, "1", 1);
    fail(init, failure);
  }
  stamp(init, JOBLET_TRACE_READY);
  publish_phase(init->ring, JOBLET_PHASE_READY);
  check(init, supervise(init));
  stay();
}
