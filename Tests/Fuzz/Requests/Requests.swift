import CInitABI
import FoundationEssentials
import JobletModel
import JobletWire
import Sandbox

// What the worker reads from the gateway, which it does not trust: the bodies of its requests, and the plan it makes of a job. A
// request that is accepted becomes a plan that joblet-init's own reader accepts, with just the request's words in it.

private let filters: SeccompFilters = {
  do { return try SeccompFilters(profile: "default") } catch { fatalError("\(error)") }
}()
private let settings = SandboxSettings(allowedMounts: ["/usr"], landlock: LandlockSupport(abi: 6))

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  var choices = Choices(data, size)
  let kind = choices.below(5)
  let body = Data(choices.rest)
  switch kind {
  case 0: lookAtRun(body)
  case 1: roundTrip(StopRequest.self, body)
  case 2: roundTrip(Caller.self, body)
  case 3: roundTrip(OutputRequest.self, body)
  default: if let request = try? JSONDecoder().decode(JobRequest.self, from: body) { lookAtJob(request) }
  }
  return 0
}

private func roundTrip<Message: Codable & Equatable>(_ type: Message.Type, _ body: Data) {
  guard let message = try? JSONDecoder().decode(type, from: body) else { return }
  do {
    let again = try JSONDecoder().decode(type, from: JSONEncoder().encode(message))
    require(again == message, "\(message) becomes \(again)")
  } catch {
    fatalError("\(message) can't be written and read: \(error)")
  }
}

private func lookAtRun(_ body: Data) {
  guard let run = try? JSONDecoder().decode(RunRequest.self, from: body) else { return }
  roundTrip(RunRequest.self, body)
  lookAtJob(run.request)
}

private func lookAtJob(_ request: JobRequest) {
  let timeout: Duration?
  do { timeout = try request.validate() } catch {
    require(!error.field.isEmpty && !error.message.isEmpty, "a refusal that names nothing")
    return
  }
  let plan: Plan
  do { plan = try Plan.job(request, timeout: timeout, settings: settings, filters: filters) } catch {
    // Only a profile can be right in itself and not allowed here.
    require((error as? SandboxError)?.field == "seccomp", "an accepted request has no plan: \(error)")
    return
  }
  let read = strings(plan.encoded())
  require(read[JOBLET_OP_EXEC.rawValue] == [request.command] + request.args, "another command: \(read)")
  let environment = Set(read[JOBLET_OP_ENVIRONMENT.rawValue] ?? [])
  for (name, value) in request.env.merging(request.secretEnv, uniquingKeysWith: { $1 }) {
    require(environment.contains("\(name)=\(value)"), "\(name) is lost")
  }
}

/// The strings of each step, read as joblet-init reads them.
private func strings(_ encoded: [UInt8]) -> [UInt32: [String]] {
  let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: encoded.count, alignment: 8)
  defer { memory.deallocate() }
  memory.copyBytes(from: encoded)
  var plan = joblet_plan()
  require(joblet_plan_open(&plan, memory.baseAddress, UInt64(memory.count)) == 0, "joblet-init refuses the plan")
  var cursor = joblet_plan_cursor()
  var found: [UInt32: [String]] = [:]
  while joblet_plan_next(&plan, &cursor) == 1 {
    guard let step = cursor.step?.pointee else { continue }
    found[UInt32(step.op)] = (0..<step.strings).compactMap { index in
      joblet_plan_string(&cursor, index).map { String(cString: $0) }
    }
  }
  return found
}

func seeds() -> [[UInt8]] {
  // Three bytes choose the kind.
  func seed(_ kind: UInt8, _ text: String) -> [UInt8] { [0, 0, kind] + bytes(text) }
  let job = JobID(high: 0x0190_0000_0000_7000, low: 0x8000_0000_0000_0001)
  let request =
    #"{"command":"sh","args":["-c","x"],"env":{"A":"b"},"secret_env":{"K":"v"},"limits":{"cpu_percent":50,"memory_mb":64,"pids":9,"cpu_weight":100,"cpu_cores":"0-3,6","memory_high_mb":32,"io_bps":1000000},"name":"n","timeout":"5s","labels":{"a":"b"},"merge":true,"seccomp":"strict"}"#
  let caller = #"{"name":"a","role":"admin","request_id":"r"}"#
  return [
    seed(0, #"{"request":\#(request),"caller":\#(caller)}"#), seed(4, request), seed(2, caller),
    seed(1, #"{"job":"\#(job)","caller":\#(caller),"grace_ms":100}"#), seed(3, #"{"job":"\#(job)","after":3}"#),
  ]
}
