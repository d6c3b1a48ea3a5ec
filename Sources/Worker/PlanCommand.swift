import FoundationEssentials
import JobletConfig
import JobletModel
import LinuxKernel
import Logging
import Sandbox

/// `joblet-exec plan`: what would be done for a job, as data. Runs nothing and takes no right.
public struct PlanDocument: Encodable, Sendable {
  /// One step, in the order of execution.
  public struct Step: Encodable, Sendable {
    /// From 1 on.
    public var number: Int
    /// Whose process does it.
    public var by: String
    public var step: String
    public var details: [String]
    /// The man page or kernel document it rests on.
    public var source: String
    /// What breaks if it is left out or moves.
    public var breaks: String
  }

  /// As asked, secrets masked and the node's profile filled in.
  public var request: JobRequest
  /// The ABI of the kernel's Landlock, where jobs get it.
  public var landlock: Int?
  public var steps: [Step]

  /// A body of `POST /v1/jobs` may be as long.
  public static let maxBytes = 2 << 20

  /// - Parameter spec: a body of `POST /v1/jobs`.
  /// - Throws: a sentence for a person, as ``SetupError``.
  public init(spec: [UInt8], configuration: Configuration) throws(SetupError) {
    try self.init(spec: spec, configuration: configuration, landlockABI: Landlock.abi())
  }

  package init(
    spec: [UInt8], configuration: Configuration, landlockABI: Result<Int, Errno>
  ) throws(SetupError) {
    var request = try PlanDocument.request(spec)
    // Here, before anything else sees it: a plan holds the environment as it is.
    request.secretEnv = request.secretEnv.mapValues { _ in JobRecord.maskedSecret }
    // A warning of what is missing is for the daemon's journal.
    let silent = Logger(label: "plan") { _ in SwiftLogNoOpLogHandler() }
    let support = try LandlockPolicy.support(configuration.isolation.landlock, abi: landlockABI, logger: silent)
    do {
      let filters = try SeccompFilters(profile: configuration.isolation.seccomp)
      request = try filters.effective(request)
      let settings = try SandboxSettings(
        configuration, stateDirectory: ExecPaths.defaultStateDirectory, landlock: support)
      let timeout = request.timeout.flatMap { DurationText.parse($0) } ?? PlanDocument.defaultTimeout(configuration)
      var steps = try Plan.template(settings).steps.map {
        PlanDocument.step("joblet-init as host root, once for all jobs, before there is any", $0)
      }
      steps += PlanDocument.makingSandbox(configuration)
      steps += try Plan.sandbox(settings, filters: filters).steps.map { PlanDocument.step(PlanDocument.actor($0), $0) }
      steps += PlanDocument.claimingSandbox(request)
      steps += try Plan.job(request, timeout: timeout, settings: settings, filters: filters).steps.map {
        PlanDocument.step(PlanDocument.actor($0), $0)
      }
      for index in steps.indices { steps[index].number = index + 1 }
      self.request = request
      landlock = support?.abi
      self.steps = steps
    } catch {
      throw SetupError(description: (error as? Problem)?.detail ?? "\(error)")
    }
  }

  private static func defaultTimeout(_ configuration: Configuration) -> Duration? {
    configuration.joblet.jobTimeout > .zero ? configuration.joblet.jobTimeout : nil
  }

  private static func actor(_ step: PlanStep) -> String {
    switch step.op >> 8 {
    case 1: "joblet-init as host root, in a sandbox's new namespaces, before it has a job"
    case 2: "the payload's process, born in the sandbox's cgroup, before it has a job"
    case 3: "joblet-init as PID 1 of the sandbox, before it has a job"
    default: "the payload's process at the job's start, its rights given up"
    }
  }

  private static func step(_ by: String, _ step: PlanStep) -> Step {
    Step(
      number: 0, by: by, step: step.description, details: step.details, source: step.note.source,
      breaks: step.note.breaks)
  }

  private static func request(_ spec: [UInt8]) throws(SetupError) -> JobRequest {
    guard spec.count <= maxBytes else {
      throw SetupError(description: "the request is \(spec.count) bytes; at most \(maxBytes) are allowed")
    }
    do {
      let request = try JSONDecoder().decode(JobRequest.self, from: Data(spec))
      try request.validate()
      return request
    } catch let error as DecodingError {
      throw SetupError(description: "the request is not a body of POST /v1/jobs: \(PlanDocument.sentence(error))")
    } catch {
      throw SetupError(description: "the request is not a body of POST /v1/jobs: \(error)")
    }
  }

  private static func sentence(_ error: DecodingError) -> String {
    func path(_ keys: [any CodingKey]) -> String {
      let text = keys.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
      return text.isEmpty ? "" : "\(text): "
    }
    return switch error {
    case .keyNotFound(let key, let context): "\(path(context.codingPath + [key]))is missing"
    case .typeMismatch(let wanted, let context), .valueNotFound(let wanted, let context):
      "\(path(context.codingPath))must be of type \(wanted)"
    case .dataCorrupted(let context): "\(path(context.codingPath))\(context.debugDescription)"
    @unknown default: "\(error)"
    }
  }

  /// JSON, keys sorted.
  public func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .useDefaultKeys
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }

  /// For people. Steps of one kind in a row share their note.
  public var text: String {
    var lines: [String] = []
    for (index, step) in steps.enumerated() {
      let previous = index == 0 ? nil : steps[index - 1]
      if step.by != previous?.by { lines.append(lines.isEmpty ? step.by : "\n\(step.by)") }
      let details = step.details.isEmpty ? "" : " (\(step.details.joined(separator: ", ")))"
      lines.append("\(step.number < 10 ? " " : "")\(step.number). \(step.step)\(PlanDocument.printable(details))")
      let next = index + 1 < steps.count ? steps[index + 1] : nil
      if next?.source == step.source, next?.breaks == step.breaks, next?.by == step.by { continue }
      lines.append("      rests on \(step.source)")
      lines.append("      \(step.breaks)")
    }
    return lines.joined(separator: "\n")
  }

  /// A job's own words, safe for a terminal.
  private static func printable(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? "?" : $0 }))
  }
}

extension SandboxSettings {
  /// What the configuration grants every job.
  init(
    _ configuration: Configuration, stateDirectory: String, landlock: LandlockSupport?
  ) throws(SandboxError) {
    self.init(
      allowedMounts: configuration.filesystem.allowedMounts, workspacePath: configuration.filesystem.workspaceDir,
      tmpSize: configuration.filesystem.tmpSize,
      runAs: try RunAs(user: configuration.process.defaultUser, group: configuration.process.defaultGroup),
      stagingDirectory: "\(stateDirectory)/root", timeoutGrace: configuration.joblet.stopGrace, landlock: landlock)
  }
}
