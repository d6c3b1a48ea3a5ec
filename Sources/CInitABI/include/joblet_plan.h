// The plan: what joblet-init is to do before it runs the payload, in order, as bytes that joblet-exec made and validated.
//
// A header, then `step_count` steps. Each step is a joblet_plan_step followed by `length` bytes of operands (fixed fields of
// the op first, then NUL-terminated strings), padded to 8 bytes. joblet-init checks every length before it reads.
#pragma once
#include <stdint.h>

#define JOBLET_PLAN_MAGIC 0x314e4c504c42424aULL
