// Inside: the same mounts, namespaces, limits and filter that a job has.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "floor.h"

// <sys/mount.h> and <linux/mount.h> exclude each other in the libc of some hosts.
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
enum { RDONLY = 1, NOSUID = 2, NODEV = 4, NOEXEC = 8, REC = 16384, PRIVATE = 1 << 18, DETACH = 2, RECURSIVE = 0x8000 };

static void set_attributes(const char *path, uint64_t attributes) {
  struct mount_attr set = {.attr_set = attributes};
  check(syscall(SYS_mount_setattr, AT_FDCWD, path, 0, &set, sizeof set), path);
}

static void bind_tree(const char *source, const char *target, uint64_t attributes, unsigned recursive) {
  struct mount_attr set = {.attr_set = attributes, .propagation = PRIVATE, .userns_fd = attributes & MOUNT_ATTR_IDMAP ? FD_USERNS : 0};
  int tree = (int)check(syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive), source);
  check(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | recursive, &set, sizeof set), source);
  check(syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), target);
  close(tree);
}

static void tmpfs(const char *target, unsigned long flags, const char *options) {
  if (mkdir(target, 0755) && errno != EEXIST) check(-1, target);
  check(mount("tmpfs", target, "tmpfs", flags, options), target);
}

static void parents(const char *path) {
  char part[256];
  for (size_t i = 0; path[i] && i < sizeof part - 1; i++) {
    part[i] = path[i];
    part[i + 1] = 0;
    if (path[i + 1] == '/') mkdir(part, 0755);
  }
}

static void host_path(const char *path) {
  const char *target = path + 1;
  struct stat info;
  if (lstat(path, &info)) return;
  parents(target);
  if (S_ISLNK(info.st_mode)) {
    char link[256];
    ssize_t length = check(readlink(path, link, sizeof link - 1), path);
    link[length] = 0;
    check(symlink(link, target), target);
    return;
  }
  check(mkdir(target, 0755), target);
  bind_tree(path, target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, RECURSIVE);
}

static void devices(void) {
  static const struct {
    const char *path;
    unsigned major, minor;
  } nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
  tmpfs("dev", NOSUID | NOEXEC, "size=65536,mode=755,nr_inodes=1024");
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
    check(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].path);
  static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
                                         {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++) check(symlink(links[i][0], links[i][1]), links[i][1]);
  check(mkdir("dev/pts", 0755), "dev/pts");
  check(mount("devpts", "dev/pts", "devpts", NOSUID | NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "devpts");
  tmpfs("dev/shm", NOSUID | NODEV | NOEXEC, "size=64m,mode=1777");
  set_attributes("dev", MOUNT_ATTR_RDONLY);
}

static void kernel_files(void) {
  static const char *const hidden[] = {"acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "scsi", "sched_debug", "timer_list", "timer_stats"};
  static const char *const fixed[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};
  check(mkdir("proc", 0555), "proc");
  check(mount("proc", "proc", "proc", NOSUID | NODEV | NOEXEC, "hidepid=2"), "proc");
  char path[64];
  struct stat info;
  for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
    snprintf(path, sizeof path, "proc/%s", hidden[i]);
    if (lstat(path, &info)) continue;
    if (S_ISDIR(info.st_mode)) check(mount("tmpfs", path, "tmpfs", NOSUID | NODEV | NOEXEC | RDONLY, "size=4096,mode=555"), path);
    else bind_tree("dev/null", path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0);
  }
  for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
    snprintf(path, sizeof path, "proc/%s", fixed[i]);
    if (lstat(path, &info) == 0) bind_tree(path, path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, RECURSIVE);
  }
}

static void etc(void) {
  static const char *const files[] = {"etc/passwd", "etc/group", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/nsswitch.conf"};
  mkdir("etc", 0755);
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    int file = (int)check(open(files[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), files[i]);
    check(write(file, "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n", 59), files[i]);
    close(file);
  }
}

static void build_root(char **arguments, int count) {
  check(mount(NULL, "/", NULL, REC | PRIVATE, NULL), "private");
  int any = (int)check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  check(ioctl(any, SIOCSIFFLAGS, &loopback), "lo");
  close(any);
  check(sethostname("job", 3), "sethostname");
  check(mount("tmpfs", arguments[1], "tmpfs", NOSUID | NODEV, "size=1m,mode=755"), arguments[1]);
  check(chdir(arguments[1]), arguments[1]);
  for (int i = 3; i < count; i++) host_path(arguments[i]);
  check(mkdir("work", 0755), "work");
  bind_tree(arguments[0], "work", MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0);
  tmpfs("tmp", NOSUID | NODEV, "size=64m,mode=1777");
  devices();
  kernel_files();
  etc();
  check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
  check(umount2(".", DETACH), "umount2");
  check(chdir("/"), "/");
  set_attributes("/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

static void drop_capabilities(void) {
  for (int i = 0; prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0; i++) {}
  check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "ambient");
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[2] = {{0}};
  check(syscall(SYS_capset, &header, none), "capset");
  check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

// Into the job's user namespace, as nobody there.
static void become(unsigned id) {
  check(setns(FD_USERNS, CLONE_NEWUSER), "setns");
  check(syscall(SYS_setgroups, 0, NULL), "setgroups");
  check(syscall(SYS_setresgid, id, id, id), "setresgid");
  check(syscall(SYS_setresuid, id, id, id), "setresuid");
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0) < 0 && errno != ENOSYS) check(-1, "keyring");
}

static void payload(const char *program) {
  static struct sock_filter code[4096];
  check(unshare(CLONE_NEWCGROUP), "cgroup namespace");
  check(setsid(), "setsid");
  check(dup2(FD_OUT, 1), "stdout");
  check(dup2(FD_OUT, 2), "stderr");
  struct rlimit core = {0, 0}, files = {1024, 1024};
  check(setrlimit(RLIMIT_CORE, &core), "core");
  check(setrlimit(RLIMIT_NOFILE, &files), "files");
  become(65534);
  check(chdir("/work"), "/work");
  drop_capabilities();
  struct sock_fprog filter = {.len = (unsigned short)(check(pread(FD_FILTER, code, sizeof code, 0), "filter") / 8), .filter = code};
  check(prctl(PR_SET_SECCOMP, 2, &filter, 0, 0), "seccomp");
  check(close_range(3, ~0u, 0), "close_range");
  char *argv[] = {(char *)program, NULL}, *envp[] = {"PATH=/usr/bin:/bin", NULL};
  execve(program, argv, envp);
  _exit(127);
}

int sandbox_main(int count, char **arguments) {
  build_root(arguments, count);
  struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = FD_PAY};
  long pid = check(syscall(SYS_clone3, &args, sizeof args), "clone3");
  if (pid == 0) payload(arguments[2]);
  close(FD_OUT);
  become(65533);
  drop_capabilities();
  check(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
  int status = 0;
  while (wait(&status) != pid) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}
