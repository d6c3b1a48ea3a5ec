import Gateway
import Glibc
import HTTPClient
import JobletModel
import Testing

@Suite(.timeLimit(.minutes(2))) struct IdentityTests {
  @Test func everyRoleAndRoute() async throws {
    try await Fixture.run { f in
      for role in Role.allCases {
        let client = try f.client(role)
        for route in Gateway.routes {
          let operation = try #require(route.operation)
          var path = route.pattern.replacing("{id}", with: JobID(node: 9).description)
          // It would not end; whoever may have it is told what is wrong.
          if path == "/v1/events" { path += "?status=none" }
          let body = route.method == "POST" ? "{}" : nil
          let answer = try await f.call(route.method, path, body, client: client)
          let isAllowed = role.operations.contains(operation)
          #expect(
            (answer.status != 403) == isAllowed, "\(role) \(route.method) \(route.pattern) answered \(answer.status)")
          if !isAllowed {
            #expect(answer.problem?.type == "urn:joblet:problem:forbidden")
            #expect(answer.problem?.detail.contains(operation.rawValue) == true)
          }
        }
      }
      #expect(await f.exec.requests.isEmpty)
    }
  }

  /// The matrix of the design, written out: a change of ``Role/operations`` must be meant.
  @Test func theMatrixIsTheDesigns() {
    let table: [(Operation, Set<Role>)] = [
      (.readJobs, [.reader, .developer, .maintainer, .admin, .node]),
      (.readNode, [.reader, .developer, .maintainer, .admin, .node]),
      (.runJob, [.developer, .maintainer, .admin, .node]), (.stopJob, [.developer, .maintainer, .admin, .node]),
      (.pauseJob, [.developer, .maintainer, .admin, .node]), (.resumeJob, [.developer, .maintainer, .admin, .node]),
      (.deleteJob, [.developer, .maintainer, .admin, .node]), (.deleteAllJobs, [.admin, .node]),
      (.transferFiles, [.developer, .maintainer, .admin, .node]), (.createResources, [.maintainer, .admin, .node]),
      (.removeResources, [.admin, .node]),
    ]
    #expect(Set(table.map(\.0)) == Set(Operation.allCases))
    for (operation, roles) in table {
      #expect(Set(Role.allCases.filter { $0.operations.contains(operation) }) == roles)
    }
  }

  @Test(arguments: ["1.2", "1.3"]) func theFloorOfTLSIsTheConfigurations(_ floor: String) async throws {
    try await Fixture.run({ configuration, _ in configuration.server.tls.minVersion = floor }) { f in
      let request = ["GET /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
      let usual = try await RawClient.exchange(f, request)
      #expect(usual.hasPrefix("HTTP/1.1 200 "))
      do {
        let reply = try await RawClient.exchange(f, request, newest: .tlsv12)
        #expect(reply.isEmpty == (floor == "1.3"), "\(reply)")
      } catch {
        #expect(floor == "1.3", "\(error)")
      }
    }
  }

  @Test func withoutACertificateOrWithAnotherAuthoritysNothingIsAnswered() async throws {
    try await Fixture.run { f in
      let stranger = try f.certificates.other.issueClient(.admin)
      for identity in [nil, stranger] {
        let client = try HTTPClient(credentials: f.certificates.credentials(identity))
        await #expect(throws: HTTPError.self) { try await f.call("GET", "/v1/jobs", client: client) }
      }
      try await f.until("it was counted") {
        try await f.health("/metrics").text.contains(#"refused_connections_total{reason="handshake_failed"} 2"#)
      }
      #expect(try await f.call("GET", "/v1/jobs").status == 200)
    }
  }

  @Test(arguments: ["intern", "", "admin2"])
  func anUnknownUnitIsToldSo(_ unit: String) async throws {
    try await Fixture.run { f in
      let odd = try f.certificates.authority.issueClient(organizationalUnit: unit, name: "odd")
      let client = try HTTPClient(credentials: f.certificates.credentials(odd))
      for route in Gateway.routes {
        let path = route.pattern.replacing("{id}", with: JobID(node: 9).description)
        let answer = try await f.call(route.method, path, client: client)
        #expect(answer.status == 401)
        #expect(answer.problem?.type == "urn:joblet:problem:unauthenticated")
        #expect(answer.header("www-authenticate") != nil)
        #expect(answer.header("x-request-id") != nil)
      }
      #expect(try await f.call("GET", "/no/such", client: client).status == 401)
    }
  }

  @Test func viewerAndAnyCaseAreReaders() async throws {
    try await Fixture.run { f in
      for unit in ["viewer", "READER", "Viewer"] {
        let identity = try f.certificates.authority.issueClient(organizationalUnit: unit, name: "v")
        let client = try HTTPClient(credentials: f.certificates.credentials(identity))
        #expect(try await f.call("GET", "/v1/jobs", client: client).status == 200)
        #expect(try await f.call("POST", "/v1/jobs", "{}", client: client).status == 403)
      }
    }
  }

  @Test func aReloadGivesNewConnectionsTheNewCertificates() async throws {
    try await Fixture.run { f in
      let old = try f.client()
      #expect(try await f.call("GET", "/v1/jobs", client: old).status == 200)
      var configuration = f.configuration
      configuration.security.serverCert = "/no/such/file"
      #expect(throws: TLSSettings.Invalid.self) { try f.gateway.reload(configuration) }
      let newServer = try f.certificates.other.issueServer(try .init())
      configuration.security.serverCert = newServer.certificatePEM
      configuration.security.serverKey = newServer.keyPEM
      configuration.security.caCert = f.certificates.otherPEM
      try f.gateway.reload(configuration)
      let stranger = try f.certificates.other.issueClient(.admin)
      let new = try HTTPClient(
        credentials: TLSCredentials(
          certificatePEM: stranger.certificatePEM, keyPEM: stranger.keyPEM,
          authorityPEM: f.certificates.otherPEM))
      #expect(try await f.call("GET", "/v1/jobs", client: new).status == 200)
      // The open connection was not dropped.
      #expect(try await f.call("GET", "/v1/jobs", client: old).status == 200)
    }
  }
}
