// floor SECONDS WORKERS FOLDER CGROUP FILTER limits|none PROGRAM MOUNT…: each worker makes sandboxes one after the other, runs PROGRAM
// in each, writes its output to a file, and clears all of it away. Prints how many there were.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "floor.h"

struct worker {
  const char *folder, *cgroup, *program;
  char **mounts;
  int filter, limits, number, log, self;
  char staging[256], work[256], group[256];
};

long check(long result, const char *what) {
  if (result >= 0) return result;
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  _exit(1);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void put(const char *path, const char *text) {
  int file = (int)check(open(path, O_WRONLY | O_CLOEXEC), path);
  check(write(file, text, strlen(text)), path);
  close(file);
}

static int wait_in_new_userns(void *unused) {
  (void)unused;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) pause();
  return 0;
}

// A user namespace with a range of IDs of its own.
static int make_userns(uint32_t first) {
  static char stack[16384] __attribute__((aligned(16)));
  pid_t pid = (pid_t)check(clone(wait_in_new_userns, stack + sizeof stack, CLONE_VM | CLONE_NEWUSER | SIGCHLD, NULL), "clone");
  char path[64], map[64];
  snprintf(map, sizeof map, "0 %u %u\n", first, IDS);
  snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
  put(path, map);
  snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
  put(path, map);
  snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
  int result = (int)check(open(path, O_RDONLY | O_CLOEXEC), path);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  return result;
}

static void make_directory(const char *parent, const char *name, char *path) {
  errno = ENAMETOOLONG;
  check(snprintf(path, 256, "%s/%s", parent, name) < 256 ? 0 : -1, name);
  check(mkdir(path, 0755), path);
}

static void set_limits(const char *group, const char *pay) {
  char path[300];
  snprintf(path, sizeof path, "%s/cgroup.subtree_control", group);
  put(path, "+cpu +memory +pids");
  snprintf(path, sizeof path, "%s/cpu.max", pay);
  put(path, "200000 100000");
  snprintf(path, sizeof path, "%s/memory.max", pay);
  put(path, "268435456");
  snprintf(path, sizeof path, "%s/memory.swap.max", pay);
  put(path, "0");
  snprintf(path, sizeof path, "%s/memory.oom.group", pay);
  put(path, "1");
  snprintf(path, sizeof path, "%s/pids.max", pay);
  put(path, "64");
}

// Not CLONE_VM as in the service: this process is so small that copying it costs next to nothing.
static pid_t spawn(const struct worker *worker, int init_group, int userns, int pay, int output) {
  struct clone_args args = {
      .flags = CLONE_INTO_CGROUP | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
      .exit_signal = SIGCHLD,
      .cgroup = (uint64_t)init_group,
  };
  char *argv[64] = {"floor", "--sandbox", (char *)worker->work, (char *)worker->staging, (char *)worker->program};
  int count = 5;
  for (char **mount = worker->mounts; *mount != NULL && count < 63; mount++) argv[count++] = *mount;
  char *envp[] = {NULL};
  long pid = check(syscall(SYS_clone3, &args, sizeof args), "clone3");
  if (pid > 0) return (pid_t)pid;
  dup2(userns, FD_USERNS);
  dup2(pay, FD_PAY);
  dup2(output, FD_OUT);
  dup2(worker->filter, FD_FILTER);
  syscall(SYS_execveat, worker->self, "", argv, envp, AT_EMPTY_PATH);
  _exit(127);
}

static void run_one(struct worker *worker, unsigned number) {
  char name[64], pay[256], init[256], outer[256];
  int userns = make_userns(1700000000u + (uint32_t)(worker->number * 64 + (int)(number % 64)) * IDS);
  snprintf(name, sizeof name, "w%d-%u", worker->number, number);
  make_directory(worker->cgroup, name, worker->group);
  make_directory(worker->group, "init", init);
  make_directory(worker->group, "pay", pay);
  if (worker->limits) set_limits(worker->group, pay);
  make_directory(worker->folder, name, outer);
  make_directory(outer, "work", worker->work);
  check(chown(worker->work, 65534, 65534), "chown");
  int init_group = (int)check(open(init, O_RDONLY | O_DIRECTORY | O_CLOEXEC), init);
  int pay_group = (int)check(open(pay, O_RDONLY | O_DIRECTORY | O_CLOEXEC), pay);
  int pipes[2];
  check(pipe2(pipes, O_CLOEXEC), "pipe");

  pid_t child = spawn(worker, init_group, userns, pay_group, pipes[1]);
  close(pipes[1]);
  char text[4096];
  ssize_t length;
  while ((length = read(pipes[0], text, sizeof text)) > 0) check(write(worker->log, text, (size_t)length), "log");
  int status;
  check(waitpid(child, &status, 0), "waitpid");
  if (status != 0) {
    fprintf(stderr, "floor: a sandbox ended with %x\n", status);
    _exit(1);
  }
  close(pipes[0]);
  close(init_group);
  close(pay_group);
  close(userns);
  check(rmdir(pay), pay);
  check(rmdir(init), init);
  check(rmdir(worker->group), worker->group);
  check(rmdir(worker->work), worker->work);
  check(rmdir(outer), outer);
}

int main(int count, char **arguments) {
  if (count > 1 && strcmp(arguments[1], "--sandbox") == 0) return sandbox_main(count - 2, arguments + 2);
  if (count < 8) {
    fprintf(stderr, "floor SECONDS WORKERS FOLDER CGROUP FILTER limits|none PROGRAM MOUNT…\n");
    return 2;
  }
  int workers = atoi(arguments[2]);
  unsigned *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (done == MAP_FAILED || workers < 1 || workers > 64) return 2;
  double deadline = seconds() + atof(arguments[1]);
  for (int i = 0; i < workers; i++) {
    if (check(fork(), "fork") != 0) continue;
    struct worker worker = {.folder = arguments[3],
                            .cgroup = arguments[4],
                            .filter = (int)check(open(arguments[5], O_RDONLY | O_CLOEXEC), arguments[5]),
                            .limits = strcmp(arguments[6], "limits") == 0,
                            .program = arguments[7],
                            .mounts = arguments + 8,
                            .number = i,
                            .self = (int)check(open("/proc/self/exe", O_PATH | O_CLOEXEC), "/proc/self/exe")};
    char log[300];
    snprintf(log, sizeof log, "%s/log-%d", arguments[3], i);
    worker.log = (int)check(open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), log);
    snprintf(worker.staging, sizeof worker.staging, "%s/root-%d", arguments[3], i);
    if (mkdir(worker.staging, 0755) && errno != EEXIST) check(-1, worker.staging);
    while (seconds() < deadline) run_one(&worker, done[i]++);
    _exit(0);
  }
  int failed = 0;
  for (int status; wait(&status) > 0;) failed |= status != 0;
  unsigned sum = 0;
  for (int i = 0; i < workers; i++) sum += done[i];
  printf("%u\n", sum);
  return failed;
}
