// The ring: how a job's output and its end travel from joblet-init to joblet-exec, in shared memory.
//
// One file a job, /run/joblet/jobs/<id>/ring: one header page, then `data_size` bytes (a power of two). joblet-init is the
// only producer, joblet-exec the only consumer. Both map the data twice in a row, so that an entry never wraps for a reader.
// The file outlives both programs: a restarted exec maps it again and goes on at `acked`.
//
// Offsets count bytes since the job's start and never wrap; an entry stands at `offset & (data_size - 1)`, 8-byte aligned.
// Each side writes only its own cache lines: every group below is 64 bytes long, kept so by padding and not by alignment
// attributes, which Swift can't import. joblet-exec trusts nothing it reads here: offsets, lengths, seq and counts are
// checked, and a ring that lies ends its job.
#pragma once
#include <stdint.h>

#define JOBLET_RING_MAGIC 0x31474e52544c424aULL  // "JBLTRNG1" read as little-endian bytes
#define JOBLET_RING_HEADER_SIZE 4096
#define JOBLET_RING_MAX_PAYLOAD 65536u

enum joblet_stream { JOBLET_STDOUT = 1, JOBLET_STDERR = 2 };

enum joblet_entry_flags { JOBLET_ENTRY_PARTIAL = 1 };

// An entry: this header, the payload, and padding to 8 bytes.
struct joblet_ring_entry {
  uint32_t length;     // of the payload, 1 to JOBLET_RING_MAX_PAYLOAD
  uint32_t count;      // records in it: its newlines, or 1 with JOBLET_ENTRY_PARTIAL
  uint64_t first_seq;  // of its first record
  int64_t time;        // CLOCK_REALTIME in nanoseconds when the bytes were read
  uint8_t stream;      // enum joblet_stream
  uint8_t flags;       // enum joblet_entry_flags
  uint8_t reserved[6];
};

// How far the job has come; joblet-init only ever raises it.
enum joblet_phase {
  JOBLET_PHASE_NEW = 0,      // the sandbox's plan is being applied
  JOBLET_PHASE_READY = 1,    // everything is prepared, privileges are given up; waiting for a job's plan and exec's go
  JOBLET_PHASE_RUNNING = 2,  // the payload's execve succeeded; started_at is set
  JOBLET_PHASE_ENDED = 3,    // both pipes are at EOF, the status was reaped, everything is committed
};

enum joblet_end_kind {
  JOBLET_END_NONE = 0,
  JOBLET_END_EXITED = 1,    // code is the exit code
  JOBLET_END_SIGNALED = 2,  // code is the signal's number
  JOBLET_END_SETUP = 3,     // never ran: step and error_number say why
};

// When the steps of a start were done: CLOCK_MONOTONIC in nanoseconds, 0 where one has not been. For finding out where the time
// goes; nothing is decided by them but how much of its time-out a job has left when exec is restarted.
enum joblet_trace {
  JOBLET_TRACE_INIT = 0,      // joblet-init runs, its ring and plan are mapped
  JOBLET_TRACE_ROOT = 1,      // the job's root is built
  JOBLET_TRACE_READY = 2,     // everything is prepared
  JOBLET_TRACE_GO = 3,        // the payload's process saw the go
  JOBLET_TRACE_CLONED = 4,    // the payload's process is there
  JOBLET_TRACE_CONFINED = 5,  // it has given up its privileges and loaded the node's filter
  JOBLET_TRACE_EXEC = 6,      // it calls execve
  JOBLET_TRACE_COUNT = 8,
};

struct joblet_ring_header {
  // Written once by joblet-exec before the clone.
  uint64_t magic;
  uint64_t data_size;
  uint64_t max_records;  // joblet-init stops reading while next_seq - 1 - acked_seq would pass this
  uint8_t pad0[40];

  // Written by joblet-init. `reserved` is raised before bytes are written, `head` after: a reader that copied an entry at
  // offset X has true bytes if `reserved - X <= data_size` still holds after the copy.
  uint64_t reserved;
  uint64_t head;
  uint64_t next_seq;      // the seq of the next record, 1 at first; published with head
  uint32_t init_waiting;  // 1 while joblet-init sleeps for want of space: exec then writes a byte to the space FIFO
  uint32_t pad1;
  // How long the job may run from its exec, and from SIGTERM to cgroup.kill, in nanoseconds; 0: for ever. The payload's process
  // puts them here from the job's plan, for joblet-init can't read that one any more.
  uint64_t timeout;
  uint64_t grace;
  uint32_t pad1b[4];

  // Written by joblet-init: the job's life and end. Valid as `phase` says (release / acquire).
  uint32_t phase;     // enum joblet_phase
  uint32_t end_kind;               // enum joblet_end_kind
  int32_t end_code;
  uint32_t timed_out;              // 1 if joblet-init's own timer ended the job
  int64_t started_at;              // CLOCK_REALTIME in nanoseconds
  int64_t ended_at;
  uint32_t setup_step;             // JOBLET_SETUP_STEP of joblet_plan.h: the op that failed, and its index in the plan
  int32_t setup_errno;
  uint32_t payload_pid;            // as seen from joblet-init's pid namespace
  uint32_t violation;              // 1 if a process made a call that is never legitimate, and the job was ended for it
  int32_t violation_call;          // the call's number; -1 if its caller was gone before it could be asked
  uint32_t violation_arch;         // AUDIT_ARCH_* of the number
  uint32_t pad2;
  uint32_t stop_reached;           // 1 if a signal was passed on to the payload before it was reaped

  // Written by joblet-exec. Everything before `acked` is on disk; joblet-init may overwrite it.
  uint64_t acked;
  uint64_t acked_seq;
  uint32_t exec_waiting;  // 1 while exec sleeps: joblet-init then writes a byte to the data FIFO
  uint32_t go;            // 1: start the payload (the job's `started` record is safe)
  uint32_t stop_intent;   // 1: a client asked to stop; written before the signal is sent
  uint32_t pad3[9];

  // Written by joblet-init and the payload's process until its exec.
  int64_t trace[JOBLET_TRACE_COUNT];

  uint8_t rest[JOBLET_RING_HEADER_SIZE - 64 * 5];
};

// The exec side of the protocol, so that the memory order is written down once.
//
// Sleeping without losing a wake-up, the same on both sides: raise the own `*_waiting`, fence, look once more, and only then
// poll the FIFO; the other side publishes, fences, and looks at `*_waiting`. Both fences are sequentially consistent: with
// anything weaker each side's store may still be in its store buffer while it reads the other's old value, and both sleep.

// Everything below the returned offset is committed and may be read. `next_seq` read after it is at least as new.
static inline uint64_t joblet_ring_head(const struct joblet_ring_header *ring) {
  return __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
}

static inline uint64_t joblet_ring_next_seq(const struct joblet_ring_header *ring) {
  return __atomic_load_n(&ring->next_seq, __ATOMIC_ACQUIRE);
}

// After a copy of the entry at `offset`: true if joblet-init had not begun to overwrite it. The fence keeps the copy's loads
// before the load of `reserved`; without it a torn copy could pass for a whole one.
static inline int joblet_ring_copy_is_true(const struct joblet_ring_header *ring, uint64_t offset, uint64_t data_size) {
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  return __atomic_load_n(&ring->reserved, __ATOMIC_RELAXED) - offset <= data_size;
}

// enum joblet_phase. The fields a phase vouches for may be read after it.
static inline uint32_t joblet_ring_phase(const struct joblet_ring_header *ring) {
  return __atomic_load_n(&ring->phase, __ATOMIC_ACQUIRE);
}

// Gives joblet-init the space below `offset` back. Returns 1 if it sleeps for space: write a byte to the space FIFO then.
// The seq goes first: joblet-init reads the offset with acquire, so it never sees new space with an old count.
static inline int joblet_ring_acknowledge(struct joblet_ring_header *ring, uint64_t offset, uint64_t seq) {
  __atomic_store_n(&ring->acked_seq, seq, __ATOMIC_RELEASE);
  __atomic_store_n(&ring->acked, offset, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return __atomic_load_n(&ring->init_waiting, __ATOMIC_RELAXED) != 0;
}

// Call before sleeping, then look at head and phase once more. Call with 0 when awake again.
static inline void joblet_ring_set_exec_waiting(struct joblet_ring_header *ring, uint32_t waiting) {
  __atomic_store_n(&ring->exec_waiting, waiting, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

// Lets the payload start; write a byte to the space FIFO afterwards in any case.
static inline void joblet_ring_set_go(struct joblet_ring_header *ring) {
  __atomic_store_n(&ring->go, 1, __ATOMIC_RELEASE);
}

static inline void joblet_ring_set_stop_intent(struct joblet_ring_header *ring) {
  __atomic_store_n(&ring->stop_intent, 1, __ATOMIC_RELEASE);
}

static inline uint32_t joblet_ring_stop_intent(const struct joblet_ring_header *ring) {
  return __atomic_load_n(&ring->stop_intent, __ATOMIC_ACQUIRE);
}
