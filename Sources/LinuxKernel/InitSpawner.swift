import CLinux
import Glibc

/// What one `joblet-init` inherits, in the order of `enum joblet_init_fd`. Borrowed numbers: the owners keep them open until
/// ``InitSpawner/spawn(_:cgroup:mounts:)`` has returned. What a template has no use for is nil, and `/dev/null` there.
public struct InitDescriptors: Sendable {
  public var plan: CInt
  public var ring: CInt
  public var dataFifo: CInt
  public var spaceFifo: CInt
  public var userNamespace: CInt?
  /// Directory of `pay/`.
  public var payCgroup: CInt?
  /// `pay/cgroup.kill`, open for writing.
  public var payKill: CInt?
  /// An empty file in memory for the job's own plan.
  public var jobPlan: CInt?
  /// The workspace, as a ``DetachedMount``.
  public var workspace: CInt?
  /// The directory with `hostname` and `hosts`, as a ``DetachedMount``.
  public var facts: CInt?

  public init(
    plan: CInt, ring: CInt, dataFifo: CInt, spaceFifo: CInt, userNamespace: CInt? = nil, payCgroup: CInt? = nil,
    payKill: CInt? = nil, jobPlan: CInt? = nil, workspace: CInt? = nil, facts: CInt? = nil
  ) {
    self.plan = plan
    self.ring = ring
    self.dataFifo = dataFifo
    self.spaceFifo = spaceFifo
    self.userNamespace = userNamespace
    self.payCgroup = payCgroup
    self.payKill = payKill
    self.jobPlan = jobPlan
    self.workspace = workspace
    self.facts = facts
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
  /// - Parameter mounts: the mount namespace it gets a copy of; nil is the caller's.
  /// - Throws: ``Errno`` whose `call` says which part failed: `clone3`, `setns`, `unshare`, `dup3`, `close_range` or `execveat`.
  public borrowing func spawn(
    _ descriptors: InitDescriptors, cgroup: CInt, mounts: CInt? = nil
  ) throws(Errno) -> ProcessHandle {
    let null = null.raw
    let inherited = [
      descriptors.plan, descriptors.ring, descriptors.dataFifo, descriptors.spaceFifo,
      descriptors.userNamespace ?? null, descriptors.payCgroup ?? null, descriptors.payKill ?? null,
      descriptors.jobPlan ?? null, descriptors.workspace ?? null, descriptors.facts ?? null,
    ]
    var pidfd: CInt = -1
    var step: CInt = 0
    let pid = inherited.withUnsafeBufferPointer { numbers in
      "joblet-init".withCString { name in
        var spawn = cl_spawn(
          executable: executable.raw, null: null, cgroup: cgroup, mount_namespace: mounts ?? -1,
          descriptors: numbers.baseAddress,
          descriptor_count: UInt32(numbers.count), name: name)
        return cl_spawn_init(&spawn, &pidfd, &step)
      }
    }
    guard pid > 0 else {
      let calls = ["clone3", "dup3", "close_range", "execveat", "setns", "unshare"]
      throw Errno(-pid, calls.indices.contains(Int(step)) ? calls[Int(step)] : "clone3", "joblet-init")
    }
    return ProcessHandle(pid: pid, descriptor: FileDescriptor(owning: pidfd))
  }
}
