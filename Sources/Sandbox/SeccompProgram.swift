/// A compiled classic BPF program for seccomp(2): instructions of 8 bytes, `struct sock_filter`.
public struct SeccompProgram: Hashable, Sendable {
  public let bytes: [UInt8]

  public init(bytes: [UInt8]) { self.bytes = bytes }

  public var instructionCount: Int { bytes.count / 8 }
}

/// The filters of a node, compiled once when exec starts (a few milliseconds each, so not per job).
public struct SeccompFilters: Hashable, Sendable {
  /// What a job's processes may call.
  public let payload: SeccompProgram
  /// What joblet-init may call once the job runs.
  public let supervisor: SeccompProgram

  /// Compiles `isolation.seccomp`. The only profile so far is `default`.
  /// - Throws: ``SandboxError`` for an unknown profile, or if libseccomp refuses.
  public init(profile: String) throws(SandboxError) {
    guard profile == "default" else {
      throw SandboxError(
        field: "isolation.seccomp", message: "'\(profile.prefix(64))' is not a profile; allowed is default")
    }
    payload = try DefaultProfile.compile()
    supervisor = try SupervisorProfile.compile()
  }
}
