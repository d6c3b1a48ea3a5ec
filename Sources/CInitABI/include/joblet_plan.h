// Plans: what joblet-init is to do, in order, as bytes that joblet-exec made and validated.
//
// There are two a job. The sandbox's plan (phases 1 to 3) holds nothing of any job: joblet-init applies it ahead of need and
// waits. The job's own plan (phase 4) is written into a memfd that the waiting sandbox holds already, and sealed, before the go.
// A plan of phase 1 alone makes the template that the sandboxes' mount namespaces are copied from.
//
// A header, then `step_count` steps. Each step is a joblet_plan_step followed by `length` operand bytes, padded with zeros
// to 8 bytes. The operands are `strings` NUL-terminated strings back to back, or, where `strings` is 0, one block of bytes.
// joblet-init checks every length before it uses anything (joblet_plan_open); a plan it cannot read ends the job.
#pragma once
#include <stdint.h>

#define JOBLET_PLAN_MAGIC 0x324e4c504c42424aULL
#define JOBLET_PLAN_MAX_SIZE (4u << 20)
#define JOBLET_PLAN_MAX_STEPS 1024u

// The descriptors joblet-init inherits, at these numbers; everything else is closed before it runs. 0, 1 and 2 are
// /dev/null: PID 1 of a job reports through the ring alone. For a template, 7 to 12 are /dev/null too.
enum joblet_init_fd {
  JOBLET_FD_PLAN = 3,      // memfd with the sandbox's plan, sealed
  JOBLET_FD_RING = 4,      // the job's ring file, read-write
  JOBLET_FD_DATA = 5,      // data FIFO, O_RDWR | O_NONBLOCK: joblet-init writes a byte to wake exec
  JOBLET_FD_SPACE = 6,     // space FIFO, O_RDWR | O_NONBLOCK: exec writes a byte to wake joblet-init
  JOBLET_FD_USERNS = 7,    // the job's user namespace, its maps written
  JOBLET_FD_PAY = 8,       // directory of the cgroup pay/
  JOBLET_FD_PAY_KILL = 9,  // pay/cgroup.kill, O_WRONLY
  JOBLET_FD_JOB_PLAN = 10, // memfd for the job's plan: written and sealed by exec before the go
  JOBLET_FD_WORK = 11,     // the workspace as a detached mount, through the job's user namespace
  JOBLET_FD_FACTS = 12,    // a directory with hostname and hosts as a detached read-only mount
  JOBLET_FD_FIRST_FREE = 13,
};

struct joblet_plan_header {
  uint64_t magic;
  uint32_t size;  // of everything, this header included
  uint32_t step_count;
};

struct joblet_plan_step {
  uint16_t op;       // enum joblet_plan_op
  uint16_t flags;    // enum joblet_plan_flags
  uint32_t strings;  // how many strings the operands hold; 0: one block of bytes
  uint32_t length;   // of the operands in bytes, padding not counted
  uint32_t reserved;
  uint64_t n[3];  // numbers, their meaning by op
};

// What the steps do; the high byte is the phase. Phases never go back: joblet_plan_open refuses a plan that does.
enum joblet_plan_op {
  // 1: joblet-init as host root in new namespaces. Targets are paths inside the root.
  JOBLET_OP_PRIVATE_MOUNTS = 0x0101,   // nothing mounted from here on shows on the host
  JOBLET_OP_LOOPBACK = 0x0102,         // lo up in the job's network namespace
  JOBLET_OP_ROOT = 0x0104,             // template: tmpfs that becomes the root. s0 staging directory, n0 size in bytes
  JOBLET_OP_BIND = 0x0105,             // template: s0 host source, s1 target; a symlink is made anew, not followed
  JOBLET_OP_TMPFS = 0x0106,            // s0 target, n0 size in bytes, n1 mode
  JOBLET_OP_DEVICES = 0x0107,          // template: /dev with null zero full random urandom tty and fd links
  JOBLET_OP_PROC = 0x0108,             // /proc of the job's pid namespace, hidepid=2
  JOBLET_OP_MASK = 0x0109,             // s0 path: covered by an empty read-only directory, or by /dev/null; absent is fine
  JOBLET_OP_READ_ONLY_PATH = 0x010a,   // s0 path: made read-only where it is; absent is fine
  JOBLET_OP_FILE = 0x010b,             // template: s0 path, s1 content, n0 mode
  JOBLET_OP_PIVOT = 0x010c,            // template: pivot_root, the host's root detached
  JOBLET_OP_READ_ONLY_ROOT = 0x010d,   // template
  JOBLET_OP_MOUNT_POINT = 0x010e,      // template: s0 path, an empty directory for the sandboxes to mount on
  JOBLET_OP_SYMLINK = 0x010f,          // template: s0 path, s1 what it says
  JOBLET_OP_TERMINALS = 0x0110,        // an instance of devpts of the job's own
  JOBLET_OP_WORKSPACE = 0x0111,        // s0 target: JOBLET_FD_WORK is mounted there
  JOBLET_OP_FACTS = 0x0112,            // s0 target: JOBLET_FD_FACTS is mounted there
  JOBLET_OP_VIOLATIONS = 0x0113,       // block: struct sock_filter[] with SECCOMP_RET_USER_NOTIF for what is never legitimate
  JOBLET_OP_LANDLOCK_RULES = 0x0114,   // n0 rights to files that need a rule, n1 scopes
  JOBLET_OP_LANDLOCK_ALLOW = 0x0115,   // s0 path in the job's root, n0 rights to it and what is below; absent is fine

  // 2: the payload's process, cloned into pay/ ahead of need.
  JOBLET_OP_CGROUP_NAMESPACE = 0x0201,
  JOBLET_OP_OOM_SCORE = 0x0202,        // n0 oom_score_adj
  JOBLET_OP_RLIMIT = 0x0203,           // n0 resource, n1 soft, n2 hard; never above what exec itself has
  JOBLET_OP_USER_NAMESPACE = 0x0204,
  JOBLET_OP_IDS = 0x0205,              // n0 uid, n1 gid, inside the user namespace; no supplementary groups
  JOBLET_OP_KEYRING = 0x0206,
  JOBLET_OP_DIRECTORY = 0x0207,        // s0 working directory
  JOBLET_OP_CAPABILITIES = 0x0208,     // bounding and ambient sets, then every other set, emptied
  JOBLET_OP_NO_NEW_PRIVILEGES = 0x0209,
  JOBLET_OP_SECCOMP = 0x020a,          // block: struct sock_filter[], the node's filter
  JOBLET_OP_LANDLOCK = 0x020e,         // enters the ruleset of the first phase

  // 3: joblet-init itself, once the payload's process is made.
  JOBLET_OP_INIT_IDS = 0x0302,         // n0 uid and gid in the user namespace, only CAP_KILL kept there, not dumpable
  JOBLET_OP_INIT_SECCOMP = 0x0303,     // block: struct sock_filter[]

  // 4: the job's own plan, by the payload's process after the go. It has no privileges and the node's filter by now.
  JOBLET_OP_STDIO = 0x0401,            // stdin /dev/null, pipes; n0 1: one pipe for stdout and stderr
  JOBLET_OP_TIMEOUT = 0x0402,          // n0 nanoseconds from the payload's exec, n1 nanoseconds from SIGTERM to cgroup.kill
  JOBLET_OP_JOB_SECCOMP = 0x0403,      // block: struct sock_filter[], on top of the node's filter: it can only refuse more
  JOBLET_OP_ENVIRONMENT = 0x0404,      // strings NAME=value
  JOBLET_OP_CLOSE = 0x0405,            // every descriptor from 3 on
  JOBLET_OP_EXEC = 0x0406,             // strings: argv; the command is looked up in the environment's PATH. The last step

  // Not in plans: where joblet-init can fail outside a step. Only in a ring's setup_step.
  JOBLET_OP_READ_PLAN = 0x0501,
  JOBLET_OP_CLONE_PAYLOAD = 0x0502,
  JOBLET_OP_SUPERVISE = 0x0503,        // pipes, signals, poll
  JOBLET_OP_READ_JOB_PLAN = 0x0504,    // the job's plan: not sealed, or not to be read
};

enum joblet_plan_flags {
  JOBLET_FLAG_READ_ONLY = 1,
  JOBLET_FLAG_NO_EXEC = 2,   // BIND, TMPFS
  JOBLET_FLAG_OPTIONAL = 4,  // BIND: a source that does not exist is skipped
};

// A ring's setup_step: the op above in the high half, the index of the step in the plan in the low half.
#define JOBLET_SETUP_STEP(op, index) ((uint32_t)(op) << 16 | (uint32_t)(index))

// Reading a plan. Nothing is copied: steps and strings point into the plan's own bytes. No libc: PID 1 has none.

struct joblet_plan {
  const uint8_t *bytes;
  uint32_t size;
  uint32_t step_count;
  uint32_t phases;  // a bit for each phase that has steps: 1 << phase
};

#define JOBLET_PLAN_PHASE(op) ((uint32_t)(op) >> 8)
#define JOBLET_PLAN_IS_JOB(plan) ((plan)->phases == 1u << 4)
#define JOBLET_PLAN_IS_TEMPLATE(plan) ((plan)->phases == 1u << 1)

// Checks a whole plan: sizes, alignment, phases, known ops, the number of strings each needs, every NUL where it must be. It is
// either a job's plan (phase 4 alone, with one exec at its end) or a sandbox's or a template's (no step of phase 4).
// Returns 0, or -EINVAL; `bytes` must be 8-byte aligned and stay mapped while the plan is used.
int joblet_plan_open(struct joblet_plan *plan, const void *bytes, uint64_t size);

// A position in an opened plan. `next` returns 1 and moves to the next step, or 0 after the last.
struct joblet_plan_cursor {
  uint32_t offset;
  uint32_t index;  // of `step`
  const struct joblet_plan_step *step;
  const uint8_t *operands;
};
int joblet_plan_next(const struct joblet_plan *plan, struct joblet_plan_cursor *cursor);

// The step's string number `index`; the caller asks only for those joblet_plan_open has counted.
const char *joblet_plan_string(const struct joblet_plan_cursor *cursor, uint32_t index);
