import JobletModel

/// A compiled classic BPF program for seccomp(2): instructions of 8 bytes, `struct sock_filter`.
public struct SeccompProgram: Hashable, Sendable {
  public let bytes: [UInt8]

  public init(bytes: [UInt8]) { self.bytes = bytes }

  public var instructionCount: Int { bytes.count / 8 }
}

extension SeccompProfile {
  /// Reads `isolation.seccomp`, or a request's `seccomp`.
  init(_ name: String, field: String) throws(SandboxError) {
    guard let profile = SeccompProfile(rawValue: name) else {
      throw SandboxError(
        field: field, message: "'\(name.prefix(64))' is not a profile; allowed are \(SeccompProfile.allowed)")
    }
    self = profile
  }
}

/// The filters of a node, compiled once when exec starts (a few milliseconds each, so not per job).
public struct SeccompFilters: Hashable, Sendable {
  /// `isolation.seccomp`: what jobs get that ask for nothing, and the most that one can get.
  public let profile: SeccompProfile
  /// What joblet-init may call once the job runs.
  public let supervisor: SeccompProgram
  /// Catches what is never legitimate; every job has it below its profile's filter.
  public let violations: SeccompProgram
  /// The node's profile and the stricter ones.
  private let programs: [SeccompProfile: SeccompProgram]

  /// Compiles `isolation.seccomp` and the stricter profiles, which a request may ask for.
  /// - Throws: ``SandboxError`` for an unknown profile, or if libseccomp refuses.
  public init(profile name: String) throws(SandboxError) {
    let profile = try SeccompProfile(name, field: "isolation.seccomp")
    var programs: [SeccompProfile: SeccompProgram] = [:]
    for one in SeccompProfile.allCases where one <= profile { programs[one] = try one.compile() }
    self.profile = profile
    self.programs = programs
    supervisor = try SupervisorProfile.compile()
    violations = try ViolationFilter.compile()
  }

  /// What the processes of a job may call that asks for nothing.
  public var payload: SeccompProgram { programs[profile] ?? SeccompProgram(bytes: []) }

  /// The profile of a job.
  /// - Parameter asked: the request's `seccomp`; nil is the node's.
  /// - Throws: ``SandboxError`` for an unknown profile, and for one that allows more than the node's.
  public func profile(asked: String?) throws(SandboxError) -> SeccompProfile {
    guard let asked else { return profile }
    let wanted = try SeccompProfile(asked, field: "seccomp")
    guard wanted <= profile else {
      let allowed = SeccompProfile.allCases.filter { $0 <= profile }.map(\.rawValue)
      throw SandboxError(
        field: "seccomp",
        message:
          "'\(wanted.rawValue)' allows more than this node's profile '\(profile.rawValue)'; allowed are \(allowed.joined(separator: ", "))"
      )
    }
    return wanted
  }

  /// The filter of a profile that ``profile(asked:)`` has returned.
  public func program(_ profile: SeccompProfile) throws(SandboxError) -> SeccompProgram {
    guard let program = programs[profile] else {
      throw SandboxError(field: "seccomp", message: "'\(profile.rawValue)' is not a profile of this node")
    }
    return program
  }
}
