import FoundationEssentials
import Gateway
import JobletConfig
import JobletModel
import JobletWire
import Testing

@Suite(.timeLimit(.minutes(2))) struct NodeTests {
  private static func node() -> NodeStatus {
    var node = NodeStatus(nodeID: "node-1", versions: .init(exec: "9.9"))
    var cpu = ProcessorFigures()
    cpu.count = 2
    cpu.usedPercent = 37.5
    node.cpu = cpu
    var jobs = NodeStatus.JobsFigures()
    jobs.maxRunning = 100
    node.jobs = jobs
    return node
  }

  @Test func tellsOfTheHostTheJobsAndTheServices() async throws {
    try await Fixture.run({ configuration, _ in configuration.server.advertise = "node-1.example:443" }) { f in
      await f.exec.report(Self.node())
      _ = try await f.runJob()
      let answer = try await f.call("GET", "/v1/node", role: .reader)
      #expect(answer.status == 200 && answer.header("content-type") == "application/json")
      #expect(answer.header("cache-control") == "no-store" && answer.header("x-joblet-stale") == nil)
      let node: NodeStatus = try answer.decode()
      #expect(node.nodeID == "node-1" && node.address == "node-1.example:443")
      #expect(node.versions.api == jobletVersion && node.versions.exec == "9.9")
      #expect(node.cpu?.usedPercent == 37.5 && node.jobs?.maxRunning == 100)
      #expect(node.jobs?.byStatus == ["RUNNING": 1])
      #expect(node.isReady == true && node.reasons == nil)
      #expect(node.services?.exec.isConnected == true)
      try await f.until("persist has answered") {
        let node: NodeStatus = try await f.call("GET", "/v1/node").decode()
        return node.services?.persist?.backend == "fake" && node.versions.persist == jobletVersion
      }
      #expect(node.certificates?.map(\.name) == ["server", "authority"])
      #expect(node.certificates?.allSatisfy { $0.state == .valid && $0.daysLeft > 30 } == true)
      #expect(node.gateway?.connections ?? 0 > 0)
      let list = try await f.call("GET", "/v1/nodes", role: .reader)
      struct Nodes: Decodable { var nodes: [NodeSummary] }
      let nodes = try list.decode(Nodes.self).nodes
      #expect(nodes.count == 1 && nodes[0].nodeID == "node-1" && nodes[0].isReady && nodes[0].cpus == 2)
    }
  }

  @Test func withoutExecItSaysWhatItKnows() async throws {
    try await Fixture.run(withExec: false, { configuration, _ in configuration.server.nodeID = "alone" }) { f in
      let answer = try await f.call("GET", "/v1/node")
      #expect(answer.status == 200 && answer.header("x-joblet-stale") != nil)
      let node: NodeStatus = try answer.decode()
      #expect(node.nodeID == "alone" && node.cpu == nil && node.versions.exec == nil)
      #expect(node.isReady == false && node.reasons?.contains("joblet-exec is away") == true)
      #expect(node.services?.exec.isConnected == false)
    }
  }

  @Test(arguments: [("?stream", nil), ("?stream=true", "*/*"), ("", "text/event-stream")] as [(String, String?)])
  func streamsWhenAskedTo(_ query: String, _ accept: String?) async throws {
    try await Fixture.run { f in
      await f.exec.report(Self.node())
      let interval = query.isEmpty ? "?interval=1s" : "&interval=1s"
      let reply = try await f.open("/v1/node\(query)\(interval)", accept: accept ?? "*/*")
      #expect(reply.header("content-type") == "text/event-stream")
      var events = EventReader(reply)
      for _ in 0..<2 {
        let event = try #require(try await events.next())
        #expect(event.name == "node" && event.id == nil)
        let node = try JSONDecoder().decode(NodeStatus.self, from: Data(event.data.utf8))
        #expect(node.cpu?.count == 2)
      }
      #expect(events.retry == "2000")
    }
  }

  @Test(arguments: [
    ("?interval=5s", "application/json", 422), ("?stream&interval=10ms", "*/*", 422),
    ("?stream&interval=2h", "*/*", 422),
    ("?stream=perhaps", "*/*", 422), ("?stream", "application/json", 406), ("?stream=false", "text/event-stream", 406),
    ("?follow=true", "*/*", 422), ("", "text/html", 406),
  ])
  func refusesWhatContradictsItself(_ query: String, _ accept: String, _ status: Int) async throws {
    try await Fixture.run { f in
      let answer = try await f.call("GET", "/v1/node\(query)", headers: [("Accept", accept)])
      #expect(answer.status == status, "\(answer.text)")
    }
  }

  @Test func manyWhoLookCostExecOneLook() async throws {
    try await Fixture.run { f in
      for _ in 0..<20 { _ = try await f.call("GET", "/v1/node") }
      #expect(await f.exec.nodeRequests < 20)
    }
  }

  /// The format is strict about families: one HELP and one TYPE each, before its samples, and all of them together.
  @Test func aScrapeHasEveryPartAndIsWellFormed() async throws {
    try await Fixture.run { f in
      _ = try await f.runJob()
      let text = try await f.health("/metrics").text
      #expect(text.contains("\njoblet_exec_queued_jobs 7\n") && text.contains("\njoblet_persist_lines_total 5\n"))
      #expect(text.contains("\njoblet_exec_up 1\n") && text.contains("joblet_api_process_resident_bytes "))
      #expect(text.contains(#"joblet_certificate_expiry_timestamp_seconds{certificate="server"} "#))
      var seen: Set<Substring> = []
      var current: Substring = ""
      for line in text.split(separator: "\n") where !line.hasPrefix("# HELP") {
        if line.hasPrefix("# TYPE ") {
          current = line.split(separator: " ")[2]
          #expect(seen.insert(current).inserted, "\(current) twice")
        } else {
          let name = line.prefix { $0 != "{" && $0 != " " }
          #expect(["", "_bucket", "_sum", "_count"].map { current + $0 }.contains(String(name)), "\(line)")
          #expect(line.split(separator: " ").last.flatMap { Double($0) } != nil, "\(line)")
        }
      }
    }
  }

  @Test func withoutExecAScrapeSaysSo() async throws {
    try await Fixture.run(withExec: false) { f in
      let text = try await f.health("/metrics").text
      #expect(text.contains("\njoblet_exec_up 0\n") && text.contains(#"joblet_api_backend_up{backend="exec"} 0"#))
    }
  }
}

@Suite struct CertificateBoardTests {
  private let day: Int64 = 86_400_000_000_000
  private let now = Timestamp(nanoseconds: 1_790_000_000_000_000_000)

  private func board(_ days: Int64...) -> CertificateBoard {
    let board = CertificateBoard()
    board.replace(
      with: days.enumerated().map { index, days in
        CertificateFacts(
          name: index == 0 ? "server" : "authority", subject: "CN=\(index)",
          notAfter: Timestamp(nanoseconds: now.nanoseconds + days * day + 1))
      })
    return board
  }

  private func later(_ hours: Int64) -> Timestamp {
    Timestamp(nanoseconds: now.nanoseconds + hours * 3_600_000_000_000)
  }

  @Test(
    arguments: [
      (31, CertificateStatus.State.valid), (30, .valid), (29, .expiring), (0, .expiring), (-1, .expired),
      (-400, .expired),
    ] as [(Int64, CertificateStatus.State)])
  func saysHowLongItIsGood(_ days: Int64, _ state: CertificateStatus.State) {
    let status = board(days).statuses(now: now)[0]
    #expect(status.state == state && status.daysLeft == Int(days))
  }

  @Test func anEndThatIsNoneIsFar() {
    let status = CertificateStatus(name: "authority", subject: "CN=x", notAfter: Timestamp(nanoseconds: .max), now: now)
    #expect(status.state == .valid && status.daysLeft > 80_000)
  }

  @Test func speaksOnceADayAndAtEachChange() {
    let board = board(29, 365)
    #expect(board.due(now: now).map(\.name) == ["server"])
    #expect(board.due(now: later(1)).isEmpty && board.due(now: later(23)).isEmpty)
    #expect(board.due(now: later(24)).map(\.state) == [.expiring])
    #expect(board.due(now: later(29 * 24)).map(\.state) == [.expiring])
    #expect(board.due(now: later(29 * 24 + 1)).map(\.state) == [.expired])
    #expect(board.due(now: later(29 * 24 + 2)).isEmpty)
    board.replace(with: [])
    #expect(board.due(now: later(40 * 24)).isEmpty)
  }

  @Test func anExpiredServerIsNotReady() {
    #expect(board(1, -1).reasons(now: now).isEmpty)
    #expect(board(-1).reasons(now: now).first?.contains("expired") == true)
  }
}
