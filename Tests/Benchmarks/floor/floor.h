// The bare sequence of system calls that makes a sandbox like a job's of Joblet's, as short as C allows: the floor that a service
// which also takes requests, keeps records and stores output is held against.
#pragma once
#include <stdint.h>
#include <sys/types.h>

enum { FD_USERNS = 50, FD_PAY = 51, FD_OUT = 52, FD_FILTER = 53 };

enum { IDS = 65536 };

// Ends the program with a sentence if `result` is negative; errno says why. Returns it otherwise.
long check(long result, const char *what);

// PID 1 of the sandbox: builds the root, starts the payload in pay/, and stays until it has ended. Its exit status is the payload's.
// arguments: work directory, staging directory, program, mounts…
int sandbox_main(int count, char **arguments);
