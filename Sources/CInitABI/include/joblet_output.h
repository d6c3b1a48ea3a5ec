// From a job's pipe to its ring: cutting bytes into records and committing them. Pure functions over memory; joblet-init adds
// the system calls. Here, and not in joblet-init, so that tests can drive them. No libc but memcpy and memmove.
#pragma once
#include <stdint.h>

#include "joblet_ring.h"

// The producer's side of a ring. `head` and `next_seq` are its own copies: what stands in the shared header is for reading by
// others only.
struct joblet_writer {
  struct joblet_ring_header *ring;
  uint8_t *data;  // mapped twice in a row
  uint64_t data_size, max_records;
  uint64_t head, next_seq;
};

// Checks the header that exec wrote and starts at its end. Returns 0 or -EINVAL. `data_size` is that of the mapping.
int joblet_writer_open(struct joblet_writer *writer, struct joblet_ring_header *ring, uint8_t *data, uint64_t data_size);

// Records there is room for now, by the bound on records not yet acknowledged.
uint64_t joblet_writer_record_room(const struct joblet_writer *writer);

// Commits one entry. Returns 1, or 0 if there is no room for its bytes or its records; then nothing has happened.
int joblet_writer_append(struct joblet_writer *writer, const struct joblet_ring_entry *entry, const uint8_t *payload);

// One pipe's bytes that are not committed yet.
struct joblet_lines {
  uint32_t length;
  uint8_t stream;  // enum joblet_stream
  int64_t time;    // CLOCK_REALTIME of the last read, in nanoseconds
  uint8_t bytes[JOBLET_RING_MAX_PAYLOAD];
};

// The buffer by a pointer, for Swift, which does not import arrays of this length.
static inline uint8_t *joblet_lines_bytes(struct joblet_lines *lines) { return lines->bytes; }

enum joblet_lines_result {
  JOBLET_LINES_IDLE = 0,     // nothing left to commit but, perhaps, the beginning of a line
  JOBLET_LINES_BLOCKED = 1,  // something could be committed, but the ring has no room
};

// Commits every complete line; with `flush`, the beginning of a line too, cut before an incomplete UTF-8 sequence unless
// nothing else is left (`flush` 1) or the stream is at its end (`flush` 2). A line that fills the buffer goes in parts.
enum joblet_lines_result joblet_lines_commit(struct joblet_lines *lines, struct joblet_writer *writer, int flush);
