// joblet-init: PID 1 of a job. It builds a sandbox by the plan (root.c, devices.c), makes the payload's process (payload.c),
// gives up its privileges (privileges.c), and is reaper, reader and timer until the end (supervise.c). All but the payload's
// last steps happens before there is a job.
#pragma once
#include "joblet_output.h"
#include "joblet_plan.h"
#include "joblet_ring.h"
#include "sys.h"

// errno values by name, without <errno.h>.
#include <asm/errno.h>

struct init {
  struct joblet_plan plan;
  struct joblet_ring_header *ring;
  struct joblet_writer writer;

  int signals;     // signalfd of everything PID 1 reacts to
  int pipes[2];    // read ends: stdout, stderr; -1 once at their end, or with one pipe for both
  int ends[2];     // write ends, for the payload
  int null;        // the job's own /dev/null
  int errors;      // read end: how the payload's process gets on; closed by its exec
  int32_t payload; // pid
};

// A step of the plan that failed, or 0.
struct failure {
  uint32_t step;  // JOBLET_SETUP_STEP
  int error;      // positive errno; 0 is success
};

// Opens a sealed plan that exec made. One that is not sealed could change between the check and the use: -EPERM.
int map_plan(struct joblet_plan *plan, int fd);

// Runs the first phase: the namespaces and the root.
struct failure build_root(struct init *init);
long make_devices(void);
long mount_terminals(void);

// Helpers of root.c that devices.c needs too. Paths are relative to the new root, the current directory.
long mount_tmpfs(const char *target, uint64_t size, uint64_t mode, unsigned long flags);
long bind_attributes(const char *path, uint64_t attributes);

// Makes what the payload needs from PID 1: pipes, /dev/null, signalfd. After the root: /dev/null is the job's own.
struct failure prepare_payload(struct init *init);
// Clones the payload's process into pay/. It runs the second phase, says so, and waits for the go.
struct failure start_payload(struct init *init);
// Waits until the payload's process has run the second phase, or has failed.
struct failure payload_prepared(struct init *init);

// Runs the third phase: joblet-init gives up what it does not need any more.
struct failure drop_privileges(struct init *init);
// In the user namespace already: empties the bounding and ambient sets and keeps only `keep` (a mask) of the others.
long drop_capabilities(uint32_t keep);
long load_filter(const struct joblet_plan_cursor *cursor);

// landlock.c: a ruleset for the finished root, made by PID 1 and entered by the payload. Paths are the job's own, after pivot_root.
long make_ruleset(uint64_t rights, uint64_t scoped);
long allow_below(const char *path, uint64_t rights);
long enter_ruleset(void);
void close_ruleset(void);

// notify.c: the filter that catches calls which are never legitimate, in the first phase; the payload's own, which relies on it;
// and the listener, on which PID 1 waits. `take_violation` reports one in the ring: 1, or 0 if there was none.
long listen_for_violations(const struct joblet_plan_cursor *cursor);
long load_payload_filter(const struct joblet_plan_cursor *cursor);
int violation_listener(void);
int take_violation(struct joblet_ring_header *ring);

// Waits for the payload's exec, reads output, reaps, times out and forwards signals until the job has ended, and says so in the
// ring. A step of the job's plan that fails is returned.
struct failure supervise(struct init *init);

// Writes down when a step of the start was done.
void stamp(struct init *init, enum joblet_trace step);

// Wakes exec if it sleeps; call after publishing anything in the ring.
void wake_exec(struct joblet_ring_header *ring);
void publish_phase(struct joblet_ring_header *ring, enum joblet_phase phase);
void publish_end(struct joblet_ring_header *ring, enum joblet_end_kind kind, int code);
