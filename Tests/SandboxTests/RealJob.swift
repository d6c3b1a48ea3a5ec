import CInitABI
import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Sandbox
import Testing

/// One job on the machine's own kernel, driven as exec drives it: for tests that run as root and ask for it.
final class RealJob {
  struct Outcome {
    var kind: UInt32
    var code: Int32
    var timedOut: Bool
    var failure: SetupFailure
    var violation: SyscallViolation?
    var records: [(stream: UInt8, partial: Bool, text: String)]
    var seqs: [UInt64]
    var oomKills: Int64?
    var usage = CgroupFigures()
    var stdout: String { text(1) }
    var stderr: String { text(2) }
    private func text(_ stream: UInt8) -> String {
      records.filter { $0.stream == stream }.map(\.text).joined()
    }
  }

  struct Options {
    var limits = CgroupLimits()
    var timeout: Duration?
    var grace = Duration.seconds(1)
    var runAs = RunAs.nobody
    var maxRecords: UInt64 = 10_000
    var dataSize = 1 << 18
    var stopAfterFirstRecord = false
    var seccomp = "default"
    /// As on a node with `isolation.landlock: auto`.
    var landlock = try? LandlockSupport(abi: Landlock.abi().get())
  }

  static func run(
    _ request: JobRequest, initPath: String, cgroupRoot: String, state: String, options: Options = Options()
  ) throws -> Outcome {
    let id = JobID(node: 7)
    let base = "\(state)/\(id)"
    let root = try CgroupRoot(path: cgroupRoot, enabling: Set(Controller.allCases))
    let filters = try SeccompFilters(profile: options.seccomp)
    for path in [state, "\(state)/root", base, "\(base)/work"] { mkdir(path, 0o700) }
    chown("\(base)/work", options.runAs.uid, options.runAs.gid)
    let settings = SandboxSettings(
      allowedMounts: [
        "/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl", "/etc/ca-certificates", "/etc/alternatives",
      ], runAs: options.runAs, stagingDirectory: "\(state)/root", timeoutGrace: options.grace,
      landlock: options.landlock)
    let plan = try Plan(
      request: request, id: id, timeout: options.timeout, workspace: "\(base)/work", settings: settings,
      filters: filters)
    let namespace = try UserNamespace.make(firstID: 1_879_048_192)
    let ring = try MirroredFile.create(
      "\(base)/ring", headerSize: Int(JOBLET_RING_HEADER_SIZE), dataSize: options.dataSize)
    let header = ring.header.assumingMemoryBound(to: joblet_ring_header.self)
    header.pointee.magic = UInt64(JOBLET_RING_MAGIC)
    header.pointee.data_size = UInt64(options.dataSize)
    header.pointee.max_records = options.maxRecords
    header.pointee.next_seq = 1
    let data = try Fifo.create("\(base)/data")
    let space = try Fifo.create("\(base)/space")
    let group = JobCgroup(root: root, name: "\(id)")
    try group.create(root: root, limits: options.limits)
    let memory = try FileDescriptor.sealedMemory(named: "plan", plan.encoded())
    let spawner = try InitSpawner(executable: initPath)
    let pay = try group.payLeaf.open()
    let kill = try group.openPayKill()
    let leaf = try group.initLeaf.open()
    let start = ContinuousClock.now
    let handle = try spawner.spawn(
      InitDescriptors(
        plan: memory.raw, ring: ring.descriptor.raw, dataFifo: data.descriptor.raw, spaceFifo: space.descriptor.raw,
        userNamespace: namespace.descriptor.raw, payCgroup: pay.raw, payKill: kill.raw), cgroup: leaf.raw)
    var outcome = Outcome(
      kind: 0, code: 0, timedOut: false, failure: SetupFailure(setupStep: 0, setupErrno: 0), records: [], seqs: [])
    var position: UInt64 = 0
    var gone = false
    var stopped = false
    var ready = false
    while true {
      joblet_ring_set_exec_waiting(header, 1)
      let phase = joblet_ring_phase(header)
      let head = joblet_ring_head(header)
      if phase == JOBLET_PHASE_READY.rawValue, !gone {
        if !ready, getenv("RJ_TIME") != nil { print("ready", ContinuousClock.now - start) }
        ready = true
        gone = true
        joblet_ring_set_go(header)
        try space.wake()
      }
      while position < head {
        let place = ring.data + Int(position & UInt64(options.dataSize - 1))
        let entry = place.load(as: joblet_ring_entry.self)
        let bytes = UnsafeRawBufferPointer(
          start: place + MemoryLayout<joblet_ring_entry>.size, count: Int(entry.length))
        outcome.records.append((entry.stream, entry.flags == 1, String(decoding: bytes, as: UTF8.self)))
        outcome.seqs += entry.first_seq..<entry.first_seq + UInt64(entry.count)
        position += (32 + UInt64(entry.length) + 7) & ~7
        let last = entry.first_seq + UInt64(entry.count) - 1
        if joblet_ring_acknowledge(header, position, last) == 1 { try space.wake() }
        if options.stopAfterFirstRecord, !stopped {
          stopped = true
          try handle.send(signal: SIGTERM)
        }
      }
      if phase == JOBLET_PHASE_ENDED.rawValue, joblet_ring_head(header) == position { break }
      guard try handle.isAlive() else { break }
      var polls = [
        pollfd(fd: data.descriptor.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: handle.descriptor.raw, events: Int16(POLLIN), revents: 0),
      ]
      try Kernel.call("poll", "", { poll(&polls, 2, 60_000) })
      joblet_ring_set_exec_waiting(header, 0)
      try data.drain()
    }
    if getenv("RJ_TIME") != nil { print("ended", ContinuousClock.now - start) }
    outcome.kind = header.pointee.end_kind
    outcome.code = header.pointee.end_code
    outcome.timedOut = header.pointee.timed_out == 1
    if header.pointee.violation != 0 {
      outcome.violation = SyscallViolation(
        call: header.pointee.violation_call, architecture: header.pointee.violation_arch)
    }
    outcome.failure = SetupFailure(
      setupStep: header.pointee.setup_step, setupErrno: header.pointee.setup_errno)
    outcome.oomKills = try group.memoryEvents()?.kills
    var problems: [String] = []
    outcome.usage = group.figures(problems: &problems)
    #expect(problems == [])
    try group.killAll()
    _ = try handle.wait()
    while try !group.removeOnce() { usleep(1000) }
    return outcome
  }
}
