// Reading a plan: every length is checked once, in joblet_plan_open; whatever uses the plan afterwards may rely on it.
#include "joblet_plan.h"

#include <stddef.h>

#define INVALID (-22)  // -EINVAL, without <errno.h>: this file also builds where there is no libc
#define ANY UINT32_MAX

// How many strings each op has. A block of bytes is marked by `block`.
struct shape {
  uint16_t op;
  uint8_t block;
  uint32_t least, most;
};

static const struct shape shapes[] = {
    {JOBLET_OP_PRIVATE_MOUNTS, 0, 0, 0}, {JOBLET_OP_LOOPBACK, 0, 0, 0},
    {JOBLET_OP_ROOT, 0, 1, 1},           {JOBLET_OP_BIND, 0, 2, 2},
    {JOBLET_OP_TMPFS, 0, 1, 1},          {JOBLET_OP_DEVICES, 0, 0, 0},
    {JOBLET_OP_PROC, 0, 0, 0},           {JOBLET_OP_MASK, 0, 1, 1},
    {JOBLET_OP_READ_ONLY_PATH, 0, 1, 1}, {JOBLET_OP_FILE, 0, 2, 2},
    {JOBLET_OP_PIVOT, 0, 0, 0},          {JOBLET_OP_READ_ONLY_ROOT, 0, 0, 0},
    {JOBLET_OP_MOUNT_POINT, 0, 1, 1},    {JOBLET_OP_SYMLINK, 0, 2, 2},
    {JOBLET_OP_TERMINALS, 0, 0, 0},      {JOBLET_OP_WORKSPACE, 0, 1, 1},
    {JOBLET_OP_FACTS, 0, 1, 1},          {JOBLET_OP_VIOLATIONS, 1, 0, 0},
    {JOBLET_OP_LANDLOCK_RULES, 0, 0, 0}, {JOBLET_OP_LANDLOCK_ALLOW, 0, 1, 1},
    {JOBLET_OP_LANDLOCK, 0, 0, 0},
    {JOBLET_OP_CGROUP_NAMESPACE, 0, 0, 0},
    {JOBLET_OP_OOM_SCORE, 0, 0, 0},      {JOBLET_OP_RLIMIT, 0, 0, 0},         {JOBLET_OP_USER_NAMESPACE, 0, 0, 0},
    {JOBLET_OP_IDS, 0, 0, 0},            {JOBLET_OP_KEYRING, 0, 0, 0},
    {JOBLET_OP_DIRECTORY, 0, 1, 1},      {JOBLET_OP_CAPABILITIES, 0, 0, 0},
    {JOBLET_OP_NO_NEW_PRIVILEGES, 0, 0, 0}, {JOBLET_OP_SECCOMP, 1, 0, 0},
    {JOBLET_OP_INIT_IDS, 0, 0, 0},       {JOBLET_OP_INIT_SECCOMP, 1, 0, 0},
    {JOBLET_OP_STDIO, 0, 0, 0},          {JOBLET_OP_TIMEOUT, 0, 0, 0},
    {JOBLET_OP_JOB_SECCOMP, 1, 0, 0},    {JOBLET_OP_ENVIRONMENT, 0, 0, ANY},
    {JOBLET_OP_CLOSE, 0, 0, 0},          {JOBLET_OP_EXEC, 0, 1, ANY},
};

static const struct shape *shape_of(uint16_t op) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    if (shapes[i].op == op) return &shapes[i];
  return NULL;
}

static uint32_t padded(uint32_t length) { return (length + 7u) & ~7u; }

// True if `operands` is exactly step->strings strings, each ended by its NUL.
static int strings_are_whole(const struct joblet_plan_step *step, const uint8_t *operands) {
  uint32_t ends = 0;
  for (uint32_t i = 0; i < step->length; i++) ends += operands[i] == 0;
  return ends == step->strings && (step->length == 0 || operands[step->length - 1] == 0);
}

static int step_is_valid(const struct joblet_plan_step *step, const uint8_t *operands) {
  const struct shape *shape = shape_of(step->op);
  if (shape == NULL || step->reserved != 0) return 0;
  if (shape->block) return step->strings == 0 && step->length > 0 && step->length % 8 == 0;
  if (step->strings < shape->least || step->strings > shape->most) return 0;
  return strings_are_whole(step, operands);
}

int joblet_plan_open(struct joblet_plan *plan, const void *bytes, uint64_t size) {
  const struct joblet_plan_header *header = bytes;
  if (((uintptr_t)bytes & 7) != 0 || size < sizeof *header || size > JOBLET_PLAN_MAX_SIZE) return INVALID;
  if (header->magic != JOBLET_PLAN_MAGIC || header->size != size) return INVALID;
  if (header->step_count > JOBLET_PLAN_MAX_STEPS) return INVALID;
  uint32_t offset = sizeof *header, phase = 0, phases = 0;
  int execs = 0;
  for (uint32_t i = 0; i < header->step_count; i++) {
    const struct joblet_plan_step *step = (const void *)((const uint8_t *)bytes + offset);
    if (size - offset < sizeof *step) return INVALID;
    offset += sizeof *step;
    // Compared before it is padded: padding a length near 2^32 would wrap to a small one.
    if (step->length > size - offset || padded(step->length) > size - offset) return INVALID;
    if (!step_is_valid(step, (const uint8_t *)bytes + offset)) return INVALID;
    // Phases in order, and nothing after the exec: such a step would never run, and nobody would know.
    if (JOBLET_PLAN_PHASE(step->op) < phase || execs) return INVALID;
    phase = JOBLET_PLAN_PHASE(step->op);
    phases |= 1u << phase;
    execs += step->op == JOBLET_OP_EXEC;
    offset += padded(step->length);
  }
  if (offset != size || phases == 0) return INVALID;
  // A job's plan and nothing else of it, or a sandbox's and nothing of a job.
  if (phases & 1u << 4 ? phases != 1u << 4 || execs != 1 : execs != 0) return INVALID;
  plan->bytes = bytes;
  plan->size = (uint32_t)size;
  plan->step_count = header->step_count;
  plan->phases = phases;
  return 0;
}

int joblet_plan_next(const struct joblet_plan *plan, struct joblet_plan_cursor *cursor) {
  if (cursor->step == NULL) {
    cursor->offset = sizeof(struct joblet_plan_header);
    cursor->index = 0;
  } else {
    cursor->offset += (uint32_t)sizeof *cursor->step + padded(cursor->step->length);
    cursor->index++;
  }
  if (cursor->index >= plan->step_count) return 0;
  cursor->step = (const void *)(plan->bytes + cursor->offset);
  cursor->operands = plan->bytes + cursor->offset + sizeof *cursor->step;
  return 1;
}

const char *joblet_plan_string(const struct joblet_plan_cursor *cursor, uint32_t index) {
  const char *text = (const char *)cursor->operands;
  while (index-- > 0)
    while (*text++ != 0) {}
  return text;
}
