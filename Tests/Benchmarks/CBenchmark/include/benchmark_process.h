#pragma once
#include <stdint.h>

/// What the benchmarks need of Linux and Swift's Glibc does not show. Returns are 0 or more, or -errno.

/// Gives the calling thread, and what it starts, a mount namespace of its own in which `/sys/fs/cgroup` is cgroup v2, as on any
/// host where that is all there is. `cgroup2` is where it is mounted now.
int benchmark_own_mounts(const char *cgroup2);

/// 1 if `path` lies on a cgroup v2 file system.
int benchmark_is_cgroup2(const char *path);

/// Starts `path` without arguments, its standard error a pipe. Returns the nanoseconds from the call of execve to the first
/// byte that came out of the pipe, or -errno.
int64_t benchmark_first_word(const char *path);
