// The first phase of a plan: joblet-init, as host root in new namespaces, builds a root and enters it. The template's plan makes
// what all jobs share, once; a sandbox's adds to a copy of that what is each job's own. No process of a job exists yet, so nobody
// can swap a path between two steps.
#include <asm/ioctls.h>
#include <asm/stat.h>
#include <linux/fcntl.h>
#include <linux/if.h>
#include <linux/in.h>
#include <linux/mount.h>
#include <linux/sockios.h>
#include <linux/socket.h>
#include <linux/stat.h>

#include "init.h"

#define AT_RECURSIVE_FLAG 0x8000
#define S_KIND 0170000
#define S_DIRECTORY 0040000
#define S_SYMLINK 0120000
#define S_CHARACTERS 0020000
#define PROPAGATION_PRIVATE (1 << 18)  // MS_PRIVATE
#define UNMOUNT_DETACH 2               // MNT_DETACH

// The plan's paths inside the root are absolute; until pivot_root they are looked up from the staging directory.
static const char *inside(const char *path) {
  while (*path == '/') path++;
  return *path == 0 ? "." : path;
}

static long close_with(int fd, long result) {
  sys(close, fd);
  return result;
}

static long file_kind(const char *path, unsigned flags) {
  struct statx status;
  long result = sys(statx, AT_FDCWD, path, flags, STATX_TYPE, &status);
  return result < 0 ? result : status.stx_mode & S_KIND;
}

// Makes every directory above `path`; those that are there stay as they are.
static long make_parents(const char *path) {
  char part[4096];
  size_t length = strlen(path);
  if (length >= sizeof part) return -ENAMETOOLONG;
  for (size_t i = 0; i < length; i++) {
    part[i] = path[i];
    if (path[i] != '/' || i == 0) continue;
    part[i] = 0;
    long result = sys(mkdirat, AT_FDCWD, part, 0755);
    if (result < 0 && result != -EEXIST) return result;
    part[i] = '/';
  }
  return 0;
}

static long make_directory(const char *path) {
  long result = make_parents(path);
  if (result < 0) return result;
  result = sys(mkdirat, AT_FDCWD, path, 0755);
  return result == -EEXIST ? 0 : result;
}

static long make_empty_file(const char *path) {
  long result = make_parents(path);
  if (result < 0) return result;
  long fd = sys(openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
  return fd < 0 ? fd : close_with((int)fd, 0);
}

// Opens a copy of the mounts at `source`, sets their attributes while nobody can reach them, and puts them at `target`.
static long bind_tree(const char *source, const char *target, struct mount_attr *attributes, unsigned recursive) {
  long tree = sys(open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | recursive);
  if (tree < 0) return tree;
  attributes->propagation = PROPAGATION_PRIVATE;
  long result = sys(mount_setattr, tree, "", AT_EMPTY_PATH | recursive, attributes, sizeof *attributes);
  if (result >= 0) result = sys(move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  return close_with((int)tree, result);
}

long bind_attributes(const char *path, uint64_t attributes) {
  struct mount_attr set = {.attr_set = attributes};
  return sys(mount_setattr, AT_FDCWD, path, 0, &set, sizeof set);
}

long mount_tmpfs(const char *target, uint64_t size, uint64_t mode, unsigned long flags) {
  struct text options = {.length = 0};
  text_string(&options, "size=");
  text_number(&options, size, 10);
  text_string(&options, ",mode=");
  text_number(&options, mode, 8);
  // Empty files cost kernel memory and no space: without this bound `size` would bound nothing.
  text_string(&options, ",nr_inodes=");
  text_number(&options, size / 1024 < 1024 ? 1024 : size / 1024, 10);
  return sys(mount, "tmpfs", target, "tmpfs", flags, options.bytes);
}

static long loopback_up(void) {
  long fd = sys(socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */, 0);
  if (fd < 0) return fd;
  struct ifreq request = {.ifr_name = "lo"};
  long result = sys(ioctl, fd, SIOCGIFFLAGS, &request);
  request.ifr_flags |= IFF_UP;
  if (result >= 0) result = sys(ioctl, fd, SIOCSIFFLAGS, &request);
  return close_with((int)fd, result);
}

static long make_root(const char *staging, uint64_t size) {
  long result = mount_tmpfs(staging, size, 0755, MS_NOSUID | MS_NODEV);
  return result < 0 ? result : sys(chdir, staging);
}

// A symlink such as /bin -> usr/bin is made anew: following it would mount the same files twice, and leave out that they are one.
static long bind_from_host(const char *source, const char *target, unsigned flags) {
  long kind = file_kind(source, AT_SYMLINK_NOFOLLOW);
  if (kind == -ENOENT && flags & JOBLET_FLAG_OPTIONAL) return 0;
  if (kind < 0) return kind;
  if (kind == S_SYMLINK) {
    char link[4096];
    long length = sys(readlinkat, AT_FDCWD, source, link, sizeof link - 1);
    if (length < 0) return length;
    link[length] = 0;
    long result = make_parents(target);
    return result < 0 ? result : sys(symlinkat, link, AT_FDCWD, target);
  }
  long result = kind == S_DIRECTORY ? make_directory(target) : make_empty_file(target);
  if (result < 0) return result;
  // nosuid and nodev on everything from the host: no_new_privs and the empty bounding set say the same once more.
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
  if (flags & JOBLET_FLAG_READ_ONLY) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  if (flags & JOBLET_FLAG_NO_EXEC) attributes.attr_set |= MOUNT_ATTR_NOEXEC;
  return bind_tree(source, target, &attributes, AT_RECURSIVE_FLAG);
}

// What is to be covered, as a descriptor: what is looked at is what is mounted on, whatever the path leads to by then.
static long open_target(const char *path) { return sys(openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC); }

static long mount_on(int mount, int target) {
  return sys(move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

// The root's own /dev/null as a mount by itself. Checked to be that device: runc masked with whatever stood at the path
// (CVE-2025-31133).
static long null_device(void) {
  long tree = sys(open_tree, AT_FDCWD, "dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
  if (tree < 0) return tree;
  struct statx status;
  long result = sys(statx, tree, "", AT_EMPTY_PATH, STATX_TYPE, &status);
  if (result >= 0 && ((status.stx_mode & S_KIND) != S_CHARACTERS || status.stx_rdev_major != 1 || status.stx_rdev_minor != 3))
    result = -ENODEV;
  return result < 0 ? close_with((int)tree, result) : tree;
}

static long empty_directory(void) {
  long context = sys(fsopen, "tmpfs", FSOPEN_CLOEXEC);
  if (context < 0) return context;
  long result = sys(fsconfig, context, FSCONFIG_SET_STRING, "nr_inodes", "2", 0);
  if (result >= 0) result = sys(fsconfig, context, FSCONFIG_SET_STRING, "mode", "0555", 0);
  if (result >= 0) result = sys(fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0);
  if (result >= 0) result = sys(fsmount, context, FSMOUNT_CLOEXEC, 0);
  return close_with((int)context, result);
}

static long cover(int target, long mount) {
  if (mount < 0) return mount;
  struct mount_attr attributes = {
      .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, .propagation = PROPAGATION_PRIVATE};
  long result = sys(mount_setattr, mount, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
  if (result >= 0) result = mount_on((int)mount, target);
  return close_with((int)mount, result);
}

static long mask(const char *path) {
  long target = open_target(path);
  if (target == -ENOENT) return 0;
  if (target < 0) return target;
  struct statx status;
  long result = sys(statx, target, "", AT_EMPTY_PATH, STATX_TYPE, &status);
  if (result >= 0)
    result = cover((int)target, (status.stx_mode & S_KIND) == S_DIRECTORY ? empty_directory() : null_device());
  return close_with((int)target, result);
}

static long make_read_only(const char *path) {
  long target = open_target(path);
  if (target == -ENOENT) return 0;
  if (target < 0) return target;
  long tree =
      sys(open_tree, target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE_FLAG);
  if (tree < 0) return close_with((int)target, tree);
  struct mount_attr attributes = {
      .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
      .propagation = PROPAGATION_PRIVATE};
  long result = sys(mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE_FLAG, &attributes, sizeof attributes);
  if (result >= 0) result = mount_on((int)tree, (int)target);
  close_with((int)tree, 0);
  return close_with((int)target, result);
}

// Puts a mount that exec made, and that nobody else has, at its place.
static long mount_inherited(int mount, const char *target) {
  long result = sys(move_mount, mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  return close_with(mount, result);
}

static long make_link(const char *path, const char *content) {
  long result = make_parents(path);
  return result < 0 ? result : sys(symlinkat, content, AT_FDCWD, path);
}

static long write_file(const char *path, const char *content, uint64_t mode) {
  long result = make_parents(path);
  if (result < 0) return result;
  long fd = sys(openat, AT_FDCWD, path, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, mode);
  if (fd < 0) return fd;
  size_t length = strlen(content);
  for (size_t written = 0; written < length;) {
    long count = sys(write, fd, content + written, length - written);
    if (count <= 0) return close_with((int)fd, count == 0 ? -EIO : count);
    written += (size_t)count;
  }
  return close_with((int)fd, 0);
}

static long pivot(void) {
  // New and old root on one path: the old one lies over the new, and its detachment uncovers it. No directory for it is
  // needed, so none is left behind.
  long result = sys(pivot_root, ".", ".");
  if (result < 0) return result;
  // Detached before anything of the job runs: a reference to the host's root kept anywhere is the whole host.
  result = sys(umount2, ".", UNMOUNT_DETACH);
  return result < 0 ? result : sys(chdir, "/");
}

static long proc(void) {
  // hidepid: a job that runs as several users must not see PID 1 (nor its /proc/1/exe, the host's program).
  return sys(mount, "proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2");
}

static long tmpfs_at(const char *target, uint64_t size, uint64_t mode, unsigned flags) {
  return mount_tmpfs(target, size, mode, MS_NOSUID | MS_NODEV | (flags & JOBLET_FLAG_NO_EXEC ? MS_NOEXEC : 0));
}

static long run(const struct joblet_plan_cursor *at) {
  const struct joblet_plan_step *step = at->step;
  const char *first = step->strings > 0 ? joblet_plan_string(at, 0) : "";
  switch ((enum joblet_plan_op)step->op) {
    // First: a mount made while the namespace still shares its peers' events would appear on the host.
    case JOBLET_OP_PRIVATE_MOUNTS: return sys(mount, 0, "/", 0, MS_REC | MS_PRIVATE, 0);
    case JOBLET_OP_LOOPBACK: return loopback_up();
    case JOBLET_OP_ROOT: return make_root(first, step->n[0]);
    case JOBLET_OP_BIND: return bind_from_host(first, inside(joblet_plan_string(at, 1)), step->flags);
    case JOBLET_OP_TMPFS: return tmpfs_at(inside(first), step->n[0], step->n[1], step->flags);
    case JOBLET_OP_DEVICES: return make_devices();
    case JOBLET_OP_MOUNT_POINT: return make_directory(inside(first));
    case JOBLET_OP_SYMLINK: return make_link(inside(first), joblet_plan_string(at, 1));
    case JOBLET_OP_TERMINALS: return mount_terminals();
    case JOBLET_OP_WORKSPACE: return mount_inherited(JOBLET_FD_WORK, inside(first));
    case JOBLET_OP_FACTS: return mount_inherited(JOBLET_FD_FACTS, inside(first));
    case JOBLET_OP_PROC: return proc();
    case JOBLET_OP_MASK: return mask(inside(first));
    case JOBLET_OP_READ_ONLY_PATH: return make_read_only(inside(first));
    case JOBLET_OP_FILE: return write_file(inside(first), joblet_plan_string(at, 1), step->n[0]);
    case JOBLET_OP_PIVOT: return pivot();
    // After the files of /etc are written; nothing below this mount is touched (not recursive).
    case JOBLET_OP_READ_ONLY_ROOT:
      return bind_attributes("/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    case JOBLET_OP_LANDLOCK_RULES: return make_ruleset(step->n[0], step->n[1]);
    case JOBLET_OP_LANDLOCK_ALLOW: return allow_below(first, step->n[0]);
    // Last: the payload's filter relies on it.
    case JOBLET_OP_VIOLATIONS: return listen_for_violations(at);
    default: return -EINVAL;
  }
}

struct failure build_root(struct init *init) {
  struct joblet_plan_cursor at = {0};
  // Paths inside are looked up from here: the template's root, or (from its own step on) a new one.
  sys(chdir, "/");
  while (joblet_plan_next(&init->plan, &at) && at.step->op >> 8 == 1) {
    long result = run(&at);
    if (result < 0) return (struct failure){JOBLET_SETUP_STEP(at.step->op, at.index), (int)-result};
  }
  return (struct failure){0};
}
