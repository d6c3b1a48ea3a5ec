// Landlock (landlock(7)): what of its own root a job may open, once more and by another mechanism than mounts and permissions. A
// path that none of the rules lies above, such as one through a descriptor of the host that leaked, can't be opened at all.
#include <linux/fcntl.h>
#include <linux/landlock.h>
#include <linux/stat.h>

#include "init.h"

enum { S_KIND = 0170000, S_DIRECTORY = 0040000, S_SYMLINK = 0120000 };

// EXECUTE, WRITE_FILE, READ_FILE, TRUNCATE and IOCTL_DEV: the rights that a rule for a file may hold. By number, for the last two
// are younger than the headers of some distributions.
#define FILE_RIGHTS (1ull << 0 | 1ull << 1 | 1ull << 2 | 1ull << 14 | 1ull << 15)

static int ruleset = -1;

long make_ruleset(uint64_t rights, uint64_t scoped) {
  // struct landlock_ruleset_attr of ABI 6. An older kernel takes it too, as long as what it does not know is zero. The network is
  // not handled: its rules are for single ports, and a job's ports are its own, in its network namespace.
  uint64_t attributes[3] = {rights, 0, scoped};
  long result = sys(landlock_create_ruleset, attributes, sizeof attributes, 0);
  if (result >= 0) ruleset = (int)result;
  return result;
}

long allow_below(const char *path, uint64_t rights) {
  long fd = sys(openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd == -ENOENT) return 0;  // an allowed mount that this host does not have
  if (fd < 0) return fd;
  struct statx status;
  long result = sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &status);
  uint32_t kind = status.stx_mode & S_KIND;
  // A symlink is no place of its own: what it leads to has a rule, or none.
  if (result >= 0 && kind != S_SYMLINK) {
    struct landlock_path_beneath_attr rule = {
        .allowed_access = kind == S_DIRECTORY ? rights : rights & FILE_RIGHTS, .parent_fd = (int)fd};
    result = sys(landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
  }
  sys(close, fd);
  return result;
}

long enter_ruleset(void) { return sys(landlock_restrict_self, ruleset, 0); }

void close_ruleset(void) {
  if (ruleset >= 0) sys(close, ruleset);
  ruleset = -1;
}
