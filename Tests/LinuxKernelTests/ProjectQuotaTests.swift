import Glibc
import LinuxKernel
import Testing

/// What can be seen without a file system that has quotas; `SystemTests` fills one.
@Suite struct ProjectQuotaTests {
  @Test(arguments: ["/proc", "/sys", "/dev"])
  func aFileSystemWithoutQuotasSaysSo(_ path: String) throws {
    let directory = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY)
    #expect(try ProjectQuota.state(of: directory) == .missing)
    #expect(try ProjectQuota.project(of: directory)?.id ?? 0 == 0)
  }

  @Test func whatIsNoFileSystemCallFails() throws {
    let directory = try FileDescriptor.open("/proc", O_RDONLY | O_DIRECTORY)
    #expect(throws: Errno.self) { try ProjectQuota.assign(7, to: directory) }
    #expect(throws: Errno.self) { try ProjectQuota.limit(7, bytes: 4096, inodes: 1, on: directory) }
  }
}
