#define _GNU_SOURCE
#include "CEscape.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

long escape_call(long number, long a, long b, long c, long d, long e, long f) {
  if (number < 0) return -ENOSYS;
  long result = syscall(number, a, b, c, d, e, f);
  return result == -1 ? -errno : result;
}

struct call {
  const char *name;
  long number;
};

#define CALL(name) {#name, __NR_##name},
static const struct call calls[] = {
    CALL(accept4) CALL(acct) CALL(add_key) CALL(adjtimex) CALL(bpf) CALL(capset) CALL(chroot) CALL(clock_adjtime)
    CALL(clock_settime) CALL(clone3) CALL(delete_module) CALL(epoll_create1) CALL(fanotify_init) CALL(finit_module) CALL(fsconfig) CALL(fsmount)
    CALL(fsopen) CALL(fspick) CALL(init_module) CALL(io_setup) CALL(io_uring_enter) CALL(io_uring_register)
    CALL(io_uring_setup) CALL(ioctl) CALL(kcmp) CALL(kexec_load) CALL(keyctl) CALL(kill) CALL(lookup_dcookie)
    CALL(mbind) CALL(memfd_create) CALL(migrate_pages) CALL(mmap) CALL(mount) CALL(mount_setattr) CALL(move_mount)
    CALL(move_pages) CALL(mq_open) CALL(name_to_handle_at) CALL(nfsservctl) CALL(open_by_handle_at) CALL(open_tree)
    CALL(openat2) CALL(perf_event_open) CALL(personality) CALL(pidfd_getfd) CALL(pidfd_open) CALL(pidfd_send_signal)
    CALL(pipe2) CALL(pivot_root) CALL(prctl) CALL(prlimit64) CALL(process_madvise) CALL(process_vm_readv)
    CALL(process_vm_writev) CALL(ptrace) CALL(quotactl) CALL(quotactl_fd) CALL(reboot) CALL(request_key)
    CALL(rt_sigqueueinfo) CALL(sched_setaffinity) CALL(seccomp) CALL(set_mempolicy) CALL(setdomainname)
    CALL(setgroups) CALL(sethostname) CALL(setns) CALL(setpriority) CALL(setresgid) CALL(setresuid)
    CALL(settimeofday) CALL(shmget) CALL(socket) CALL(socketpair) CALL(swapoff) CALL(swapon) CALL(syslog) CALL(tgkill)
    CALL(umount2) CALL(unshare) CALL(userfaultfd) CALL(vhangup)
#ifdef __NR_kexec_file_load
    CALL(kexec_file_load)
#endif
#ifdef __NR_memfd_secret
    CALL(memfd_secret)
#endif
#ifdef __NR_ioperm
    CALL(iopl) CALL(ioperm) CALL(modify_ldt) CALL(uselib) CALL(ustat) CALL(sysfs) CALL(_sysctl)
#endif
};

long escape_number(const char *name) {
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    if (strcmp(calls[i].name, name) == 0) return calls[i].number;
  return -1;
}

const char *escape_error_name(int number) {
  static char unknown[32];
  const char *name = strerrorname_np(number);
  if (name != NULL) return name;
  snprintf(unknown, sizeof unknown, "errno %d", number);
  return unknown;
}

long escape_fork(int (*body)(void *), void *context) {
  pid_t pid = fork();
  if (pid == 0) _exit(body(context));
  return pid < 0 ? -errno : pid;
}

int escape_in_child(int (*body)(void *), void *context) {
  long pid = escape_fork(body, context);
  int status = 0;
  if (pid < 0) return (int)pid;
  while (waitpid((pid_t)pid, &status, 0) < 0 && errno == EINTR) {}
  return status;
}

long escape_clone(unsigned long flags) {
  long result = syscall(__NR_clone, flags, 0, 0, 0, 0);
  if (result == 0) _exit(0);
  return result < 0 ? -errno : result;
}

long escape_call_32bit(void) {
#if defined(__x86_64__)
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
  return result;
#else
  return -ENOSYS;
#endif
}

long escape_call_x32(void) {
#if defined(__x86_64__)
  long result = syscall(0x40000000 | 39);
  return result < 0 ? -errno : result;
#else
  return -ENOSYS;
#endif
}

void escape_crash(void) { *(volatile int *)8 = 1; }

long escape_ioctl(int fd, unsigned long request, void *argument) {
  // By the raw call, for the C library's would cut the request to 32 bits, and an attack lies above them.
  long result = syscall(__NR_ioctl, (long)fd, request, argument);
  return result < 0 ? -errno : result;
}
