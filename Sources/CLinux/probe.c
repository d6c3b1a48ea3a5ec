// What the kernel can do, asked without changing anything.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "CLinux.h"

// LANDLOCK_CREATE_RULESET_VERSION
int cl_landlock_abi(void) {
  long value = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
  return value < 0 ? -errno : (int)value;
}

int cl_seccomp_action_available(uint32_t action) {
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? -errno : 0;
}

int cl_clone_into_cgroup_known(void) {
  struct clone_args arguments;
  memset(&arguments, 0, sizeof arguments);
  // No process comes of it: there is no such descriptor, which only a kernel says that looks for one.
  arguments.flags = CLONE_INTO_CGROUP;
  arguments.exit_signal = SIGCHLD;
  arguments.cgroup = INT_MAX;
  long value = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (value == 0) _exit(0);
  return value > 0 || errno == EBADF ? 0 : -errno;
}

int cl_idmapped_mount_possible(const char *path, int user_namespace) {
  long tree = syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) return -errno;
  struct mount_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = (uint64_t)user_namespace;
  int value = syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0 ? -errno : 0;
  // Never attached anywhere: it is gone with its descriptor.
  close((int)tree);
  return value;
}

int64_t cl_file_system_type(const char *path) {
  struct statfs status;
  return statfs(path, &status) < 0 ? -errno : (int64_t)status.f_type;
}
