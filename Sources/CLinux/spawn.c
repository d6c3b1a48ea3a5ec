// Starting joblet-init, and making user namespaces. The children here share the caller's memory, so between clone and exec
// (or death) they make raw system calls on a stack of their own and touch nothing else.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "CLinux.h"
#include "raw.h"

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

enum { STACK_SIZE = 64 << 10, FIRST_TARGET = 3 };

// Signals stay blocked in the child until its exec: a handler of the caller's that ran there would be Swift or NIO code on a
// borrowed stack, in another process, over live shared memory.
static void block_signals(sigset_t *old) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, old);
}

// A stack with a guard page below it.
static void *new_stack(void) {
  char *base = mmap(NULL, STACK_SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (base == MAP_FAILED) return NULL;
  if (mprotect(base, 4096, PROT_NONE)) {
    munmap(base, STACK_SIZE + 4096);
    return NULL;
  }
  return base + 4096;
}

static void free_stack(void *stack) { munmap((char *)stack - 4096, STACK_SIZE + 4096); }

struct child {
  const struct cl_spawn *spawn;
  int high[CL_SPAWN_MAX_DESCRIPTORS + 2];  // the child's copies, out of the way of the targets
  const char *argv[2];
  const char *envp[1];
  volatile int step;
  volatile int error;
};

static void fail(struct child *child, int step, long error) {
  child->step = step;
  child->error = (int)-error;
  raw_syscall(SYS_exit_group, 127, 0, 0, 0, 0);
}

// joblet-init finds default handlers and every signal blocked: PID 1 drops a signal it neither handles nor blocks, so an
// unblocked one would be lost between its exec and its first instructions.
static void reset_signals(void) {
  struct {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
  } action = {0};
  for (int signal = 1; signal <= 64; signal++) raw_syscall(SYS_rt_sigaction, signal, (long)&action, 0, 8, 0);
}

static void place_descriptors(struct child *child) {
  const struct cl_spawn *spawn = child->spawn;
  uint32_t count = spawn->descriptor_count;
  // First away from the low numbers: a source may itself stand where another one has to go.
  for (uint32_t i = 0; i < count + 2; i++) {
    int source = i < count ? spawn->descriptors[i] : i == count ? spawn->null : spawn->executable;
    long copy = raw_syscall(SYS_fcntl, source, F_DUPFD, 64, 0, 0);
    if (copy < 0) fail(child, CL_SPAWN_DESCRIPTORS, copy);
    child->high[i] = (int)copy;
  }
  for (uint32_t i = 0; i < count + FIRST_TARGET + 1; i++) {
    int source = i < FIRST_TARGET           ? child->high[count]
                 : i < count + FIRST_TARGET ? child->high[i - FIRST_TARGET]
                                            : child->high[count + 1];
    // The executable alone is close-on-exec: the job must not hold a descriptor of the host's program (CVE-2019-5736).
    long placed = raw_syscall(SYS_dup3, source, i, i == count + FIRST_TARGET ? O_CLOEXEC : 0, 0, 0);
    if (placed < 0) fail(child, CL_SPAWN_DESCRIPTORS, placed);
  }
}

// A mount namespace of its own: a copy of the template's few mounts in place of the host's many, whose copying takes the longer
// the more there are. Not by a flag of the clone, which knows the caller's alone. The child shares no file system state
// (CLONE_FS) with the caller, so this moves nobody else.
static void enter_mounts(struct child *child) {
  if (child->spawn->mount_namespace >= 0) {
    long entered = raw_syscall(SYS_setns, child->spawn->mount_namespace, CLONE_NEWNS, 0, 0, 0);
    if (entered < 0) fail(child, CL_SPAWN_ENTER, entered);
  }
  // Before the exec: joblet-init changes mounts, and must never change those of the template or of the host.
  long unshared = raw_syscall(SYS_unshare, CLONE_NEWNS, 0, 0, 0, 0);
  if (unshared < 0) fail(child, CL_SPAWN_UNSHARE, unshared);
}

static void run_child(void *argument) {
  struct child *child = argument;
  reset_signals();
  enter_mounts(child);
  place_descriptors(child);
  int executable = (int)child->spawn->descriptor_count + FIRST_TARGET;
  // Everything else goes before the exec, close-on-exec or not: one descriptor of the host in a job is a way out of it.
  long closed = raw_syscall(SYS_close_range, executable + 1, ~0U, 0, 0, 0);
  if (closed < 0) fail(child, CL_SPAWN_CLOSE, closed);
  long error =
      raw_syscall(SYS_execveat, executable, (long)"", (long)child->argv, (long)child->envp, AT_EMPTY_PATH);
  fail(child, CL_SPAWN_EXEC, error);
}

pid_t cl_spawn_init(const struct cl_spawn *spawn, int *pidfd, int *step) {
  *pidfd = -1;
  *step = CL_SPAWN_CLONE;
  if (spawn->descriptor_count > CL_SPAWN_MAX_DESCRIPTORS) return -EINVAL;
  void *stack = new_stack();
  if (stack == NULL) return -ENOMEM;
  struct child child = {.spawn = spawn, .argv = {spawn->name, NULL}, .envp = {NULL}};
  struct raw_clone_args args = {
      // Not CLONE_NEWUSER: an exec before the ID maps are written leaves a process without capabilities, and this thread,
      // suspended by CLONE_VFORK, could not write them. INTO_CGROUP: no instant without limits.
      .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_INTO_CGROUP | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
               CLONE_NEWUTS,
      .pidfd = (uint64_t)(uintptr_t)pidfd,
      .exit_signal = SIGCHLD,
      .stack = (uint64_t)(uintptr_t)stack,
      .stack_size = STACK_SIZE,
      .cgroup = (uint64_t)spawn->cgroup,
  };
  sigset_t old;
  block_signals(&old);
  long pid = raw_clone(&args, run_child, &child);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  free_stack(stack);
  if (pid < 0) return (pid_t)pid;
  if (child.error == 0) return (pid_t)pid;
  int code, status;
  cl_wait_pidfd(*pidfd, 0, &code, &status);
  close(*pidfd);
  *pidfd = -1;
  *step = child.step;
  return -child.error;
}

struct namespace_child {
  pid_t parent;
  uint32_t first;
  int report;  // a pipe: 0, or why there is no namespace (-errno)
};

// In the child: makes the namespace and sleeps in it until it is killed.
static void make_namespace(void *argument) {
  const struct namespace_child *child = argument;
  // The namespace's owner is whoever makes it, and what a job uses of inotify instances, queued signals, timers, message
  // queues and namespaces is counted on that user in the parent namespace too (user_namespaces(7), ucounts). Made by host root,
  // one job could use up what host root, so the whole host, and every other job have. So it is made as the range's first ID,
  // which is nobody else's. With this bit the change of user keeps the capabilities that making and mapping may take.
  int result = (int)raw_syscall(SYS_prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0);
  if (result >= 0) result = (int)raw_syscall(SYS_setresgid, child->first, child->first, child->first, 0, 0);
  // Sets the shared memory non-dumpable (prctl(2), PR_SET_DUMPABLE), the caller's then: it is to be in no core file anyway.
  if (result >= 0) result = (int)raw_syscall(SYS_setresuid, child->first, child->first, child->first, 0, 0);
  if (result >= 0) result = (int)raw_syscall(SYS_unshare, CLONE_NEWUSER, 0, 0, 0, 0);
  // It holds copies of all the caller's descriptors, its locks among them, and is no thread of it: a caller killed before it
  // kills this child would leave one that sleeps on, and keeps the next caller from the locks for ever. So it dies with its
  // parent; said after the change of user, which takes it back. The look at the parent is for one that died before that.
  raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (raw_syscall(SYS_getppid, 0, 0, 0, 0, 0) != child->parent) raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0);
  raw_syscall(SYS_write, child->report, (long)&result, sizeof result, 0, 0);
  for (;;) raw_syscall(SYS_ppoll, 0, 0, 0, 0, 0);
}

static int write_file(const char *path, const char *text, size_t length) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  // One write: the kernel takes an ID map whole or not at all, and only once.
  int result = write(fd, text, length) == (ssize_t)length ? 0 : -errno;
  close(fd);
  return result;
}

static int write_maps(pid_t pid, uint32_t first, uint32_t count) {
  char path[64], map[64];
  int length = snprintf(map, sizeof map, "0 %u %u\n", first, count);
  snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
  int result = write_file(path, map, (size_t)length);
  if (result < 0) return result;
  snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
  return write_file(path, map, (size_t)length);
}

// Waits until the child is in its namespace.
static int read_report(int report) {
  int result;
  ssize_t count;
  do count = read(report, &result, sizeof result);
  while (count < 0 && errno == EINTR);
  if (count < 0) return -errno;
  return count == sizeof result ? result : -ECHILD;  // it ended without a word: somebody killed it
}

int cl_make_user_namespace(uint32_t first, uint32_t count) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return -errno;
  void *stack = new_stack();
  if (stack == NULL) {
    close(ends[0]);
    close(ends[1]);
    return -ENOMEM;
  }
  int pidfd = -1;
  struct namespace_child child = {.parent = getpid(), .first = first, .report = ends[1]};
  struct raw_clone_args args = {
      .flags = CLONE_VM | CLONE_PIDFD,
      .pidfd = (uint64_t)(uintptr_t)&pidfd,
      .exit_signal = SIGCHLD,
      .stack = (uint64_t)(uintptr_t)stack,
      .stack_size = STACK_SIZE,
  };
  sigset_t old;
  block_signals(&old);
  long pid = raw_clone(&args, make_namespace, &child);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    free_stack(stack);
    return (int)pid;
  }
  int result = read_report(ends[0]);
  close(ends[0]);
  if (result == 0) result = write_maps((pid_t)pid, first, count);
  if (result == 0) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/ns/user", pid);
    result = open(path, O_RDONLY | O_CLOEXEC);
    if (result < 0) result = -errno;
  }
  cl_pidfd_send_signal(pidfd, SIGKILL);
  int code, status;
  cl_wait_pidfd(pidfd, 0, &code, &status);
  close(pidfd);
  free_stack(stack);  // not before it is reaped: it stands on it
  return result;
}
