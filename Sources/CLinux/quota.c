// Project quotas: FS_IOC_FS[GS]ETXATTR and quotactl_fd(2), which has no wrapper in the C libraries we build with.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "CLinux.h"

#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif

enum { BLOCK = 1024 }; // QIF_DQBLKSIZE: limits count in these, whatever the file system's blocks are

static int quotactl_fd(int fd, unsigned command, uint32_t id, void *address) {
  long value = syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), id, address);
  return value < 0 ? -errno : 0;
}

int cl_project_get(int fd, uint32_t *id, int *inherits) {
  struct fsxattr attributes;
  if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) < 0) return -errno;
  *id = attributes.fsx_projid;
  *inherits = (attributes.fsx_xflags & FS_XFLAG_PROJINHERIT) != 0;
  return 0;
}

int cl_project_set(int fd, uint32_t id) {
  struct fsxattr attributes;
  // Read first: the call sets every attribute there is.
  if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) < 0) return -errno;
  attributes.fsx_projid = id;
  attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
  return ioctl(fd, FS_IOC_FSSETXATTR, &attributes) < 0 ? -errno : 0;
}

int cl_quota_state(int fd) {
  struct fs_quota_statv state;
  memset(&state, 0, sizeof state);
  state.qs_version = FS_QSTATV_VERSION1;
  int failed = quotactl_fd(fd, Q_XGETQSTATV, 0, &state);
  if (failed) return failed;
  if (!(state.qs_flags & FS_QUOTA_PDQ_ACCT)) return CL_QUOTA_OFF;
  return state.qs_flags & FS_QUOTA_PDQ_ENFD ? CL_QUOTA_ENFORCED : CL_QUOTA_COUNTED;
}

static void fill(struct cl_quota *quota, uint64_t blocks, uint64_t inodes, uint64_t used_bytes, uint64_t used_inodes) {
  quota->limit_bytes = blocks > UINT64_MAX / BLOCK ? UINT64_MAX : blocks * BLOCK;
  quota->limit_inodes = inodes;
  quota->used_bytes = used_bytes;
  quota->used_inodes = used_inodes;
}

int cl_quota_get(int fd, uint32_t id, struct cl_quota *quota) {
  struct if_dqblk block;
  memset(&block, 0, sizeof block);
  int failed = quotactl_fd(fd, Q_GETQUOTA, id, &block);
  if (!failed) fill(quota, block.dqb_bhardlimit, block.dqb_ihardlimit, block.dqb_curspace, block.dqb_curinodes);
  return failed;
}

int cl_quota_next(int fd, uint32_t *id, struct cl_quota *quota) {
  struct if_nextdqblk block;
  memset(&block, 0, sizeof block);
  int failed = quotactl_fd(fd, Q_GETNEXTQUOTA, *id, &block);
  if (failed) return failed;
  *id = block.dqb_id;
  fill(quota, block.dqb_bhardlimit, block.dqb_ihardlimit, block.dqb_curspace, block.dqb_curinodes);
  return 0;
}

int cl_quota_set(int fd, uint32_t id, uint64_t limit_bytes, uint64_t limit_inodes) {
  struct if_dqblk block;
  memset(&block, 0, sizeof block);
  block.dqb_bhardlimit = limit_bytes / BLOCK;
  block.dqb_ihardlimit = limit_inodes;
  block.dqb_valid = QIF_LIMITS; // soft limits too: none
  return quotactl_fd(fd, Q_SETQUOTA, id, &block);
}
