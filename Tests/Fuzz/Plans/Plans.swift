import CInitABI
import Glibc
import JobletModel
import Sandbox

// What joblet-init reads: the bytes of a plan, whoever wrote them. It runs as host root, with no libc and nothing between it and
// the kernel, so whatever `joblet_plan_open` accepts must be whole: every step and every string inside the bytes.

/// Memory that ends where the input ends, with a page nobody may touch behind it: a read past the end is a fault at once.
private struct GuardedMemory: @unchecked Sendable {
  // Unchecked: an address, read and written by libFuzzer's one thread.
  static let size = 64 << 10
  let base: UnsafeMutableRawPointer

  init() {
    let page = Int(getpagesize())
    let memory = mmap(nil, Self.size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let memory, memory != MAP_FAILED, mprotect(memory + Self.size, page, PROT_NONE) == 0 else {
      fatalError("no memory with a guard behind it")
    }
    base = memory
  }

  /// The bytes at the end, at a multiple of 8 as joblet-init maps them.
  func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    let start = base + ((Self.size - bytes.count) & ~7)
    if let from = bytes.baseAddress { start.copyMemory(from: from, byteCount: bytes.count) }
    return UnsafeRawBufferPointer(start: start, count: bytes.count)
  }
}

private let memory = GuardedMemory()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  guard size <= GuardedMemory.size else { return 0 }
  let bytes = memory.copy(UnsafeRawBufferPointer(start: data, count: size))
  var plan = joblet_plan()
  guard joblet_plan_open(&plan, bytes.baseAddress, UInt64(bytes.count)) == 0 else { return 0 }
  walk(&plan, bytes)
  return 0
}

private func walk(_ plan: inout joblet_plan, _ bytes: UnsafeRawBufferPointer) {
  var cursor = joblet_plan_cursor()
  var count: UInt32 = 0
  var phase: UInt32 = 0
  var execs = 0
  var isOfAJob = false
  while joblet_plan_next(&plan, &cursor) == 1 {
    guard let step = cursor.step?.pointee, let operands = cursor.operands else { fatalError("a step that is nowhere") }
    let start = UnsafeRawPointer(operands) - (bytes.baseAddress ?? UnsafeRawPointer(operands))
    require(start >= 0 && start + Int(step.length) <= bytes.count, "step \(count) reaches beyond the plan")
    require(UInt32(step.op) >> 8 >= phase && execs == 0, "step \(count) comes after a later one")
    phase = UInt32(step.op) >> 8
    isOfAJob = isOfAJob || phase == 4
    if UInt32(step.op) == JOBLET_OP_EXEC.rawValue {
      execs += 1
      require(step.strings >= 1, "nothing to execute")
    }
    var length = 0
    for index in 0..<step.strings {
      guard let text = joblet_plan_string(&cursor, index) else { fatalError("string \(index) is nowhere") }
      length += strlen(text) + 1
    }
    require(step.strings == 0 || length == Int(step.length), "the strings of step \(count) are not its operands")
    count += 1
  }
  require(count == plan.step_count, "\(count) steps of \(plan.step_count)")
  require(isOfAJob ? execs == 1 : execs == 0, "a plan with \(execs) commands")
}

func seeds() -> [[UInt8]] {
  guard let filters = try? SeccompFilters(profile: "default") else { fatalError("libseccomp refuses") }
  var settings = SandboxSettings(allowedMounts: ["/usr", "/etc/ssl"])
  settings.landlock = LandlockSupport(abi: 6)
  let request = JobRequest(command: "sh", args: ["-c", "x"], env: ["A": "b"], seccomp: "strict")
  do {
    // The filters' bytes are no news to the reader, and would be most of the seed.
    let plans = [
      try Plan.template(settings), try Plan.sandbox(settings, filters: filters),
      try Plan.job(request, timeout: .seconds(1), settings: settings, filters: filters),
    ]
    return plans.map { $0.encoded() }.filter { $0.count <= 4096 } + [try job(request, settings, filters)]
  } catch {
    fatalError("\(error)")
  }
}

/// One of the node's own profile, which brings no filter.
private func job(_ request: JobRequest, _ settings: SandboxSettings, _ filters: SeccompFilters) throws -> [UInt8] {
  var request = request
  request.seccomp = nil
  return try Plan.job(request, timeout: .seconds(1), settings: settings, filters: filters).encoded()
}
