import CEscape
import Glibc

/// Ways to files that are not the job's: of the host, of joblet-init, of other jobs; and to change what it may only read.
/// - Parameters:
///   - secret: a file of the host that only root may read, outside the allowed mounts.
///   - folder: a folder in an allowed mount with `secret` (root's alone), `setuid` (this program, set-user-ID root), `device`
///     (a node of /dev/mem that everyone may open).
func attackFiles(secret: String, folder: String) {
  let ups = String(repeating: "../", count: 40)
  report("dot-dot", reading("/work/\(ups)\(secret.dropFirst())"))
  symlink(secret, "/work/link")
  report("symlink in /work", reading("/work/link"))
  symlink("/proc/1/root\(secret)", "/work/link-root")
  report("symlink through /proc/1/root", reading("/work/link-root"))
  report("/proc/self/root", reading("/proc/self/root/\(ups)\(secret.dropFirst())"))
  report("/proc/self/cwd", reading("/proc/self/cwd/\(ups)\(secret.dropFirst())"))
  for name in ["root/etc/shadow", "cwd", "exe", "environ", "mem", "maps", "fd", "fd/4", "ns/mnt", "cmdline"] {
    report("/proc/1/\(name)", opening("/proc/1/\(name)", O_RDONLY))
  }
  report("rewrite /proc/1/exe", opening("/proc/1/exe", O_WRONLY))
  report("rewrite /proc/self/exe", opening("/proc/self/exe", O_WRONLY))
  report("the descriptors left open", openDescriptors())
  report("the host's secret in an allowed mount", reading("\(folder)/secret"))
  report("link the host's secret into /work", attempt { link("\(folder)/secret", "/work/linked") })
  report("a device node in an allowed mount", opening("\(folder)/device", O_RDONLY))
  changeTheRoot(folder)
  attackDevices()
  attackHandles()
  for path in ["/opt/joblet", "/run/joblet/jobs", "/run/systemd", "/root", "/home", "/sys", "/var/lib", "/boot"] {
    report("see \(path)", attempt { access(path, F_OK) })
  }
  report("what /run/joblet holds", entries("/run/joblet").map { $0.joined(separator: " ") } ?? word(Int(-errno)))
  report("write to what it holds", writing("x", to: "/run/joblet/hosts"))
  report("connect to exec.sock", connecting("/opt/joblet/run/exec.sock"))
  report("connect to systemd", connecting("/run/systemd/private"))
}

private func openDescriptors() -> String {
  let open = (0..<4096).filter { fcntl($0, F_GETFD) != -1 }
  return open.map(String.init).joined(separator: " ")
}

private func changeTheRoot(_ folder: String) {
  report("write into /usr", opening("/usr/joblet-escape", O_WRONLY | O_CREAT))
  report("write into the root", opening("/joblet-escape", O_WRONLY | O_CREAT))
  report("write into /etc", opening("/etc/joblet-escape", O_WRONLY | O_CREAT))
  report("write /etc/passwd", opening("/etc/passwd", O_WRONLY))
  report("write into /dev", opening("/dev/joblet-escape", O_WRONLY | O_CREAT))
  report("remove /dev/null", attempt { unlink("/dev/null") })
  report("replace /dev/null", attempt { rename("/work/link", "/dev/null") })
  report("chmod /usr/bin", attempt { chmod("/usr/bin", 0o777) })
  report("chown /usr/bin", attempt { chown("/usr/bin", 65_534, 65_534) })
  report("touch /usr/bin", attempt { utimes("/usr/bin", nil) })
  report("truncate /usr/bin/env", attempt { truncate("/usr/bin/env", 0) })
  report("rename /usr/bin/env", attempt { rename("/usr/bin/env", "/usr/bin/env2") })
  report("remove the host's secret", attempt { unlink("\(folder)/secret") })
}

private func attackDevices() {
  let block = S_IFBLK | 0o666
  let character = S_IFCHR | 0o666
  report("mknod a disk", attempt { mknod("/work/disk", block, makeDevice(8, 0)) })
  report("mknod /dev/mem", attempt { mknod("/work/mem", character, makeDevice(1, 1)) })
  report("mknod in /tmp", attempt { mknod("/tmp/mem", character, makeDevice(1, 1)) })
  for name in ["mem", "kmsg", "console", "port", "fuse", "kvm", "loop-control", "ubda", "userfaultfd", "vhost-net"] {
    report("/dev/\(name)", opening("/dev/\(name)", O_RDONLY))
  }
  let terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
  guard terminal >= 0 else { return report("a terminal", word(Int(-errno))) }
  report("a terminal", "done")
  let byte = zeros(1)
  for (name, request) in [("TIOCSTI", UInt(0x5412)), ("TIOCSTI with high bits", 0x1_0000_5412), ("TIOCLINUX", 0x541C)] {
    report(name, word(escape_ioctl(terminal, request, UnsafeMutableRawPointer(bitPattern: byte))))
  }
  let discipline = UnsafeMutablePointer<CInt>.allocate(capacity: 1)
  discipline.pointee = 21  // N_GSM0710
  report("TIOCSETD", word(escape_ioctl(terminal, 0x5423, discipline)))
  close(terminal)
}

/// open_by_handle_at(2) reaches every file of a file system (CVE-2014-3519 of docker: "shocker"). Only the making of the
/// handle is tried here; the other call ends the job.
private func attackHandles() {
  let handle = UnsafeMutableRawPointer.allocate(byteCount: 144, alignment: 8)
  handle.storeBytes(of: 128, as: UInt32.self)
  let mount = zeros(8)
  _ = call("name_to_handle_at", -100, pointer("/work"), Int(bitPattern: handle), mount, 0)
  let work = open("/work", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  defer { close(work) }
  // FS_IOC_FSSETXATTR: another project ID would be out of the quota. struct fsxattr is 28 bytes, its ID the fifth word.
  let attributes = UnsafeMutableRawPointer.allocate(byteCount: 32, alignment: 8)
  attributes.initializeMemory(as: UInt8.self, repeating: 0, count: 32)
  let read = escape_ioctl(work, 0x801C_581F, attributes)
  attributes.storeBytes(
    of: attributes.load(fromByteOffset: 12, as: UInt32.self) &+ 1, toByteOffset: 12, as: UInt32.self)
  report("another project ID", read < 0 ? word(read) : word(escape_ioctl(work, 0x401C_5820, attributes)))
  let flags = UnsafeMutablePointer<CLong>.allocate(capacity: 1)
  flags.pointee = 0x10  // FS_IMMUTABLE_FL
  report("an immutable file", word(escape_ioctl(work, 0x4008_6602, flags)))
}

func makeDevice(_ major: UInt64, _ minor: UInt64) -> dev_t { dev_t(major << 8 | minor) }

/// Connects a stream socket to a path; `@name` is an abstract one.
func connecting(_ path: String) -> String {
  let number = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
  guard number >= 0 else { return word(Int(-errno)) }
  defer { close(number) }
  return withSocketAddress(path) { address, length in attempt { connect(number, address, length) } }
}

func withSocketAddress<T>(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> T) -> T {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  let bytes = path.utf8.prefix(100).map { $0 == UInt8(ascii: "@") ? 0 : $0 }
  withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  // An abstract name is as long as the length says; a path ends at its NUL.
  let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count + (bytes.first == 0 ? 0 : 1))
  return withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
  }
}
