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
    /// False: the job's plan can still be changed when the go comes.
    var sealsPlan = true
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
    mkdir("\(base)/facts", 0o755)
    chown("\(base)/work", options.runAs.uid, options.runAs.gid)
    let settings = SandboxSettings(
      allowedMounts: [
        "/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl", "/etc/ca-certificates", "/etc/alternatives",
      ], runAs: options.runAs, stagingDirectory: "\(state)/root", timeoutGrace: options.grace,
      landlock: options.landlock)
    let plan = try Plan.sandbox(settings, filters: filters)
    let jobPlan = try Plan.job(request, timeout: options.timeout, settings: settings, filters: filters)
    let namespace = try UserNamespace.make(firstID: 1_879_048_192)
    let ring = try makeRing("\(base)/ring", options)
    let header = ring.header.assumingMemoryBound(to: joblet_ring_header.self)
    let data = try Fifo.create("\(base)/data")
    let space = try Fifo.create("\(base)/space")
    let group = JobCgroup(root: root, name: "\(id)")
    try group.create(root: root)
    try group.apply(options.limits, root: root)
    let memory = try FileDescriptor.sealedMemory(named: "plan", plan.encoded())
    let spawner = try InitSpawner(executable: initPath)
    let pay = try group.payLeaf.open()
    let kill = try group.openPayKill()
    let leaf = try group.initLeaf.open()
    let template = try makeTemplate(settings, spawner, base: base, cgroup: leaf.raw)
    let work = try DetachedMount.workspace("\(base)/work", userNamespace: namespace.descriptor.raw)
    let facts = try DetachedMount.readOnly("\(base)/facts")
    let jobMemory = try FileDescriptor.memory(named: "job-plan")
    let handle = try spawner.spawn(
      InitDescriptors(
        plan: memory.raw, ring: ring.descriptor.raw, dataFifo: data.descriptor.raw, spaceFifo: space.descriptor.raw,
        userNamespace: namespace.descriptor.raw, payCgroup: pay.raw, payKill: kill.raw, jobPlan: jobMemory.raw,
        workspace: work.descriptor.raw, facts: facts.descriptor.raw), cgroup: leaf.raw,
      mounts: template.descriptor.raw)
    var outcome = Outcome(
      kind: 0, code: 0, timedOut: false, failure: SetupFailure(setupStep: 0, setupErrno: 0), records: [], seqs: [])
    var position: UInt64 = 0
    var gone = false
    var stopped = false
    while true {
      joblet_ring_set_exec_waiting(header, 1)
      let phase = joblet_ring_phase(header)
      let head = joblet_ring_head(header)
      if phase == JOBLET_PHASE_READY.rawValue, !gone {
        gone = true
        // All that a claim is: what the job has of its own, then the go.
        try Namespace.open(.hostName, of: handle.pid).setHostName(
          Plan.hostName(of: id), from: Namespace.open(.hostName, of: getpid()))
        for (name, content) in Plan.facts(of: id) {
          let file = try FileDescriptor.open("\(base)/facts/\(name)", O_WRONLY | O_CREAT, mode: 0o644)
          try file.writeAll(Array(content.utf8))
        }
        if options.sealsPlan {
          try jobMemory.fillAndSeal(jobPlan.encoded())
        } else {
          try jobMemory.writeAll(jobPlan.encoded())
        }
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

  private static func makeRing(_ path: String, _ options: Options) throws -> MirroredFile {
    let ring = try MirroredFile.create(path, headerSize: Int(JOBLET_RING_HEADER_SIZE), dataSize: options.dataSize)
    let header = ring.header.assumingMemoryBound(to: joblet_ring_header.self)
    header.pointee.magic = UInt64(JOBLET_RING_MAGIC)
    header.pointee.data_size = UInt64(options.dataSize)
    header.pointee.max_records = options.maxRecords
    header.pointee.next_seq = 1
    return ring
  }

  /// As exec does once when it starts.
  private static func makeTemplate(
    _ settings: SandboxSettings, _ spawner: borrowing InitSpawner, base: String, cgroup: CInt
  ) throws -> Namespace {
    let plan = try Plan.template(settings)
    let memory = try FileDescriptor.sealedMemory(named: "template", plan.encoded())
    let ring = try makeRing("\(base)/template-ring", Options())
    let header = ring.header.assumingMemoryBound(to: joblet_ring_header.self)
    let data = try Fifo.create("\(base)/template-data")
    let space = try Fifo.create("\(base)/template-space")
    joblet_ring_set_exec_waiting(header, 1)
    let handle = try spawner.spawn(
      InitDescriptors(
        plan: memory.raw, ring: ring.descriptor.raw, dataFifo: data.descriptor.raw, spaceFifo: space.descriptor.raw),
      cgroup: cgroup)
    var entry = pollfd(fd: data.descriptor.raw, events: Int16(POLLIN), revents: 0)
    #expect(poll(&entry, 1, 60_000) == 1)
    let failure = SetupFailure(setupStep: header.pointee.setup_step, setupErrno: header.pointee.setup_errno)
    #expect(
      joblet_ring_phase(header) == JOBLET_PHASE_READY.rawValue,
      "\(failure.step(in: [plan])): \(Errno.name(of: failure.code))")
    let namespace = try Namespace.open(.mount, of: handle.pid)
    try handle.send(signal: SIGKILL)
    _ = try handle.wait()
    return namespace
  }
}
