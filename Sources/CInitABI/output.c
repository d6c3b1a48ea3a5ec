// Cutting a job's output into records, and the producer's side of the ring.
#include "joblet_output.h"

#include <string.h>

#define INVALID (-22)

int joblet_writer_open(struct joblet_writer *writer, struct joblet_ring_header *ring, uint8_t *data, uint64_t data_size) {
  if (ring->magic != JOBLET_RING_MAGIC || ring->data_size != data_size || ring->max_records == 0) return INVALID;
  // Room for the largest entry, or a full buffer could never be committed.
  if (data_size & (data_size - 1) || data_size < 2 * JOBLET_RING_MAX_PAYLOAD) return INVALID;
  writer->ring = ring;
  writer->data = data;
  writer->data_size = data_size;
  writer->max_records = ring->max_records;
  writer->head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
  writer->next_seq = __atomic_load_n(&ring->next_seq, __ATOMIC_RELAXED);
  return writer->next_seq == 0 ? INVALID : 0;
}

uint64_t joblet_writer_record_room(const struct joblet_writer *writer) {
  uint64_t acked = __atomic_load_n(&writer->ring->acked_seq, __ATOMIC_ACQUIRE);
  uint64_t held = writer->next_seq - 1 - acked;
  return held < writer->max_records ? writer->max_records - held : 0;
}

int joblet_writer_append(struct joblet_writer *writer, const struct joblet_ring_entry *entry, const uint8_t *payload) {
  struct joblet_ring_header *ring = writer->ring;
  uint64_t size = (sizeof *entry + entry->length + 7u) & ~7ull;
  uint64_t acked = __atomic_load_n(&ring->acked, __ATOMIC_ACQUIRE);
  if (writer->data_size - (writer->head - acked) < size) return 0;
  if (joblet_writer_record_room(writer) < entry->count) return 0;

  // Raised before a byte is written: who copies an old entry just now sees afterwards that it may be torn. If a store below
  // could pass this one, a torn copy would look whole.
  __atomic_store_n(&ring->reserved, writer->head + size, __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);

  uint8_t *place = writer->data + (writer->head & (writer->data_size - 1));
  struct joblet_ring_entry header = *entry;
  header.first_seq = writer->next_seq;
  memcpy(place, &header, sizeof header);
  memcpy(place + sizeof header, payload, entry->length);

  writer->head += size;
  writer->next_seq += entry->count;
  // Released after the bytes: whoever sees the new head sees them whole. The seq first, so that it is never behind the head.
  __atomic_store_n(&ring->next_seq, writer->next_seq, __ATOMIC_RELEASE);
  __atomic_store_n(&ring->head, writer->head, __ATOMIC_RELEASE);
  return 1;
}

// How many bytes up to the last whole UTF-8 sequence; `length` itself where the tail is not the beginning of one.
static uint32_t whole_characters(const uint8_t *bytes, uint32_t length) {
  for (uint32_t back = 1; back <= 3 && back <= length; back++) {
    uint8_t byte = bytes[length - back];
    if ((byte & 0xC0) == 0x80) continue;
    uint32_t needed = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return needed > back ? length - back : length;
  }
  return length;
}

// Where the last line ends that fits into `room` records: sets *count to the lines. 0 if there is no whole line.
static uint32_t whole_lines(const uint8_t *bytes, uint32_t length, uint64_t room, uint32_t *count) {
  while (length > 0 && bytes[length - 1] != '\n') length--;
  uint32_t newlines = 0;
  for (uint32_t i = 0; i < length; i++) newlines += bytes[i] == '\n';
  if (newlines > room) {
    newlines = 0;
    for (length = 0; newlines < room; length++) newlines += bytes[length] == '\n';
  }
  *count = newlines;
  return length;
}

static int commit(struct joblet_lines *lines, struct joblet_writer *writer, uint32_t length, uint32_t count, uint8_t flags) {
  struct joblet_ring_entry entry = {
      .length = length, .count = count, .time = lines->time, .stream = lines->stream, .flags = flags};
  if (!joblet_writer_append(writer, &entry, lines->bytes)) return 0;
  lines->length -= length;
  memmove(lines->bytes, lines->bytes + length, lines->length);
  return 1;
}

enum joblet_lines_result joblet_lines_commit(struct joblet_lines *lines, struct joblet_writer *writer, int flush) {
  while (lines->length > 0) {
    uint32_t count = 0;
    uint64_t room = joblet_writer_record_room(writer);
    if (room == 0) {
      // Blocked only if there is something that must go; the beginning of a line may still grow.
      int whole = 0;
      for (uint32_t i = 0; i < lines->length && !whole; i++) whole = lines->bytes[i] == '\n';
      return whole || flush || lines->length == JOBLET_RING_MAX_PAYLOAD ? JOBLET_LINES_BLOCKED : JOBLET_LINES_IDLE;
    }
    uint32_t length = whole_lines(lines->bytes, lines->length, room, &count);
    if (length > 0) {
      if (!commit(lines, writer, length, count, 0)) return JOBLET_LINES_BLOCKED;
      continue;
    }
    if (!flush && lines->length < JOBLET_RING_MAX_PAYLOAD) return JOBLET_LINES_IDLE;
    length = flush == 2 ? lines->length : whole_characters(lines->bytes, lines->length);
    if (length == 0) length = lines->length;
    if (!commit(lines, writer, length, 1, JOBLET_ENTRY_PARTIAL)) return JOBLET_LINES_BLOCKED;
    if (flush != 2) return JOBLET_LINES_IDLE;  // what is left is the beginning of one character: the next flush takes it
  }
  return JOBLET_LINES_IDLE;
}
