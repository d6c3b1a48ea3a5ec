#include "CEvents.h"

#include <sys/prctl.h>

void ce_name_thread(const char *name) { prctl(PR_SET_NAME, name); }
