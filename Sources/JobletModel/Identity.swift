/// What a client may do, taken from the organisational unit (OU) of its certificate.
public enum Role: String, Codable, Sendable, CaseIterable, Hashable {
  case reader, developer, maintainer, admin
  /// A peer gateway of the fleet.
  case node

  /// Reads an OU, whatever its case; `viewer` is another name of `reader`. Nil for an unknown one, which is refused.
  public init?(organizationalUnit: some StringProtocol) {
    let name = organizationalUnit.lowercased()
    if name == "viewer" {
      self = .reader
    } else if let role = Role(rawValue: name) {
      self = role
    } else {
      return nil
    }
  }

  /// The operations the role may call.
  public var operations: Set<Operation> {
    switch self {
    case .reader: [.readJobs, .readNode]
    case .developer:
      Role.reader.operations.union([.runJob, .stopJob, .pauseJob, .resumeJob, .deleteJob, .transferFiles])
    case .maintainer: Role.developer.operations.union([.createResources])
    case .admin, .node: Set(Operation.allCases)
    }
  }
}

/// What a route does; each route names one, each role is a set of them.
public enum Operation: String, Codable, Sendable, CaseIterable, Hashable {
  case readJobs = "jobs:read"
  case readNode = "node:read"
  case runJob = "jobs:run"
  case stopJob = "jobs:stop"
  case pauseJob = "jobs:pause"
  case resumeJob = "jobs:resume"
  case deleteJob = "jobs:delete"
  case deleteAllJobs = "jobs:delete-all"
  case transferFiles = "files:transfer"
  case createResources = "resources:create"
  case removeResources = "resources:remove"
}

/// On whose behalf a call is made, as the gateway read it from the certificate.
public struct Caller: Codable, Hashable, Sendable {
  public var name: String
  public var role: Role
  public var requestID: String
  /// The call's ``TraceContext``, where it came with one.
  public var traceparent: String?

  enum CodingKeys: String, CodingKey {
    case name, role, traceparent
    case requestID = "request_id"
  }

  public init(name: String, role: Role, requestID: String, traceparent: String? = nil) {
    self.name = name
    self.role = role
    self.requestID = requestID
    self.traceparent = traceparent
  }
}
