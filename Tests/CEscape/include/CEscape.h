// What the attacks need and Swift can't say: raw system calls, fork, foreign calling conventions. For Tests/escape-payload only.
#pragma once
#include <stdint.h>

// A system call by the kernel's number: a value >= 0, or -errno.
long escape_call(long number, long a, long b, long c, long d, long e, long f);

// The number of a system call by its name, or -1 where this architecture has none.
long escape_number(const char *name);

// "EPERM" for 1; "errno 9999" for what the C library does not know.
const char *escape_error_name(int number);

// Runs `body` in a forked child and waits. Returns the wait status; body's result is the exit code.
int escape_in_child(int (*body)(void *), void *context);

// Forks and leaves the child to itself. Returns its pid, or -errno.
long escape_fork(int (*body)(void *), void *context);

// fork by clone(2) with these flags and exit signal (no CLONE_VM). Returns the child's pid, or -errno; the child ends with 0.
long escape_clone(unsigned long flags);

// getpid by the calling conventions of 32-bit programs and of x32. On other architectures -ENOSYS.
long escape_call_32bit(void);
long escape_call_x32(void);

// Ends this process by a wild write.
void escape_crash(void);

// ioctl(2), the request as 64 bits: the result, or -errno.
long escape_ioctl(int fd, unsigned long request, void *argument);
