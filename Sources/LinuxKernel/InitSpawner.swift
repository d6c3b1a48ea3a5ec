import CLinux
import Glibc

/// What one `joblet-init` inherits, in the order of `enum joblet_init_fd`. Borrowed numbers: the owners keep them open until
/// ``InitSpawner/spawn(_:cgroup:)`` has returned.
public struct InitDescriptors: Sendable {
  public var plan: CInt
  public var ring: CInt
  public var dataFifo: CInt
  public var spaceFifo: CInt
  public var userNamespace: CInt
  /// Directory of `pay/`.
  public var payCgroup: CInt
  /// `pay/cgroup.kill`, open for writing.
  public var payKill: CInt

  public init(
    plan: CInt, ring: CInt, dataFifo: CInt, spaceFifo: CInt, userNamespace: CInt, payCgroup: CInt, payKill: CInt
  ) {
    self.plan = plan
    self.ring = ring
    self.dataFifo = dataFifo
    self.spaceFifo = spaceFifo
    self.userNamespace = userNamespace
    self.payCgroup = payCgroup
    self.payKill = payKill
  }
}

/// Starts `joblet-init`, PID 1 of a job.
public struct InitSpawner: ~Copyable, Sendable {
  private let executable: FileDescriptor
  private let null: FileDescriptor

  /// Opens the program once; jobs start from this very file, whatever happens to the path later.
  /// - Throws: ``Errno`` naming the path if it is not there or not executable.
  public init(executable path: String) throws(Errno) {
    let file = FileDescriptor(owning: try Kernel.check("open", path, cl_open_path(path)))
    try Kernel.call("access", path) { access(path, X_OK) }
    let null = try FileDescriptor.open("/dev/null", O_RDWR)
    self.init(executable: file, null: null)
  }

  private init(executable: consuming FileDescriptor, null: consuming FileDescriptor) {
    self.executable = executable
    self.null = null
  }

  /// clone3 into `cgroup` and new pid, mount, network, ipc and uts namespaces, then exec; returns when the exec has happened.
  ///
  /// The calling thread is suspended meanwhile (about 1 to 2 ms): call it on a thread kept for it, never on the cooperative
  /// pool or an event loop. Not to be called for two jobs on one thread at once, obviously; on two threads it may.
  /// - Throws: ``Errno`` whose `call` says which part failed: `clone3`, `dup3`, `close_range` or `execveat`.
  public borrowing func spawn(_ descriptors: InitDescriptors, cgroup: CInt) throws(Errno) -> ProcessHandle {
    let inherited = [
      descriptors.plan, descriptors.ring, descriptors.dataFifo, descriptors.spaceFifo, descriptors.userNamespace,
      descriptors.payCgroup, descriptors.payKill,
    ]
    var pidfd: CInt = -1
    var step: CInt = 0
    let pid = inherited.withUnsafeBufferPointer { numbers in
      "joblet-init".withCString { name in
        var spawn = cl_spawn(
          executable: executable.raw, null: null.raw, cgroup: cgroup, descriptors: numbers.baseAddress,
          descriptor_count: UInt32(numbers.count), name: name)
        return cl_spawn_init(&spawn, &pidfd, &step)
      }
    }
    guard pid > 0 else {
      let calls = ["clone3", "dup3", "close_range", "execveat"]
      throw Errno(-pid, calls.indices.contains(Int(step)) ? calls[Int(step)] : "clone3", "joblet-init")
    }
    return ProcessHandle(pid: pid, descriptor: FileDescriptor(owning: pidfd))
  }
}
