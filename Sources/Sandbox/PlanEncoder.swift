import CInitABI

extension Plan {
  /// The plan as joblet-init reads it: joblet_plan.h says how. Holds the secrets of the job's environment.
  public func encoded() -> [UInt8] {
    var encoder = PlanEncoder()
    for step in steps { encoder.append(step) }
    return encoder.finished(stepCount: steps.count)
  }
}

private struct PlanEncoder {
  private var bytes: [UInt8] = []

  init() {
    number(UInt64(JOBLET_PLAN_MAGIC))
    number(UInt32(0))  // the size, known at the end
    number(UInt32(0))  // the number of steps
  }

  mutating func finished(stepCount: Int) -> [UInt8] {
    put(UInt32(bytes.count), at: 8)
    put(UInt32(stepCount), at: 12)
    return bytes
  }

  mutating func append(_ step: PlanStep) {
    switch step {
    case .privateMounts, .loopback, .devices, .terminals, .proc, .pivot, .readOnlyRoot, .landlock, .cgroupNamespace,
      .userNamespace, .keyring,
      .dropCapabilities, .noNewPrivileges, .closeDescriptors:
      write(step)
    case .root(let staging, let size): write(step, numbers: [size], strings: [staging])
    case .bind(let source, let target, let options): write(step, flags: options.rawValue, strings: [source, target])
    case .tmpfs(let target, let size, let mode, let options):
      write(step, flags: options.rawValue, numbers: [size, UInt64(mode)], strings: [target])
    case .mountPoint(let path), .mask(let path), .readOnlyPath(let path), .directory(let path),
      .workspace(let path), .facts(let path):
      write(step, strings: [path])
    case .symlink(let path, let content): write(step, strings: [path, content])
    case .landlockRules(let handled, let scoped): write(step, numbers: [handled.rawValue, scoped])
    case .landlockAllow(let path, let rights): write(step, numbers: [rights.rawValue], strings: [path])
    case .file(let path, let content, let mode): write(step, numbers: [UInt64(mode)], strings: [path, content])
    case .standardStreams(let merge): write(step, numbers: [merge ? 1 : 0])
    case .oomScore(let score): write(step, numbers: [UInt64(score)])
    case .resourceLimit(let limit, let soft, let hard): write(step, numbers: [limit.rawValue, soft, hard])
    case .ids(let uid, let gid): write(step, numbers: [UInt64(uid), UInt64(gid)])
    case .violations(let program), .seccomp(let program), .jobSeccomp(let program), .initSeccomp(let program):
      write(step, block: program.bytes)
    case .environment(let strings), .exec(let strings): write(step, strings: strings)
    case .timeout(let after, let grace): write(step, numbers: [nanoseconds(after), nanoseconds(grace)])
    case .initIDs(let id): write(step, numbers: [UInt64(id)])
    }
  }

  private func nanoseconds(_ duration: Duration) -> UInt64 {
    let (seconds, attoseconds) = duration.components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? .max : product + UInt64(attoseconds / 1_000_000_000)
  }

  private mutating func write(
    _ step: PlanStep, flags: UInt16 = 0, numbers: [UInt64] = [], strings: [String] = [], block: [UInt8] = []
  ) {
    number(UInt16(step.op))
    number(flags)
    number(UInt32(strings.count))
    number(UInt32(strings.reduce(block.count) { $0 + $1.utf8.count + 1 }))
    number(UInt32(0))
    for index in 0..<3 { number(index < numbers.count ? numbers[index] : 0) }
    bytes += block
    for string in strings {
      bytes += string.utf8
      bytes.append(0)
    }
    while bytes.count % 8 != 0 { bytes.append(0) }
  }

  private mutating func number(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  private mutating func put(_ value: UInt32, at offset: Int) {
    withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + 4, with: $0) }
  }
}
