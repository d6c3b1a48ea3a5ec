// What the kernel can do, asked without changing anything.
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "CLinux.h"

// LANDLOCK_CREATE_RULESET_VERSION
int cl_landlock_abi(void) {
  long value = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
  return value < 0 ? -errno : (int)value;
}
