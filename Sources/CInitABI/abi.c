// The target is its headers; this file makes the compiler check that they stand alone.
#include "joblet_plan.h"
#include "joblet_ring.h"

_Static_assert(sizeof(struct joblet_ring_header) == JOBLET_RING_HEADER_SIZE, "the ring's header fills one page");
_Static_assert(sizeof(struct joblet_ring_entry) == 32, "a ring entry's header is 32 bytes");
