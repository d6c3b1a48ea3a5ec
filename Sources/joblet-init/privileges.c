// Giving up privileges, for the payload and for PID 1 itself.
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>

#include "init.h"

long drop_capabilities(uint32_t keep) {
  // The bounding set first, while CAP_SETPCAP is there: what is left in it, a file's capabilities could bring back.
  for (int capability = 0; capability < 64; capability++) {
    if (capability < 32 && keep >> capability & 1) continue;
    long result = sys(prctl, PR_CAPBSET_DROP, capability, 0, 0, 0);
    if (result == -EINVAL) break;  // past the last one this kernel knows
    if (result < 0) return result;
  }
  long result = sys(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  if (result < 0) return result;
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  struct __user_cap_data_struct data[2] = {{.effective = keep, .permitted = keep}};
  return sys(capset, &header, data);
}

long load_filter(const struct joblet_plan_cursor *at) {
  struct sock_fprog program = {
      .len = (unsigned short)(at->step->length / sizeof(struct sock_filter)),
      .filter = (struct sock_filter *)(uintptr_t)at->operands,
  };
  if (at->step->length / sizeof(struct sock_filter) > BPF_MAXINSNS) return -EINVAL;
  return sys(prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

static long become(uint64_t id) {
  // In the job's user namespace PID 1 has power over the job and none over the host, which a bug in it now can't reach.
  long result = sys(setns, JOBLET_FD_USERNS, CLONE_NEWUSER);
  if (result >= 0) result = sys(setgroups, 0, 0);
  if (result >= 0) result = sys(setresgid, id, id, id);
  if (result >= 0) result = sys(setresuid, id, id, id);
  if (result >= 0) result = sys(keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);
  if (result == -ENOSYS) result = 0;
  // CAP_KILL stays: SIGTERM at the time-out, and forwarded signals, to processes of another user.
  if (result >= 0) result = drop_capabilities(1u << CAP_KILL);
  if (result >= 0) result = sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  // Nobody in the job may look at PID 1 (/proc/1/fd leads to the ring, /proc/1/exe to the host's program) or trace it.
  if (result >= 0) result = sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
  return result;
}

static void close_spent(void) {
  // What is needed no more. The job's plan is for the payload's process alone: it will hold the job's secrets.
  static const int spent[] = {JOBLET_FD_PLAN, JOBLET_FD_RING, JOBLET_FD_USERNS, JOBLET_FD_PAY, JOBLET_FD_JOB_PLAN};
  for (size_t i = 0; i < sizeof spent / sizeof *spent; i++) sys(close, spent[i]);
}

struct failure drop_privileges(struct init *init) {
  struct joblet_plan_cursor at = {0}, filter = {0};
  while (joblet_plan_next(&init->plan, &at)) {
    if (at.step->op >> 8 != 3) continue;
    long result = -EINVAL;
    if (at.step->op == JOBLET_OP_INIT_IDS) {
      result = become(at.step->n[0]);
    } else if (at.step->op == JOBLET_OP_INIT_SECCOMP) {
      filter = at;
      result = 0;
    }
    if (result < 0) return (struct failure){JOBLET_SETUP_STEP(at.step->op, at.index), (int)-result};
  }
  sys(close, init->null);
  close_ruleset();
  close_spent();
  // The filter comes last: it refuses all of the above. Its bytes stand in the plan, so the plan's pages go only before the
  // next program could be loaded, which is never: they are cut loose here by copying the filter out.
  static struct sock_filter copy[256];
  if (filter.step != NULL) {
    if (filter.step->length > sizeof copy) return (struct failure){JOBLET_SETUP_STEP(filter.step->op, filter.index), E2BIG};
    memcpy(copy, filter.operands, filter.step->length);
  }
  struct joblet_plan_step header = filter.step != NULL ? *filter.step : (struct joblet_plan_step){0};
  sys(munmap, init->plan.bytes, init->plan.size);
  if (filter.step == NULL) return (struct failure){0};
  filter.step = &header;
  filter.operands = (const uint8_t *)copy;
  long result = load_filter(&filter);
  return (struct failure){JOBLET_SETUP_STEP(header.op, filter.index), result < 0 ? (int)-result : 0};
}
