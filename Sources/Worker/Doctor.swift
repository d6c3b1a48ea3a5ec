import FoundationEssentials
import JobletConfig

/// `joblet-exec doctor`: whether this host can run jobs as configured, and for each shortfall what it means and how to mend it.
public struct DoctorReport: Encodable, Sendable {
  public enum Status: String, Encodable, Sendable {
    case ok, warning, failed
    /// It could not be looked at; it says why.
    case skipped
  }

  public struct Finding: Encodable, Sendable {
    /// What was looked at: `user namespaces`.
    public var check: String
    public var status: Status
    /// What was found.
    public var found: String
    /// What a shortfall means for jobs; absent where there is none.
    public var means: String?
    /// How to mend it.
    public var mend: String?
  }

  public var findings: [Finding]
  /// False if jobs can't run here as configured.
  public var isHealthy: Bool { !findings.contains { $0.status == .failed } }

  /// Looks at this host. Changes nothing; blocks for some milliseconds. As root it sees more.
  public init(_ configuration: Configuration, paths: ExecPaths = ExecPaths()) {
    self.init(configuration, HostFacts(configuration, paths: paths))
  }

  package init(_ configuration: Configuration, _ facts: HostFacts) {
    findings = DoctorChecks(configuration: configuration, facts: facts).all
  }

  public func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }

  /// For people: a line a check, and what to do below those that need it.
  public var text: String {
    let width = findings.map(\.check.count).max() ?? 0
    var lines: [String] = []
    for finding in findings {
      let status = finding.status.rawValue
      let check = finding.check + String(repeating: " ", count: width - finding.check.count)
      lines.append("\(status)\(String(repeating: " ", count: 8 - status.count)) \(check)  \(finding.found)")
      for more in [finding.means, finding.mend.map { "mend: \($0)" }] {
        if let more { lines.append("         \(more)") }
      }
    }
    func count(_ status: Status) -> Int { findings.count { $0.status == status } }
    lines.append(
      "\n\(count(.failed)) failed, \(count(.warning)) warnings, \(count(.skipped)) skipped, \(count(.ok)) ok: "
        + (isHealthy ? "this host can run jobs as configured" : "this host can't run jobs as configured"))
    return lines.joined(separator: "\n")
  }
}

/// What was found of the host: everything the checks decide on.
package struct HostFacts: Sendable {
  /// The outcome of asking the kernel for something.
  package enum Probe: Sendable, Hashable {
    case works
    case fails(String)
    case notTried(String)
  }

  /// IDs that another user of this host may use: `/etc/subuid`, `/etc/passwd`.
  package struct TakenIDs: Sendable, Hashable {
    package var file: String
    package var name: String
    package var first: UInt64
    package var count: UInt64

    package init(file: String, name: String, first: UInt64, count: UInt64) {
      self.file = file
      self.name = name
      self.first = first
      self.count = count
    }
  }

  /// `uname -r`.
  package var kernel = ""
  /// cgroup v2 is what is mounted at `/sys/fs/cgroup`.
  package var isUnified = false
  package var cgroupPath = ""
  /// `cgroup.controllers` there.
  package var controllers: [String] = []
  /// The files of a cgroup that is not the root; nil: there is none to look at.
  package var cgroupFiles: Set<String>?
  package var hasPressure = false
  package var hasSystemd = false
  /// `/proc/sys`, by its names with dots; absent where this kernel has no such setting.
  package var settings: [String: String] = [:]
  package var userNamespace = Probe.notTried("")
  package var notification = Probe.notTried("")
  package var cloneIntoCgroup = Probe.notTried("")
  package var idMapping = Probe.notTried("")
  /// The ABI of the kernel's Landlock, or the error's name.
  package var landlock: Result<Int, LandlockError> = .failure(LandlockError(name: "ENOSYS"))
  package var quota: Result<String, QuotaError> = .success("missing")
  package var isStateOnTmpfs = false
  package var stateBytesFree: Int64 = 0
  package var takenIDs: [TakenIDs] = []
  package var hasSwap = false
  package var initProgram = Probe.notTried("")
  package var hasGatewayUser = false

  package struct LandlockError: Error, Sendable, Hashable {
    package var name: String
    package init(name: String) { self.name = name }
  }

  package struct QuotaError: Error, Sendable, Hashable {
    package var description: String
    package init(description: String) { self.description = description }
  }

  package init() {}
}
