// The payload's process: cloned into pay/ ahead of need, confined by the sandbox's plan, it waits for a job; then it applies the
// job's own plan, and execs.
#include <asm/signal.h>
#include <linux/fcntl.h>
#include <linux/keyctl.h>
#include <linux/mman.h>
#include <linux/poll.h>
#include <asm/resource.h>
#include <linux/sched.h>

#include "init.h"

enum { PIPE_BYTES = 256 << 10 };

static struct failure late(enum joblet_plan_op op, long result) {
  return (struct failure){JOBLET_SETUP_STEP(op, 0), result < 0 ? (int)-result : 0};
}

static long make_pipe(int *reader, int *writer) {
  int ends[2];
  long result = sys(pipe2, ends, O_CLOEXEC);
  if (result < 0) return result;
  // The job opens /dev/stdout by name too, as a user who does not own the pipe: it may write, never read its output back.
  result = sys(fchmod, ends[1], 0622);
  if (result < 0) return result;
  // Only the read end: O_NONBLOCK belongs to an open file, and a job's stdout must block.
  result = sys(fcntl, ends[0], F_SETFL, O_NONBLOCK);
  // Fewer switches for a job that writes much. If it is refused (the user's pipe pages are used up), the usual 64 KiB do.
  sys(fcntl, ends[0], 1031 /* F_SETPIPE_SZ */, PIPE_BYTES);
  *reader = ends[0];
  *writer = ends[1];
  return result;
}

struct failure prepare_payload(struct init *init) {
  uint64_t mask = 1ull << (SIGCHLD - 1) | 1ull << (SIGTERM - 1) | 1ull << (SIGINT - 1) | 1ull << (SIGHUP - 1) |
                  1ull << (SIGQUIT - 1) | 1ull << (SIGUSR1 - 1) | 1ull << (SIGUSR2 - 1);
  long result = sys(signalfd4, -1, &mask, 8, O_CLOEXEC | O_NONBLOCK);
  init->signals = (int)result;
  // Both pipes, whatever the job will want: with one for both streams the second comes to its end when the job starts.
  for (int i = 0; i < 2 && result >= 0; i++) result = make_pipe(&init->pipes[i], &init->ends[i]);
  if (result >= 0) result = sys(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
  init->null = (int)result;
  return late(JOBLET_OP_SUPERVISE, result);
}

static long set_streams(struct init *init, int merged) {
  long result = sys(dup3, init->null, 0, 0);
  if (result >= 0) result = sys(dup3, init->ends[0], 1, 0);
  if (result >= 0) result = sys(dup3, init->ends[merged ? 0 : 1], 2, 0);
  return result;
}

static long set_ids(uint64_t uid, uint64_t gid) {
  // Groups first, user last: after setresuid there is no right left to change groups, and root's would stay.
  long result = sys(setgroups, 0, 0);
  if (result >= 0) result = sys(setresgid, gid, gid, gid);
  if (result >= 0) result = sys(setresuid, uid, uid, uid);
  return result;
}

static long join_new_keyring(void) {
  // The session keyring is inherited from exec: without a new one the job could use what root put there.
  long result = sys(keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);
  return result == -ENOSYS ? 0 : result;  // a kernel without keyrings has none to inherit
}

static const char **vector(const struct joblet_plan_cursor *at) {
  uint32_t count = at == NULL ? 0 : at->step->strings;
  long memory = sys(mmap, 0, (count + 1) * sizeof(char *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory < 0 && memory > -4096) return NULL;
  const char **list = (const char **)memory;
  const char *text = at == NULL ? NULL : (const char *)at->operands;
  for (uint32_t i = 0; i < count; i++) {
    list[i] = text;
    text += strlen(text) + 1;
  }
  return list;
}

static const char *path_of(const char *const *environment) {
  for (; *environment != NULL; environment++) {
    const char *text = *environment;
    if (text[0] == 'P' && text[1] == 'A' && text[2] == 'T' && text[3] == 'H' && text[4] == '=') return text + 5;
  }
  return "/usr/local/bin:/usr/bin:/bin";
}

// execvp(3) over the job's own PATH and root. Returns only if it failed.
static long execute(const char **arguments, const char **environment) {
  const char *name = arguments[0];
  for (const char *c = name; *c != 0; c++)
    if (*c == '/') return sys(execve, name, arguments, environment);
  if (*name == 0) return -ENOENT;
  long refused = -ENOENT;
  const char *path = path_of(environment);
  for (;;) {
    struct text candidate = {.length = 0};
    while (*path != 0 && *path != ':' && candidate.length < 4096) candidate.bytes[candidate.length++] = *path++;
    while (*path != 0 && *path != ':') path++;
    if (candidate.length > 0) candidate.bytes[candidate.length++] = '/';
    text_string(&candidate, name);
    long result = candidate.length < 4096 ? sys(execve, candidate.bytes, arguments, environment) : -ENAMETOOLONG;
    // As a shell: the search goes on past what is not there, and remembers what was there but not executable.
    if (result == -EACCES) refused = result;
    else if (result != -ENOENT && result != -ENOTDIR && result != -ENAMETOOLONG) return result;
    if (*path++ == 0) return refused;
  }
}

// Every signal has its default action since joblet-exec cloned PID 1; only the mask is left.
static void unblock_signals(void) {
  uint64_t none = 0;
  sys(rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
}

// The plan's limits are upper bounds: where exec itself has less, the job gets that, for raising takes a right (CAP_SYS_RESOURCE)
// that exec may not have.
static long set_limit(uint64_t resource, uint64_t soft, uint64_t hard) {
  struct {
    uint64_t soft, hard;
  } own, set = {soft, hard};
  long result = sys(prlimit64, 0, resource, 0, &own);
  if (result < 0) return result;
  // Of cores exec may have none, but then 1 is less: a core file's 0 does not hold for the host's handler of cores, 1 does (core(5)).
  if (set.hard > own.hard && resource != RLIMIT_CORE) set.hard = own.hard;
  if (set.soft > set.hard) set.soft = set.hard;
  return sys(prlimit64, 0, resource, &set, 0);
}

// Who is killed first when the whole host has no memory left: a job, before anything of the host's.
static long set_oom_score(uint64_t score) {
  struct text text = {.length = 0};
  text_number(&text, score, 10);
  long fd = sys(openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  long result = sys(write, fd, text.bytes, text.length);
  sys(close, fd);
  return result;
}

struct run {
  struct init *init;
  const char **environment;
  int errors;
};

static long close_all(struct run *run) {
  // Really closed, not only marked for the exec: the path to execute is the job's to choose, and /proc/self/fd/N would lead
  // through whatever is still open (CVE-2024-21626). What stays is the pipe that says which step failed.
  long result = sys(dup3, run->errors, 3, O_CLOEXEC);
  if (result < 0 && run->errors != 3) return result;
  run->errors = 3;
  return sys(close_range, 4, ~0u, 0);
}

static long step(struct run *run, const struct joblet_plan_cursor *at) {
  const uint64_t *n = at->step->n;
  switch ((enum joblet_plan_op)at->step->op) {
    // Here, in pay/, and not by a flag of the clone: the flag takes the parent's cgroup, init/, as what the job sees as root.
    case JOBLET_OP_CGROUP_NAMESPACE: return sys(unshare, CLONE_NEWCGROUP);
    case JOBLET_OP_OOM_SCORE: return set_oom_score(n[0]);
    case JOBLET_OP_RLIMIT: return set_limit(n[0], n[1], n[2]);
    // From here on the process has every capability in the job's user namespace and none outside.
    case JOBLET_OP_USER_NAMESPACE: return sys(setns, JOBLET_FD_USERNS, CLONE_NEWUSER);
    case JOBLET_OP_IDS: return set_ids(n[0], n[1]);
    case JOBLET_OP_KEYRING: return join_new_keyring();
    case JOBLET_OP_DIRECTORY: return sys(chdir, joblet_plan_string(at, 0));
    case JOBLET_OP_CAPABILITIES: return drop_capabilities(0);
    case JOBLET_OP_NO_NEW_PRIVILEGES: return sys(prctl, 38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0);
    case JOBLET_OP_LANDLOCK: return enter_ruleset();
    // With it the process calls nothing but what every program needs; the job's plan is applied under it.
    case JOBLET_OP_SECCOMP: return load_payload_filter(at);

    case JOBLET_OP_STDIO: return set_streams(run->init, n[0] != 0);
    case JOBLET_OP_TIMEOUT:
      run->init->ring->timeout = n[0];
      run->init->ring->grace = n[1];
      return 0;
    // Both filters are asked at each call, and the stricter answer holds (seccomp(2)).
    case JOBLET_OP_JOB_SECCOMP: return load_payload_filter(at);
    case JOBLET_OP_CLOSE: return close_all(run);
    case JOBLET_OP_ENVIRONMENT:
      run->environment = vector(at);
      return run->environment == NULL ? -ENOMEM : 0;
    case JOBLET_OP_EXEC: {
      const char **arguments = vector(at);
      if (arguments == NULL || run->environment == NULL) return -ENOMEM;
      sys(umask, 022);
      // Last of all: a signal that was waiting may end the process now, as it would any program.
      unblock_signals();
      stamp(run->init, JOBLET_TRACE_EXEC);
      return execute(arguments, run->environment);
    }
    default: return -EINVAL;
  }
}

// Runs one plan's steps of the payload. Returns only if all were done, or one failed.
static struct failure run_steps(struct run *run, const struct joblet_plan *plan, uint32_t phase) {
  struct joblet_plan_cursor at = {0};
  while (joblet_plan_next(plan, &at)) {
    if (JOBLET_PLAN_PHASE(at.step->op) != phase) continue;
    long result = step(run, &at);
    if (result < 0) return (struct failure){JOBLET_SETUP_STEP(at.step->op, at.index), (int)-result};
  }
  return (struct failure){0};
}

// Sleeps until exec says that there is a job and that its start is written down. joblet-init does not read this FIFO meanwhile:
// it waits for space only once there is output. A signal stays pending and reaches the job.
static void wait_for_go(struct init *init) {
  while (!__atomic_load_n(&init->ring->go, __ATOMIC_ACQUIRE)) {
    struct pollfd entry = {.fd = JOBLET_FD_SPACE, .events = POLLIN};
    sys(ppoll, &entry, 1, 0, 0, 0);
    char drained[64];
    sys(read, JOBLET_FD_SPACE, drained, sizeof drained);
  }
}

static struct failure run_job(struct run *run) {
  struct joblet_plan plan;
  int error = map_plan(&plan, JOBLET_FD_JOB_PLAN);
  if (error >= 0 && !JOBLET_PLAN_IS_JOB(&plan)) error = -EINVAL;
  if (error < 0) return late(JOBLET_OP_READ_JOB_PLAN, error);
  return run_steps(run, &plan, 4);
}

static __attribute__((noreturn)) void run_payload(struct init *init, int errors) {
  struct run run = {.init = init, .environment = NULL, .errors = errors};
  stamp(init, JOBLET_TRACE_CLONED);
  // A session of its own: signals to the payload's group reach it and its children, and no terminal comes with it.
  struct failure failure = late(JOBLET_OP_CLONE_PAYLOAD, sys(setsid));
  if (!failure.error) failure = run_steps(&run, &init->plan, 2);
  if (!failure.error) {
    stamp(init, JOBLET_TRACE_CONFINED);
    // `failure` says that there was none: joblet-init waits for it.
    sys(write, run.errors, &failure, sizeof failure);
    wait_for_go(init);
    stamp(init, JOBLET_TRACE_GO);
    failure = run_job(&run);
  }
  sys(write, run.errors, &failure, sizeof failure);
  for (;;) sys(exit_group, 127);
}

struct failure start_payload(struct init *init) {
  int ends[2];
  long result = sys(pipe2, ends, O_CLOEXEC);
  if (result < 0) return late(JOBLET_OP_CLONE_PAYLOAD, result);
  struct clone_args arguments = {
      // Born in pay/: no instant in which it could run, or fork, outside its limits.
      .flags = CLONE_INTO_CGROUP,
      .exit_signal = SIGCHLD,
      .cgroup = JOBLET_FD_PAY,
  };
  result = sys(clone3, &arguments, sizeof arguments);
  if (result == 0) run_payload(init, ends[1]);
  sys(close, ends[1]);
  // PID 1 must not hold the write ends, or the pipes would never come to their end.
  for (int i = 0; i < 2; i++) sys(close, init->ends[i]);
  init->payload = (int32_t)result;
  init->ring->payload_pid = (uint32_t)result;
  init->errors = ends[0];
  return late(JOBLET_OP_CLONE_PAYLOAD, result);
}

struct failure payload_prepared(struct init *init) {
  struct failure failure = {0};
  long count;
  do count = sys(read, init->errors, &failure, sizeof failure);
  while (count == -EINTR);
  // Nothing came and the pipe is closed: it was killed before it had done its part.
  if (count != sizeof failure) return late(JOBLET_OP_CLONE_PAYLOAD, count < 0 ? count : -EIO);
  return failure;
}
