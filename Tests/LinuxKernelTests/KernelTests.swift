import Glibc
import LinuxKernel
import Testing

/// A directory that goes with the test.
final class Scratch {
  let path: String

  init() {
    var template = Array("/tmp/joblet-kernel.XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
  }

  deinit { remove(path) }

  private func remove(_ path: String) {
    // Never through a symbolic link: a test here makes one to /etc.
    var status = stat()
    if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR, let handle = opendir(path) {
      while let entry = readdir(handle) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if name != ".", name != ".." { remove("\(path)/\(name)") }
      }
      closedir(handle)
      rmdir(path)
    } else {
      unlink(path)
    }
  }

  func write(_ text: String, to file: String) throws {
    try FileDescriptor.open("\(path)/\(file)", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644).writeAll(Array(text.utf8))
  }

  func read(_ file: String) throws -> String {
    String(decoding: try FileDescriptor.open("\(path)/\(file)", O_RDONLY).readAll(), as: UTF8.self)
  }
}

@Suite struct KernelTests {
  @Test func anErrorNamesCallSubjectAndNumber() {
    let error = #expect(throws: Errno.self) { try FileDescriptor.open("/no/such/file", O_RDONLY).readAll() }
    #expect(error?.code == ENOENT)
    #expect(error?.description == "open /no/such/file: No such file or directory (ENOENT)")
    #expect(Errno(99_999, "x").description == "x: unknown error (errno 99999)")
  }

  @Test func aDescriptorIsClosedWithItsOwner() throws {
    var number: CInt = -1
    do {
      let file = try FileDescriptor.open("/dev/null", O_RDONLY)
      number = file.raw
      #expect(fcntl(number, F_GETFD) == FD_CLOEXEC)
    }
    // Another test may have got the number again; then it is not /dev/null opened here any more, which can't be told apart.
    let released = try FileDescriptor.open("/dev/null", O_RDONLY).release()
    #expect(fcntl(released, F_GETFD) == FD_CLOEXEC)
    close(released)
  }

  @Test func sealedMemoryCannotBeChanged() throws {
    let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0) }
    let file = try FileDescriptor.sealedMemory(named: "test", bytes)
    #expect(try file.readAll() == bytes)
    #expect(throws: Errno.self) { try file.writeAll([1]) }
    #expect(ftruncate(file.raw, 0) == -1)
  }

  @Test func pathsBeneathCannotEscape() throws {
    let scratch = Scratch()
    mkdir("\(scratch.path)/d", 0o755)
    try scratch.write("x", to: "d/f")
    symlink("/etc", "\(scratch.path)/d/link")
    let directory = try FileDescriptor.open("\(scratch.path)/d", O_RDONLY | O_DIRECTORY)
    #expect(try FileDescriptor.open(beneath: directory, "f", O_RDONLY).readAll() == [0x78])
    for path in ["../d/f", "/etc/passwd", "link/passwd", "link"] {
      #expect(throws: Errno.self) { _ = try FileDescriptor.open(beneath: directory, path, O_RDONLY).release() }
    }
  }

  @Test func aFifoWakes() throws {
    let scratch = Scratch()
    let one = try Fifo.create("\(scratch.path)/fifo")
    let two = try Fifo.open("\(scratch.path)/fifo")
    func readable() -> Bool {
      var entry = pollfd(fd: two.descriptor.raw, events: Int16(POLLIN), revents: 0)
      return poll(&entry, 1, 0) == 1
    }
    #expect(!readable())
    for _ in 0..<100_000 { try one.wake() }  // more than it holds: never blocks, never fails
    #expect(readable())
    try two.drain()
    #expect(!readable())
  }

  @Test func aMirroredFileReadsAcrossItsEnd() throws {
    let scratch = Scratch()
    let path = "\(scratch.path)/ring"
    let file = try MirroredFile.create(path, headerSize: 4096, dataSize: 8192)
    file.header.storeBytes(of: 0xABCD, as: UInt32.self)
    for index in 0..<16 { (file.data + 8184 + index).storeBytes(of: UInt8(index), as: UInt8.self) }
    #expect((file.data).load(as: UInt8.self) == 8)
    let again = try MirroredFile.open(path, headerSize: 4096)
    #expect(again.dataSize == 8192 && again.header.load(as: UInt32.self) == 0xABCD)
    #expect((again.data + 7).load(as: UInt8.self) == 15)
    let taken = #expect(throws: Errno.self) {
      _ = try MirroredFile.create(path, headerSize: 4096, dataSize: 8192).dataSize
    }
    #expect(taken?.code == EEXIST)
  }

  @Test(arguments: [0, 100, 4095, 12_288, 1 << 31])
  func aMirroredFileOfAnImpossibleSizeIsRefused(_ size: Int) {
    let scratch = Scratch()
    let error = #expect(throws: Errno.self) {
      _ = try MirroredFile.create("\(scratch.path)/ring", headerSize: 4096, dataSize: size).dataSize
    }
    #expect(error?.code == EINVAL)
  }

  @Test func aTruncatedFileIsNoRing() throws {
    let scratch = Scratch()
    try scratch.write("short", to: "ring")
    #expect(throws: Errno.self) { _ = try MirroredFile.open("\(scratch.path)/ring", headerSize: 4096).dataSize }
  }

  @Test func aHandleKnowsItsProcess() throws {
    let own = try ProcessHandle.open(pid: getpid())
    #expect(try own.isAlive())
    #expect(try own.startTime() > 0)
    #expect(try own.startTime() == ProcessHandle.open(pid: getpid()).startTime())
    let notOurs = #expect(throws: Errno.self) { _ = try own.reap() }
    #expect(notOurs?.code == ECHILD)
    let nobody = #expect(throws: Errno.self) { _ = try ProcessHandle.open(pid: 4_194_304).pid }
    #expect(nobody.map { [ESRCH, EINVAL].contains($0.code) } == true)
  }
}
