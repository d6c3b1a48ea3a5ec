import ArgumentParser
import Glibc
import JobletModel

/// What a job is given besides its command.
public struct JobOptions: ParsableArguments {
  @Option(help: ArgumentHelp("A name for people.", valueName: "name")) public var name: String?
  @Option(help: ArgumentHelp("A label; may be repeated.", valueName: "key=value")) public var label: [String] = []
  @Option(help: ArgumentHelp("How long it may run: \(DurationText.allowed).", valueName: "time")) public var timeout:
    String?
  @Option(
    help: ArgumentHelp("CPU time in percent of one core: 50 is half a core, 200 two cores.", valueName: "percent"))
  public var maxCpu: Int?
  @Option(help: ArgumentHelp("Memory in MiB, or with a unit: 64, 512MiB, 2GiB.", valueName: "size"))
  public var maxMemory: String?
  @Option(
    help: ArgumentHelp(
      "The memory from which on it is slowed down, before --max-memory kills it: 48, 256MiB.", valueName: "size"))
  public var memoryHigh: String?
  @Option(
    help: ArgumentHelp("Bytes a second to and from the disk its workspace is on: 1048576, 10MB.", valueName: "size"))
  public var maxIobps: String?
  @Option(help: ArgumentHelp("The CPUs it may run on: 0-3,6.", valueName: "list")) public var cpuCores: String?
  @Option(help: ArgumentHelp("Its share of a busy CPU, beside a job of 100: 1 to 10000.", valueName: "weight"))
  public var cpuWeight: Int?
  @Option(
    help: ArgumentHelp(
      "The profile of system calls, the node's or a stricter one: \(SeccompProfile.allowed).", valueName: "profile"),
    completion: .list(SeccompProfile.allCases.map(\.rawValue)))
  public var seccomp: String?
  @Option(help: ArgumentHelp("Processes and threads.", valueName: "count")) public var pids: Int?
  @Option(
    name: [.customShort("e"), .long],
    help: ArgumentHelp(
      "An environment variable; NAME alone passes rnx's own on. May be repeated.", valueName: "NAME=VALUE"))
  public var env: [String] = []
  @Option(
    name: [.customShort("s"), .long],
    help: ArgumentHelp(
      "The same for a secret, whose value is never written down. May be repeated.", valueName: "NAME=VALUE"))
  public var secretEnv: [String] = []
  @Option(
    help: ArgumentHelp(
      "A file of NAME=VALUE lines; --env goes over it; - is stdin. May be repeated.", valueName: "file"),
    completion: .file())
  public var envFile: [String] = []
  @Option(
    help: ArgumentHelp("The same for secrets. May be repeated.", valueName: "file"), completion: .file())
  public var secretEnvFile: [String] = []
  @Option(
    help: ArgumentHelp(
      "A secret whose value is a file's text, less one newline at its end; - is stdin. May be repeated.",
      valueName: "NAME=file"))
  public var secretFile: [String] = []
  @Flag(help: "One pipe for stdout and stderr, which keeps the order between them.") public var merge = false

  public init() {}

  /// Makes the request, checked by the rules the node checks it by.
  /// - Parameter environment: rnx's own, for variables given by name alone.
  /// - Throws: ``Failure`` naming the option and what is allowed.
  public func request(_ words: [String], environment: [String: String]) throws -> JobRequest {
    var request = JobRequest(command: words[0], args: Array(words.dropFirst()))
    request.name = name
    request.timeout = timeout
    request.merge = merge
    request.seccomp = seccomp
    request.limits.cpuPercent = maxCpu
    request.limits.cpuCores = cpuCores
    request.limits.cpuWeight = cpuWeight
    request.limits.memoryMB = try maxMemory.map { try memory($0, "--max-memory") }
    request.limits.memoryHighMB = try memoryHigh.map { try memory($0, "--memory-high") }
    request.limits.ioBps = try maxIobps.map(rate)
    request.limits.pids = pids
    try checkStdin()
    for file in envFile { request.env.merge(try EnvironmentFile.read(file)) { _, new in new } }
    for text in env { try add(text, to: &request.env, "--env", environment) }
    for file in secretEnvFile { request.secretEnv.merge(try EnvironmentFile.read(file)) { _, new in new } }
    for text in secretEnv { try add(text, to: &request.secretEnv, "--secret-env", environment) }
    for text in secretFile { try addFile(text, to: &request.secretEnv) }
    for text in label {
      guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
        throw JobOptions.wrong("--label '\(text.prefix(100))'", "a label is KEY=VALUE")
      }
      request.labels[String(text[..<equals])] = String(text[text.index(after: equals)...])
    }
    do {
      try request.validate()
    } catch {
      throw JobOptions.wrong(JobOptions.option(error.field), error.message)
    }
    return request
  }

  private func rate(_ text: String) throws -> Int64 {
    guard let bytes = ByteSizeText.parse(text) else {
      throw JobOptions.wrong("--max-iobps '\(text.prefix(64))'", "allowed is \(ByteSizeText.allowed)")
    }
    return bytes
  }

  private func memory(_ text: String, _ option: String) throws -> Int {
    if let plain = Int(text) { return plain }
    guard let bytes = ByteSizeText.parse(text) else {
      throw JobOptions.wrong(
        "\(option) '\(text.prefix(64))'", "allowed is a number of MiB, or \(ByteSizeText.allowed)")
    }
    guard bytes >= 1 << 20 else { throw JobOptions.wrong("\(option) '\(text.prefix(64))'", "the least is 1MiB") }
    return Int(bytes >> 20)
  }

  private func add(
    _ text: String, to variables: inout [String: String], _ option: String, _ environment: [String: String]
  ) throws {
    if let equals = text.firstIndex(of: "=") {
      guard equals != text.startIndex else { throw JobOptions.wrong("\(option) '='…", "the name is missing") }
      variables[String(text[..<equals])] = String(text[text.index(after: equals)...])
      return
    }
    guard let value = environment[text] else {
      throw JobOptions.wrong(
        "\(option) \(text.prefix(100))",
        "a name alone takes the value from rnx's own environment, which has no such variable")
    }
    variables[text] = value
  }

  private func addFile(_ text: String, to variables: inout [String: String]) throws {
    guard let equals = text.firstIndex(of: "="), equals != text.startIndex, text.last != "=" else {
      throw JobOptions.wrong("--secret-file '\(text.prefix(100))'", "it is NAME=FILE, or NAME=- for stdin")
    }
    variables[String(text[..<equals])] = try EnvironmentFile.value(String(text[text.index(after: equals)...]))
  }

  /// Stdin can be read once.
  private func checkStdin() throws {
    let readers = (envFile + secretEnvFile).filter { $0 == "-" } + secretFile.filter { $0.hasSuffix("=-") }
    guard readers.count > 1 else { return }
    throw JobOptions.wrong("- for \(readers.count) files", "stdin can be one of them only")
  }

  /// The option that sets a field of the request.
  static func option(_ field: String) -> String {
    let head = field.split(separator: ".", maxSplits: 1).first.map(String.init) ?? field
    let rest = field.dropFirst(head.count)
    switch field {
    case "limits.cpu_percent": return "--max-cpu"
    case "limits.cpu_weight": return "--cpu-weight"
    case "limits.cpu_cores": return "--cpu-cores"
    case "limits.memory_mb": return "--max-memory"
    case "limits.memory_high_mb": return "--memory-high"
    case "limits.io_bps": return "--max-iobps"
    case "limits.pids": return "--pids"
    default: break
    }
    switch head {
    case "name": return "--name"
    case "timeout": return "--timeout"
    case "seccomp": return "--seccomp"
    case "labels": return "--label\(rest.isEmpty ? "" : " " + rest.dropFirst())"
    case "env": return "--env\(rest.isEmpty ? "" : " " + rest.dropFirst())"
    case "secret_env": return "--secret-env\(rest.isEmpty ? "" : " " + rest.dropFirst())"
    case "command": return "COMMAND"
    case "args": return "the command's arguments"
    default: return field
    }
  }

  static func wrong(_ option: String, _ why: String) -> Failure {
    Failure("\(option) is not right", why: why, next: "'rnx job run --help' lists the options")
  }
}
