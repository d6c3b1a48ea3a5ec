// The compiler checks here that the headers stand alone and that the shared layouts are what their comments say.
#include <stddef.h>

#include "joblet_output.h"
#include "joblet_plan.h"
#include "joblet_ring.h"

_Static_assert(sizeof(struct joblet_ring_header) == JOBLET_RING_HEADER_SIZE, "the ring's header fills one page");
_Static_assert(offsetof(struct joblet_ring_header, reserved) == 64, "joblet-init's cache line: positions");
_Static_assert(offsetof(struct joblet_ring_header, timeout) == 96, "aligned to its size");
_Static_assert(offsetof(struct joblet_ring_header, phase) == 128, "joblet-init's cache line: life and end");
_Static_assert(offsetof(struct joblet_ring_header, violation) == 172, "the violation stands where joblet-exec reads it");
_Static_assert(offsetof(struct joblet_ring_header, acked) == 192, "joblet-exec's cache line");
_Static_assert(offsetof(struct joblet_ring_header, trace) == 256, "when the steps of a start were done");
_Static_assert(sizeof(struct joblet_ring_entry) == 32, "a ring entry's header is 32 bytes");
_Static_assert(sizeof(struct joblet_plan_header) == 16, "the plan's header is 16 bytes");
_Static_assert(sizeof(struct joblet_plan_step) == 40, "a plan step's header is 40 bytes");
