// Calls without a wrapper in the C libraries we build with, or whose wrapper would set errno.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "CLinux.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static int result(long value) { return value < 0 ? -errno : (int)value; }

int cl_pidfd_open(pid_t pid) { return result(syscall(SYS_pidfd_open, pid, 0)); }

int cl_pidfd_send_signal(int pidfd, int signal) {
  return result(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

int cl_wait_pidfd(int pidfd, int flags, int *code, int *status) {
  siginfo_t info;
  int failed;
  do {
    memset(&info, 0, sizeof info);
    failed = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | flags);
  } while (failed && errno == EINTR);
  if (failed) return -errno;
  if (info.si_pid == 0) return 0;
  *code = info.si_code;
  *status = info.si_status;
  return 1;
}

int cl_memfd_create(const char *name) { return result(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)); }

int cl_seal(int memfd) {
  return result(fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
}

int cl_open_path(const char *path) {
  int value;
  do value = result(open(path, O_PATH | O_CLOEXEC));
  while (value == -EINTR);
  return value;
}

int cl_detached_mount(const char *path, int user_namespace, int read_only) {
  int mount = result(syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  if (mount < 0) return mount;
  // All of it before anyone can reach the mount: an ID map can be set only once, and only then.
  struct mount_attr attributes = {
      .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, .propagation = 1 << 18 /* MS_PRIVATE */};
  if (read_only) attributes.attr_set |= MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC;
  if (user_namespace >= 0) {
    attributes.attr_set |= MOUNT_ATTR_IDMAP;
    attributes.userns_fd = (uint64_t)user_namespace;
  }
  int failed = result(syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
  if (failed >= 0) return mount;
  close(mount);
  return failed;
}

int cl_set_hostname(int own, int other, const char *name, size_t length) {
  int entered = result(setns(other, CLONE_NEWUTS));
  if (entered < 0) return entered;
  int set = result(sethostname(name, length));
  if (setns(own, CLONE_NEWUTS)) __builtin_trap();
  return set;
}

int cl_exchange(const char *one, const char *other) {
  return result(syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2 /* RENAME_EXCHANGE */));
}

int cl_fallocate(int fd, int64_t offset, int64_t length) {
  int value;
  do value = result(fallocate(fd, 0, offset, length));
  while (value == -EINTR);
  return value;
}

int cl_open_beneath(int directory, const char *path, int flags, unsigned mode) {
  struct open_how how = {
      .flags = (uint64_t)(unsigned)flags,
      .mode = mode,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  };
  int value;
  do value = result(syscall(SYS_openat2, directory, path, &how, sizeof how));
  while (value == -EINTR || value == -EAGAIN);
  return value;
}

const char *cl_error_name(int number) { return strerrorname_np(number); }

const char *cl_error_text(int number) { return strerrordesc_np(number); }
