// Linux calls that Swift cannot make: a clone whose child must run no Swift, and calls without a libc wrapper.
// Every function returns a value >= 0, or -errno; nothing touches errno.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// What cl_spawn_init needs. All descriptors are the caller's and stay open.
struct cl_spawn {
  int executable;            // joblet-init, opened with O_PATH or O_RDONLY
  int null;                  // /dev/null, read-write: becomes 0, 1 and 2
  int cgroup;                // directory of the cgroup the child is born in
  int mount_namespace;       // the child gets a copy of this one's mounts; -1: of the caller's
  const int *descriptors;    // become 3, 4, 5 ... in the child
  uint32_t descriptor_count; // at most CL_SPAWN_MAX_DESCRIPTORS
  const char *name;          // argv[0]
};

enum { CL_SPAWN_MAX_DESCRIPTORS = 16 };

// The step of the child that failed: which part of cl_spawn_init an error is about.
enum cl_spawn_step {
  CL_SPAWN_CLONE = 0,
  CL_SPAWN_DESCRIPTORS = 1,
  CL_SPAWN_CLOSE = 2,
  CL_SPAWN_EXEC = 3,
  CL_SPAWN_ENTER = 4,    // setns into mount_namespace
  CL_SPAWN_UNSHARE = 5,  // a mount namespace of its own
};

// Starts joblet-init in new pid, mount, network, ipc and uts namespaces inside `cgroup`. The calling thread waits until the
// exec has happened (vfork); the address space is shared until then, so the cost does not grow with the caller's memory.
// Returns the pid and sets *pidfd (close-on-exec), or -errno and sets *step.
pid_t cl_spawn_init(const struct cl_spawn *spawn, int *pidfd, int *step);

// Makes a user namespace whose IDs 0 to `count`-1 are the host's `first` on, both for users and groups. Returns a
// descriptor of it (close-on-exec), or -errno. Takes about 0.3 ms: keep some in stock.
int cl_make_user_namespace(uint32_t first, uint32_t count);

int cl_pidfd_open(pid_t pid);
int cl_pidfd_send_signal(int pidfd, int signal);

// Waits for a child and reaps it. `flags` may hold WNOHANG. Returns 1 and sets *code (CLD_EXITED, CLD_KILLED ...) and
// *status, 0 if it still runs, or -errno (-ECHILD: not our child, as after a restart).
int cl_wait_pidfd(int pidfd, int flags, int *code, int *status);

// An anonymous file in memory, close-on-exec; cl_seal then forbids every change of it.
int cl_memfd_create(const char *name);
int cl_seal(int memfd);

// open(2) with O_PATH | O_CLOEXEC: a file to execute or to look at, not to read.
int cl_open_path(const char *path);

// A copy of the mount at `path` (not of those below it) that nobody can reach but by the returned descriptor: nosuid and nodev,
// with `read_only` read-only and noexec too; through the ID maps of `user_namespace` unless that is -1 (mount_setattr(2)).
int cl_detached_mount(const char *path, int user_namespace, int read_only);

// Sets the host name of another uts namespace. `own` is the caller's: the calling thread is back in it afterwards; if it can't
// go back, the process ends rather than to go on with a thread in a job's namespace.
int cl_set_hostname(int own, int other, const char *name, size_t length);

// renameat2(2) with RENAME_EXCHANGE: both paths exist, before and after.
int cl_exchange(const char *one, const char *other);

int cl_fallocate(int fd, int64_t offset, int64_t length);

// openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS: a path that can't lead anywhere else.
int cl_open_beneath(int directory, const char *path, int flags, unsigned mode);

// The version of Landlock's interface (1 or more), -ENOSYS without it, -EOPNOTSUPP if it is turned off.
int cl_landlock_abi(void);

// 0 if the kernel's seccomp knows the action (SECCOMP_RET_*), else -errno.
int cl_seccomp_action_available(uint32_t action);

// 0 if clone3 knows CLONE_INTO_CGROUP, else -errno. Makes no process.
int cl_clone_into_cgroup_known(void);

// 0 if files below `path` can be mounted through the user namespace's ID map, else -errno. Takes root; mounts nothing anywhere.
int cl_idmapped_mount_possible(const char *path, int user_namespace);

// statfs(2)'s f_type (the magic numbers of linux/magic.h), or -errno.
int64_t cl_file_system_type(const char *path);

// The name (`ENOENT`) and the sentence of an error number; NULL for one that does not exist. Thread-safe, unlike strerror.
const char *cl_error_name(int number);
const char *cl_error_text(int number);

// The project an inode is counted for (0: none), and whether what is made in it is counted for the same. 0 or -errno; a
// file system that knows no projects says -ENOTTY, -EOPNOTSUPP or -EINVAL.
int cl_project_get(int fd, uint32_t *id, int *inherits);
// Counts the directory, and what will be made in it, for project `id`. What is in it already stays where it is counted.
int cl_project_set(int fd, uint32_t id);

enum cl_quota_state { CL_QUOTA_OFF = 0, CL_QUOTA_COUNTED = 1, CL_QUOTA_ENFORCED = 2 };
// What the file system of `fd` does with project quotas: one of the above, or -errno (-ENOSYS: it has none at all).
int cl_quota_state(int fd);

struct cl_quota {
  uint64_t limit_bytes, limit_inodes; // 0: no limit
  uint64_t used_bytes, used_inodes;
};
// Limits and use of a project on the file system of `fd` (quotactl_fd(2)). -ENOENT: it never had either.
int cl_quota_get(int fd, uint32_t id, struct cl_quota *quota);
// The same for the first project from *id on that has some; sets *id. -ENOENT: there is no more.
int cl_quota_next(int fd, uint32_t *id, struct cl_quota *quota);
// Sets the hard limits, in whole KiB rounded down; 0: no limit. No soft ones, so no grace period.
int cl_quota_set(int fd, uint32_t id, uint64_t limit_bytes, uint64_t limit_inodes);
