// Calls that no program of a job has a reason to make: who tries one is stopped in it, reported and ended with its whole job.
#include <linux/filter.h>
#include <linux/ioctl.h>
#include <linux/seccomp.h>

#include "init.h"

static int listener = -1;

// A filter that answers SECCOMP_RET_USER_NOTIF for those calls alone (seccomp_unotify(2)), with its listener. PID 1 takes it on
// itself before it clones the payload, so every process of the job has it and none can take it off; the listener stays with PID 1.
// The payload's own filter lets exactly these calls through to it: it has to be there first, see load_payload_filter.
long listen_for_violations(const struct joblet_plan_cursor *at) {
  if (at->step->length / sizeof(struct sock_filter) > BPF_MAXINSNS) return -EINVAL;
  struct sock_fprog program = {
      .len = (unsigned short)(at->step->length / sizeof(struct sock_filter)),
      .filter = (struct sock_filter *)(uintptr_t)at->operands,
  };
  // While PID 1 is the host's root: this takes CAP_SYS_ADMIN or no_new_privs (seccomp(2)), and no_new_privs is certain only after
  // privileges are dropped. The unit's NoNewPrivileges= is inherited, but a joblet-exec that was started by hand has none.
  long result = sys(seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  if (result < 0) return result;
  listener = (int)result;
  return 0;
}

// Without the filter above, what the payload's own lets through would be allowed: no payload starts then.
long load_payload_filter(const struct joblet_plan_cursor *at) { return listener < 0 ? -ENOENT : load_filter(at); }

int violation_listener(void) { return listener; }

int take_violation(struct joblet_ring_header *ring) {
  // The kernel wants zeros, and fills as much as its own structure has: room for one that has grown.
  union {
    struct seccomp_notif notification;
    uint64_t room[64];
  } taken = {.room = {0}};
  long result = sys(ioctl, listener, SECCOMP_IOCTL_NOTIF_RECV, &taken);
  if (result == -EINTR) return 0;
  // Never answered: the call does not return, and the caller leaves it by SIGKILL alone. A caller that a signal took out of it
  // in the meantime (ENOENT) has not made the call either, and its job ends all the same, without the call's name.
  ring->violation_call = result < 0 ? -1 : taken.notification.data.nr;
  ring->violation_arch = result < 0 ? 0 : taken.notification.data.arch;
  __atomic_store_n(&ring->violation, 1, __ATOMIC_RELEASE);
  return 1;
}
