// PID 1 from the moment its sandbox is ready: waits for a job to start, reads its pipes into the ring, reaps, keeps the time-out,
// forwards signals.
#include <asm/signal.h>
#include <linux/fcntl.h>
#include <linux/poll.h>
#include <linux/signalfd.h>
#include <linux/time.h>
#include <linux/wait.h>

#include "init.h"

#define PROMPT_DELAY (100 * 1000000LL)  // how long the beginning of a line waits for its end, in nanoseconds
#define KILL_INTERVAL (1000 * 1000000LL)
#define NEVER INT64_MAX

struct stream {
  int fd;           // -1 at its end
  int blocked;      // has something to commit that the ring has no room for
  int64_t flush_at; // CLOCK_MONOTONIC; NEVER while no line has begun
};

static struct joblet_lines buffers[2];

struct supervisor {
  struct init *init;
  struct stream streams[2];
  int reaped;         // the payload's own process has ended
  int status;         // its wait status
  int no_children;    // nobody is left
  int violations;     // the listener of notify.c; -1 once it has told of one
  int64_t timeout_at; // CLOCK_MONOTONIC
  int64_t kill_at;
};

static int is_done(const struct supervisor *state, int i) {
  return state->streams[i].fd < 0 && buffers[i].length == 0;
}

// Commits what can be, and notes whether the ring is in the way. Wakes exec if anything was committed.
static void commit(struct supervisor *state, int i, int flush) {
  struct stream *stream = &state->streams[i];
  uint64_t before = state->init->writer.head;
  int was_blocked = stream->blocked;
  if (stream->fd < 0) flush = 2;
  stream->blocked = joblet_lines_commit(&buffers[i], &state->init->writer, flush) == JOBLET_LINES_BLOCKED;
  if (buffers[i].length == 0) stream->flush_at = NEVER;
  // While the ring was full nobody read the pipe: the rest of the line may well be in it, so the wait starts anew.
  else if (flush || was_blocked) stream->flush_at = now(CLOCK_MONOTONIC) + PROMPT_DELAY;
  if (state->init->writer.head != before) wake_exec(state->init->ring);
}

static void read_stream(struct supervisor *state, int i) {
  struct stream *stream = &state->streams[i];
  struct joblet_lines *lines = &buffers[i];
  uint32_t room = JOBLET_RING_MAX_PAYLOAD - lines->length;
  if (room == 0) return commit(state, i, 0);
  long count = sys(read, stream->fd, lines->bytes + lines->length, room);
  if (count == -EAGAIN || count == -EINTR) return;
  if (count <= 0) {
    sys(close, stream->fd);
    stream->fd = -1;
  } else {
    lines->length += (uint32_t)count;
    lines->time = now(CLOCK_REALTIME);
    // From the line's first byte, not from the last read: a prompt drawn byte by byte shows in time too.
    if (stream->flush_at == NEVER) stream->flush_at = now(CLOCK_MONOTONIC) + PROMPT_DELAY;
  }
  commit(state, i, 0);
}

// Everyone but PID 1. A process that is being born meanwhile can escape one kill (kernels before 6.14), and nothing else would
// end it; so it is repeated until nobody is left.
static void kill_payload(struct supervisor *state) {
  sys(write, JOBLET_FD_PAY_KILL, "1", 1);
  state->kill_at = now(CLOCK_MONOTONIC) + KILL_INTERVAL;
}

// Reaps everyone who has ended: the payload, and the orphans that fell to PID 1.
static void reap(struct supervisor *state) {
  for (;;) {
    int status = 0;
    long pid = sys(wait4, -1, &status, 1 /* WNOHANG */, 0);
    if (pid == -ECHILD) {
      state->no_children = 1;
      state->kill_at = NEVER;
    }
    if (pid <= 0) return;
    if (pid != state->init->payload) continue;
    state->reaped = 1;
    state->status = status;
    // What it left behind would hold the pipes open, and the job's end with them. From now on nothing else can end it.
    kill_payload(state);
  }
}

static void take_signals(struct supervisor *state) {
  struct signalfd_siginfo info;
  // First: a command that has ended by itself was not stopped by what comes now.
  reap(state);
  while (sys(read, state->init->signals, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGCHLD) continue;
    // To the payload's group, as a terminal would. Never after it was reaped: the number may be another's by then.
    if (state->reaped) continue;
    state->init->ring->stop_reached = 1;
    sys(kill, -state->init->payload, info.ssi_signo);
  }
  reap(state);
}

// A time-out from the ring, in nanoseconds, that added to a clock does not overflow; NEVER for none.
static int64_t after(int64_t time, uint64_t duration) {
  if (duration == 0) return NEVER;
  return time + (duration > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)duration);
}

// What the payload's process says: nothing, when its exec (or a kill, which the wait status tells) closes the pipe; else which
// step of the job's plan failed.
static struct failure take_start(struct supervisor *state) {
  struct init *init = state->init;
  struct failure failure = {0};
  long count = sys(read, init->errors, &failure, sizeof failure);
  if (count == -EINTR) return (struct failure){0};
  sys(close, init->errors);
  init->errors = -1;
  if (count == sizeof failure && failure.error != 0) return failure;
  // Without a go it was no exec: somebody killed the process while it waited, and nothing of a job ever ran.
  if (count != 0 || !__atomic_load_n(&init->ring->go, __ATOMIC_ACQUIRE))
    return (struct failure){JOBLET_SETUP_STEP(JOBLET_OP_CLONE_PAYLOAD, 0), count < 0 ? (int)-count : ECHILD};
  init->ring->started_at = now(CLOCK_REALTIME);
  state->timeout_at = after(now(CLOCK_MONOTONIC), init->ring->timeout);
  publish_phase(init->ring, JOBLET_PHASE_RUNNING);
  return (struct failure){0};
}

static void keep_time(struct supervisor *state, int64_t time) {
  if (time >= state->timeout_at) {
    state->timeout_at = NEVER;
    if (!state->reaped) {
      state->init->ring->timed_out = 1;
      uint64_t grace = state->init->ring->grace;
      state->kill_at = grace == 0 ? time : after(time, grace);
      sys(kill, -1, SIGTERM);  // everyone but PID 1
    }
  }
  if (time >= state->kill_at) kill_payload(state);
}

static int64_t next_deadline(const struct supervisor *state) {
  int64_t next = state->timeout_at < state->kill_at ? state->timeout_at : state->kill_at;
  for (int i = 0; i < 2; i++)
    if (!state->streams[i].blocked && state->streams[i].flush_at < next) next = state->streams[i].flush_at;
  return next;
}

// Tells exec that PID 1 sleeps for want of room, and looks once more: between a first look and the flag exec may have made
// room without knowing that anyone waits.
static int still_blocked(struct supervisor *state) {
  __atomic_store_n(&state->init->ring->init_waiting, 1, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  int blocked = 0;
  for (int i = 0; i < 2; i++) {
    if (state->streams[i].blocked) commit(state, i, 0);
    blocked |= state->streams[i].blocked;
  }
  if (!blocked) __atomic_store_n(&state->init->ring->init_waiting, 0, __ATOMIC_RELAXED);
  return blocked;
}

// Sleeps until something happens, and takes it.
static struct failure turn(struct supervisor *state) {
  int blocked = (state->streams[0].blocked || state->streams[1].blocked) && still_blocked(state);
  struct pollfd entries[6] = {
      // Before the exec a signal waits, and reaches the job.
      {.fd = state->init->errors < 0 ? state->init->signals : -1, .events = POLLIN},
      {.fd = blocked ? JOBLET_FD_SPACE : -1, .events = POLLIN},
      [4] = {.fd = state->violations, .events = POLLIN},
      [5] = {.fd = state->init->errors, .events = POLLIN},
  };
  for (int i = 0; i < 2; i++)
    // A stream with no room is not read: the job blocks on its pipe, as it would on any full one.
    entries[2 + i] = (struct pollfd){.fd = state->streams[i].blocked ? -1 : state->streams[i].fd, .events = POLLIN};

  int64_t deadline = next_deadline(state), time = now(CLOCK_MONOTONIC);
  int64_t wait = deadline == NEVER ? NEVER : deadline > time ? deadline - time : 0;
  struct __kernel_timespec timeout = {wait / 1000000000, wait % 1000000000};
  sys(ppoll, entries, 6, wait == NEVER ? 0 : &timeout, 0, 0);

  if (blocked) {
    __atomic_store_n(&state->init->ring->init_waiting, 0, __ATOMIC_RELAXED);
    char drained[256];
    sys(read, JOBLET_FD_SPACE, drained, sizeof drained);
    for (int i = 0; i < 2; i++)
      if (state->streams[i].blocked) commit(state, i, 0);
  }
  // First of all: the job's output, or its end, must not be told of before its start.
  if (entries[5].revents) {
    struct failure failure = take_start(state);
    if (failure.error) return failure;
  }
  // Before anyone is reaped: the job's end must not be told without its cause.
  if (entries[4].revents && take_violation(state->init->ring)) {
    // One is enough: the whole job goes, and nothing in it can go on.
    state->violations = -1;
    kill_payload(state);
  }
  if (entries[0].revents) take_signals(state);
  for (int i = 0; i < 2; i++)
    if (entries[2 + i].revents) read_stream(state, i);
  time = now(CLOCK_MONOTONIC);
  for (int i = 0; i < 2; i++)
    if (!state->streams[i].blocked && time >= state->streams[i].flush_at) commit(state, i, 1);
  keep_time(state, time);
  return (struct failure){0};
}

struct failure supervise(struct init *init) {
  static struct supervisor state;
  state.init = init;
  state.timeout_at = NEVER;
  state.kill_at = NEVER;
  state.violations = violation_listener();
  for (int i = 0; i < 2; i++) {
    state.streams[i] = (struct stream){.fd = init->pipes[i], .flush_at = NEVER};
    buffers[i].stream = i == 0 ? JOBLET_STDOUT : JOBLET_STDERR;
  }
  // The end is announced only when all three hold, so that nothing can come after it.
  while (!(state.reaped && state.no_children && is_done(&state, 0) && is_done(&state, 1))) {
    struct failure failure = turn(&state);
    if (failure.error) return failure;
  }
  int status = state.status;
  if ((status & 0x7F) == 0) publish_end(init->ring, JOBLET_END_EXITED, status >> 8 & 0xFF);
  else publish_end(init->ring, JOBLET_END_SIGNALED, status & 0x7F);
  return (struct failure){0};
}
