import Glibc
import LinuxKernel
import Testing

private func text(_ bytes: [CChar]) -> String {
  String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

@Suite struct SealTests {
  @Test func whatIsSealedNobodyChanges() throws {
    let file = try FileDescriptor.memory(named: "test")
    try file.fillAndSeal(Array("abc".utf8))
    let raw = file.raw
    #expect(Glibc.write(raw, "x", 1) == -1 && errno == EPERM)
    #expect(ftruncate(raw, 0) == -1 && errno == EPERM)
    #expect(throws: Errno.self) { try file.fillAndSeal([1]) }
    #expect(String(decoding: try file.readAll(), as: UTF8.self) == "abc")
  }

  @Test func twoDirectoriesChangePlaces() throws {
    let scratch = Scratch()
    for name in ["one", "other"] {
      mkdir("\(scratch.path)/\(name)", 0o700)
      try scratch.write(name, to: "\(name)/name")
    }
    try Kernel.exchange("\(scratch.path)/one", "\(scratch.path)/other")
    #expect(try scratch.read("one/name") == "other" && scratch.read("other/name") == "one")
    let error = #expect(throws: Errno.self) {
      try Kernel.exchange("\(scratch.path)/one", "\(scratch.path)/absent")
    }
    #expect(error?.code == ENOENT)
  }
}

@Suite(.enabled(if: geteuid() == 0, "enters namespaces and makes mounts: root's"))
struct NamespaceTests {
  /// A process in a uts namespace of its own; it ends with the test.
  private final class Visited {
    private(set) var pid = pid_t()

    init() throws {
      let arguments: [UnsafeMutablePointer<CChar>?] = [
        strdup("unshare"), strdup("--uts"), strdup("sleep"), strdup("1000"), nil,
      ]
      defer { for argument in arguments { free(argument) } }
      #expect(posix_spawnp(&pid, "unshare", nil, nil, arguments, environ) == 0)
      let own = try link(getpid())
      while try link(pid) == own { usleep(1000) }
    }

    func link(_ pid: pid_t) throws -> String {
      var buffer = [CChar](repeating: 0, count: 64)
      try Kernel.call("readlink") { readlink("/proc/\(pid)/ns/uts", &buffer, 63) }
      return text(buffer)
    }

    deinit {
      kill(pid, SIGKILL)
      var status: CInt = 0
      waitpid(pid, &status, 0)
    }
  }

  private func hostName() -> String {
    var buffer = [CChar](repeating: 0, count: 65)
    gethostname(&buffer, 64)
    return text(buffer)
  }

  @Test func aHostNameIsSetThereAndNotHere() throws {
    let visited = try Visited()
    let (here, name) = (try visited.link(getpid()), hostName())
    let there = try Namespace.open(.hostName, of: visited.pid)
    let own = try Namespace.open(.hostName, of: getpid())
    try there.setHostName("job-test", from: own)
    #expect(hostName() == name)
    #expect(try visited.link(getpid()) == here)
    let stream = try #require(popen("nsenter --target \(visited.pid) --uts hostname", "r"))
    var buffer = [CChar](repeating: 0, count: 65)
    let isRead = fgets(&buffer, 65, stream) != nil
    #expect(pclose(stream) == 0 && isRead && text(buffer) == "job-test\n")
    let long = String(repeating: "x", count: 65)
    #expect(throws: Errno.self) { try there.setHostName(long, from: own) }
    #expect(hostName() == name)
  }

  @Test func aReadOnlyMountShowsWhatIsWrittenBesideIt() throws {
    let scratch = Scratch()
    mkdir("\(scratch.path)/facts", 0o755)
    let mount = try DetachedMount.readOnly("\(scratch.path)/facts")
    try scratch.write("later", to: "facts/hosts")
    let raw = mount.descriptor.raw
    #expect(openat(raw, "x", O_CREAT | O_WRONLY, 0o600) == -1 && errno == EROFS)
    let file = FileDescriptor(owning: try Kernel.call("openat") { openat(raw, "hosts", O_RDONLY | O_CLOEXEC) })
    #expect(String(decoding: try file.readAll(), as: UTF8.self) == "later")
    // A link in its place is not followed to where it leads.
    symlink("/etc", "\(scratch.path)/link")
    let link = try DetachedMount.readOnly("\(scratch.path)/link")
    #expect(openat(link.descriptor.raw, "passwd", O_RDONLY) == -1)
  }
}
