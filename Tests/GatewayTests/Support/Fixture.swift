import Certificates
import FoundationEssentials
import Gateway
import Glibc
import HTTPClient
import JobletConfig
import JobletModel
import JobletWire
import Logging
import NIOCore
import ServiceLifecycle
import Synchronization
import Testing

/// Certificates of a test run: made once, for making keys is the slowest part of a test.
struct TestCertificates: Sendable {
  let authority: CertificateAuthority
  let other: CertificateAuthority
  let server: Certificates.Identity
  let roles: [Role: Certificates.Identity]
  let authorityPEM: String
  let otherPEM: String

  static let shared = Result { try TestCertificates() }

  init() throws {
    authority = try CertificateAuthority()
    other = try CertificateAuthority()
    authorityPEM = try authority.certificatePEM
    otherPEM = try other.certificatePEM
    server = try authority.issueServer(try ServerNames())
    var roles: [Role: Certificates.Identity] = [:]
    for role in Role.allCases { roles[role] = try authority.issueClient(role, name: "\(role.rawValue)-person") }
    self.roles = roles
  }

  func credentials(_ identity: Certificates.Identity?) -> TLSCredentials {
    TLSCredentials(
      certificatePEM: identity?.certificatePEM, keyPEM: identity?.keyPEM, authorityPEM: authorityPEM)
  }
}

/// A running gateway between a fake exec and a fake persist, on real sockets.
struct Fixture: Sendable {
  let exec = FakeExec()
  let persist = FakePersist()
  let certificates: TestCertificates
  let directory: String
  let port: Int
  let healthPort: Int
  let group: ServiceGroup
  let gateway: Gateway
  let configuration: Configuration

  /// Runs `body` against a gateway.
  /// - Parameters:
  ///   - configure: changes the configuration before the start.
  static func run(
    withExec: Bool = true, heartbeat: Duration = Gateway.heartbeat, bounds: ClientBounds = ClientBounds(),
    _ configure: (inout Configuration, String) -> Void = { _, _ in },
    _ body: @Sendable @escaping (Fixture) async throws -> Void
  ) async throws {
    var template = Array("/tmp/joblet-gateway-XXXXXX".utf8CString)
    let directory = String(cString: try #require(mkdtemp(&template)))
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let certificates = try TestCertificates.shared.get()
    var configuration = Configuration()
    configuration.persist.server.querySocket = directory + "/query"
    configuration.security.serverCert = certificates.server.certificatePEM
    configuration.security.serverKey = certificates.server.keyPEM
    configuration.security.caCert = certificates.authorityPEM
    configuration.security.audit.logFile = directory + "/audit"
    configuration.server.timeouts.drain = .seconds(5)
    configure(&configuration, directory)
    let (api, port) = try listenTCP()
    let (health, healthPort) = try listenTCP()
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let (readiness, ready) = AsyncStream.makeStream(of: String.self)
    let gateway = try Gateway(
      configuration: configuration, api: api, health: health, execSocket: directory + "/exec",
      address: "127.0.0.1:\(port)", hooks: .init(ready: { ready.yield($0) }), heartbeat: heartbeat,
      bounds: bounds, logger: logger)
    let group = ServiceGroup(
      configuration: .init(services: [gateway], gracefulShutdownSignals: [], logger: logger))
    let fixture = Fixture(
      certificates: certificates, directory: directory, port: port, healthPort: healthPort, group: group,
      gateway: gateway, configuration: configuration)
    let (exec, persist) = (fixture.exec, fixture.persist)
    let persistServer =
      configuration.ipc.enabled ? try server(directory + "/query") { try await persist.serve($0) } : nil
    try await withThrowingTaskGroup(of: Void.self) { tasks in
      if let persistServer { tasks.addTask { try await persistServer.run() } }
      if withExec {
        let execServer = try server(directory + "/exec") { try await exec.serve($0) }
        tasks.addTask { try await execServer.run() }
      }
      tasks.addTask { try await group.run() }
      for await _ in readiness { break }
      if withExec { try await fixture.untilReady() }
      try await body(fixture)
      await group.triggerGracefulShutdown()
      tasks.cancelAll()
      while let result = await tasks.nextResult() {
        if case .failure(let error) = result, !(error is CancellationError) { throw error }
      }
    }
  }

  /// A frame server on a new unix socket.
  static func server(
    _ path: String, _ serve: @Sendable @escaping (FrameConnection) async throws -> Void
  ) throws -> FrameServer {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(bound == 0 && listen(descriptor, 128) == 0)
    return FrameServer(
      listening: descriptor, maxPayload: 16 << 20, maxConnections: 1000, allowedUsers: [getuid()],
      logger: Logger(label: "fake") { _ in SwiftLogNoOpLogHandler() }, handle: serve)
  }

  static func listenTCP() throws -> (descriptor: CInt, port: Int) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isListening = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 128) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    try #require(isListening)
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }

  // MARK: Calls

  func client(_ role: Role = .admin) throws -> HTTPClient {
    try HTTPClient(credentials: certificates.credentials(certificates.roles[role]))
  }

  struct Answer: Sendable {
    var status: Int
    var headers: [(name: String, value: String)]
    var body: [UInt8]

    func header(_ name: String) -> String? { headers.first { $0.name == name.lowercased() }?.value }
    var text: String { String(decoding: body, as: UTF8.self) }
    func decode<T: Decodable>(_ type: T.Type = T.self) throws -> T { try JSONDecoder().decode(type, from: Data(body)) }
    var problem: ProblemReply? { try? decode() }
  }

  struct ProblemReply: Decodable, Sendable {
    var type: String
    var title: String
    var status: Int
    var detail: String
    var field: String?
    var request_id: String
    var retry_after: Int?
  }

  func call(
    _ method: String, _ path: String, _ body: String? = nil, role: Role = .admin,
    headers: [(name: String, value: String)] = [], client: HTTPClient? = nil
  ) async throws -> Answer {
    var headers = headers
    if body != nil, !headers.contains(where: { $0.name.lowercased() == "content-type" }) {
      headers.append((name: "Content-Type", value: "application/json"))
    }
    // Kept until the body is read: a client that goes takes its replies with it.
    let client = try client ?? self.client(role)
    let response = try await client.send(
      HTTPRequest(
        method: method, url: "https://127.0.0.1:\(port)\(path)", headers: headers, body: body.map { Array($0.utf8) },
        timeout: .seconds(20)))
    let body = try await response.body.collect(upTo: 64 << 20)
    return withExtendedLifetime(client) {
      Answer(status: response.status, headers: response.headers, body: body)
    }
  }

  func health(_ path: String) async throws -> Answer {
    let client = try HTTPClient()
    let response = try await client.send(
      HTTPRequest(url: "http://127.0.0.1:\(healthPort)\(path)", timeout: .seconds(10)))
    let body = try await response.body.collect(upTo: 1 << 20)
    return withExtendedLifetime(client) {
      Answer(status: response.status, headers: response.headers, body: body)
    }
  }

  /// Asks until the answer is as expected: for what follows from an event that is still on its way.
  func until(_ what: String, _ isSo: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(20)
    while !(try await isSo()) {
      guard ContinuousClock.now < deadline else {
        Issue.record("never came true: \(what)")
        return
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  func untilReady() async throws { try await until("ready") { try await health("/readyz").status == 200 } }

  /// Starts a job through the API.
  func runJob(_ command: String = "sh", role: Role = .developer) async throws -> JobRecord {
    try await call("POST", "/v1/jobs", "{\"command\":\"\(command)\"}", role: role).decode()
  }
}
