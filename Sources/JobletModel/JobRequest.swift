/// What a client asks for: the body of `POST /v1/jobs`. Decoding refuses unknown fields; ``validated(within:)`` the rest.
public struct JobRequest: Codable, Hashable, Sendable {
  /// A program: a path inside the job's root, or a name looked up in the job's `PATH`.
  public var command: String
  public var args: [String]
  public var env: [String: String]
  /// Like ``env``, but the values are never written anywhere: records show names only.
  public var secretEnv: [String: String]
  public var limits: Limits
  /// A name for people; need not be unique.
  public var name: String?
  /// How long the job may run, `30s`; absent means the node's default.
  public var timeout: String?
  public var labels: [String: String]
  /// One pipe for stdout and stderr, where true order between them matters; all lines are then `stdout`.
  public var merge: Bool
  /// The profile of system calls the job asks for, one of ``SeccompProfile``: the node's own or a stricter one. Absent means
  /// the node's (`isolation.seccomp`).
  public var seccomp: String?

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case command, args, env, limits, name, timeout, labels, merge, seccomp
    case secretEnv = "secret_env"
  }

  public init(
    command: String, args: [String] = [], env: [String: String] = [:], secretEnv: [String: String] = [:],
    limits: Limits = Limits(), name: String? = nil, timeout: String? = nil, labels: [String: String] = [:],
    merge: Bool = false, seccomp: String? = nil
  ) {
    self.command = command
    self.args = args
    self.env = env
    self.secretEnv = secretEnv
    self.limits = limits
    self.name = name
    self.timeout = timeout
    self.labels = labels
    self.merge = merge
    self.seccomp = seccomp
  }

  public init(from decoder: any Decoder) throws {
    try decoder.refuseUnknownFields(CodingKeys.self)
    let container = try decoder.container(keyedBy: CodingKeys.self)
    command = try container.decode(String.self, forKey: .command)
    args = try container.decodeIfPresent([String].self, forKey: .args) ?? []
    env = try container.decodeIfPresent([String: String].self, forKey: .env) ?? [:]
    secretEnv = try container.decodeIfPresent([String: String].self, forKey: .secretEnv) ?? [:]
    limits = try container.decodeIfPresent(Limits.self, forKey: .limits) ?? Limits()
    name = try container.decodeIfPresent(String.self, forKey: .name)
    timeout = try container.decodeIfPresent(String.self, forKey: .timeout)
    labels = try container.decodeIfPresent([String: String].self, forKey: .labels) ?? [:]
    merge = try container.decodeIfPresent(Bool.self, forKey: .merge) ?? false
    seccomp = try container.decodeIfPresent(String.self, forKey: .seccomp)
  }
}

extension JobRequest {
  /// The bounds that keep one request from costing others: the kernel's own argument limit is 128 KiB a string.
  public static let maxArguments = 4096
  public static let maxStringBytes = 131_071
  public static let maxTotalBytes = 1 << 20
  public static let timeoutRange: ClosedRange<Duration> = .milliseconds(1) ... .seconds(31_536_000)

  /// Checks every field's range.
  /// - Returns: the time-out as a duration, nil where none was asked for.
  /// - Throws: ``ValidationError`` for the first field that is wrong, with the allowed range.
  @discardableResult
  public func validate() throws(ValidationError) -> Duration? {
    guard !command.isEmpty else { throw ValidationError(field: "command", message: "must not be empty") }
    try checkString("command", command)
    guard args.count <= Self.maxArguments else {
      throw ValidationError(field: "args", message: "\(args.count) arguments; at most \(Self.maxArguments) are allowed")
    }
    for (index, argument) in args.enumerated() { try checkString("args.\(index)", argument) }
    try checkEnvironment("env", env)
    try checkEnvironment("secret_env", secretEnv)
    if let twice = secretEnv.keys.sorted().first(where: { env[$0] != nil }) {
      throw ValidationError(
        field: "secret_env.\(twice)", message: "is in env too; a variable can be in one of them only")
    }
    let total =
      args.reduce(command.utf8.count) { $0 + $1.utf8.count + 1 }
      + [env, secretEnv].joined().reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count + 2 }
    guard total <= Self.maxTotalBytes else {
      throw ValidationError(
        field: "args",
        message: "command, args and env are \(total) bytes together; at most \(Self.maxTotalBytes) are allowed")
    }
    try limits.validate()
    if let seccomp, SeccompProfile(rawValue: seccomp) == nil {
      throw ValidationError(
        field: "seccomp",
        message: "'\(seccomp.prefix(64))' is no profile; allowed is \(SeccompProfile.allowed)")
    }
    if let name {
      guard !name.isEmpty, name.utf8.count <= 128,
        name.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F })
      else { throw ValidationError(field: "name", message: "must be 1 to 128 bytes without control characters") }
    }
    guard labels.count <= 64 else { throw ValidationError(field: "labels", message: "at most 64 labels are allowed") }
    for (key, value) in labels {
      guard !key.isEmpty, key.utf8.count <= 128, value.utf8.count <= 256 else {
        throw ValidationError(field: "labels.\(key)", message: "keys are 1 to 128 bytes, values at most 256")
      }
    }
    guard let timeout else { return nil }
    guard let duration = DurationText.parse(timeout), Self.timeoutRange.contains(duration) else {
      throw ValidationError(
        field: "timeout",
        message: "'\(timeout.prefix(64))' is not a time-out; allowed is \(DurationText.allowed), 1ms to 365d")
    }
    return duration
  }

  private func checkString(_ field: String, _ value: String) throws(ValidationError) {
    guard !value.utf8.contains(0) else { throw ValidationError(field: field, message: "must not contain a NUL byte") }
    guard value.utf8.count <= Self.maxStringBytes else {
      throw ValidationError(
        field: field, message: "is \(value.utf8.count) bytes; at most \(Self.maxStringBytes) are allowed")
    }
  }

  private func checkEnvironment(_ field: String, _ values: [String: String]) throws(ValidationError) {
    guard values.count <= Self.maxArguments else {
      throw ValidationError(field: field, message: "at most \(Self.maxArguments) variables are allowed")
    }
    for (name, value) in values {
      guard !name.isEmpty, !name.contains("=") else {
        throw ValidationError(
          field: "\(field).\(name.prefix(64))", message: "a variable's name must not be empty or contain '='")
      }
      try checkString("\(field).\(name.prefix(64))", name)
      try checkString("\(field).\(name.prefix(64))", value)
    }
  }
}
