// A job's /dev: the few devices that are nobody's, and nothing of the host's. The template has them once for all jobs; terminals
// and shared memory are each job's own.
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/stat.h>

#include "init.h"

static const struct {
  const char *path;
  unsigned minor_of_memory;  // major 1
} memory_devices[] = {{"dev/null", 3}, {"dev/zero", 5}, {"dev/full", 7}, {"dev/random", 8}, {"dev/urandom", 9}};

static const char *const links[][2] = {
    {"/proc/self/fd", "dev/fd"},         {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
    {"/proc/self/fd/2", "dev/stderr"},   {"pts/ptmx", "dev/ptmx"},
};

static long make_node(const char *path, unsigned major, unsigned minor) {
  return sys(mknodat, AT_FDCWD, path, S_IFCHR | 0666, major << 8 | minor);
}

long make_devices(void) {
  long result = sys(mkdirat, AT_FDCWD, "dev", 0755);
  // The one mount of a job on which device nodes work; so it is the job's to read, never to write.
  if (result >= 0) result = mount_tmpfs("dev", 64 << 10, 0755, MS_NOSUID | MS_NOEXEC);
  for (size_t i = 0; i < sizeof memory_devices / sizeof *memory_devices && result >= 0; i++)
    result = make_node(memory_devices[i].path, 1, memory_devices[i].minor_of_memory);
  if (result >= 0) result = make_node("dev/tty", 5, 0);
  for (size_t i = 0; i < sizeof links / sizeof *links && result >= 0; i++)
    result = sys(symlinkat, links[i][0], AT_FDCWD, links[i][1]);
  if (result >= 0) result = sys(mkdirat, AT_FDCWD, "dev/pts", 0755);
  if (result >= 0) result = sys(mkdirat, AT_FDCWD, "dev/shm", 0755);
  if (result >= 0) result = bind_attributes("dev", MOUNT_ATTR_RDONLY);
  return result;
}

long mount_terminals(void) {
  // An instance of its own: the host's terminals have no names here, nor have other jobs'. `max`: the number of terminals of all
  // instances together is bounded (kernel.pty.max), and one job must not take them all.
  return sys(mount, "devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,max=64");
}
