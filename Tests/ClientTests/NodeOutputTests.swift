import FoundationEssentials
import JobletClient
import JobletModel
import RnxCommands
import Testing

@Suite struct NodeOutputTests {
  private static let plain = Style(isOn: false)

  private static func node() -> NodeStatus {
    var node = NodeStatus(
      time: Timestamp(rfc3339: "2026-11-22T10:00:00Z")!, nodeID: "n1",
      versions: .init(api: "1", exec: "1", persist: "1"))
    node.address = "192.0.2.1:50051"
    node.isReady = true
    var cpu = ProcessorFigures()
    (cpu.count, cpu.usedPercent) = (2, 190)
    node.cpu = cpu
    node.load = LoadFigures(oneMinute: 1.5, fiveMinutes: 1, fifteenMinutes: 0.25)
    var memory = MemoryFigures()
    (memory.totalBytes, memory.availableBytes) = (8 << 30, 2 << 30)
    node.memory = memory
    var jobs = NodeStatus.JobsFigures()
    (jobs.running, jobs.maxRunning, jobs.queued) = (2, 100, 0)
    jobs.byStatus = ["RUNNING": 2, "FAILED": 3, "COMPLETED": 0]
    node.jobs = jobs
    node.certificates = [
      CertificateStatus(
        name: "server", subject: "CN=n1", notAfter: Timestamp(rfc3339: "2026-12-01T00:00:00Z")!, now: node.time)
    ]
    return node
  }

  @Test func `a node's sheet tells what is known and nothing else`() {
    let lines = NodeSheet.lines(Self.node(), style: Self.plain)
    #expect(lines.contains("Node:        n1 at 192.0.2.1:50051"))
    #expect(lines.contains("State:       ready"))
    #expect(lines.contains("CPU:         190 % of a core used, 2 CPUs, load 1.5 1 0.3"))
    #expect(lines.contains("Memory:      6 GiB of 8 GiB used (75 %)"))
    #expect(lines.contains("Jobs:        2 of 100 running, 0 queued, 3 FAILED"))
    #expect(lines.contains("Certificate: server (CN=n1) until 2026-12-01, 8 days"))
    #expect(lines.contains("Versions:    1"))
    #expect(!lines.contains { $0.hasPrefix("Disk") || $0.hasPrefix("Store") || $0.hasPrefix("Host") })
  }

  @Test func `why a node is not ready, and who is away`() {
    var node = Self.node()
    node.isReady = false
    node.reasons = ["joblet-exec is away", "\u{1B}[2J"]
    node.versions.exec = nil
    node.services = .init(exec: .init(isConnected: false), persist: .init(isConnected: false))
    let lines = NodeSheet.lines(node, style: Self.plain)
    #expect(lines.contains("State:       not ready: joblet-exec is away; \\u{1b}[2J"))
    #expect(lines.contains("Store:       joblet-persist does not answer"))
    #expect(lines.contains("Versions:    joblet-api 1, joblet-exec is away, joblet-persist 1"))
  }

  @Test func `networks are told by the second when there was a look before`() throws {
    var (before, now) = (Self.node(), Self.node())
    now.time = Timestamp(nanoseconds: before.time.nanoseconds + 2_000_000_000)
    let numbers: [Int64] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    var later = numbers
    (later[0], later[8], later[3]) = (4096, 2048, 3)
    before.network = [try #require(InterfaceFigures(name: "eth0", numbers: numbers))]
    now.network = [try #require(InterfaceFigures(name: "eth0", numbers: later))]
    #expect(
      NodeSheet.lines(now, since: before, style: Self.plain).contains(
        "Network:     eth0: 2 KiB/s in, 1 KiB/s out, 3 packets lost"))
    #expect(
      NodeSheet.lines(now, style: Self.plain).contains("Network:     eth0: 4 KiB in, 2 KiB out, 3 packets lost"))
  }

  @Test func `figures no node has are no crash`() throws {
    var node = Self.node()
    node.memory?.totalBytes = .max
    node.memory?.availableBytes = .min
    node.cpu?.usedPercent = .infinity
    node.load = LoadFigures(oneMinute: .nan, fiveMinutes: 1e300, fifteenMinutes: -1)
    let wild: [Int64] = Array(repeating: .max, count: 16)
    node.network = [try #require(InterfaceFigures(name: "x", numbers: wild))]
    var before = node
    before.time = Timestamp(nanoseconds: .min)
    before.network = [try #require(InterfaceFigures(name: "x", numbers: wild.map { _ in Int64.min }))]
    #expect(!NodeSheet.lines(node, since: before, style: Self.plain).isEmpty)
    #expect(!NodeLine.text(node).isEmpty)
  }

  @Test func `a look on one line stands below its header`() {
    let (header, line) = (NodeLine.header, NodeLine.text(Self.node()))
    #expect(header.count == line.count, "\(header)\n\(line)")
    #expect(NodeLine.text(NodeStatus(nodeID: "n", versions: .init())).count == header.count)
  }

  @Test(arguments: [nil, 200, 80, 40, 10])
  func `nodes fit the terminal`(width: Int?) throws {
    let lines = NodeTable.lines(
      [NodeSummary(Self.node(), version: "1.2.3")], width: width, now: Self.node().time, style: Self.plain)
    #expect(lines.count == 2 && lines[1].hasPrefix("n1") && lines[1].contains("yes"))
    if let width, width >= 40 { #expect(lines.allSatisfy { $0.count <= width }, "\(lines)") }
    if width == nil { #expect(lines[0].hasSuffix("SEEN")) }
  }

  @Test func `colours are for terminals, and NO_COLOR is heard`() {
    #expect(Style(isTerminal: true, environment: ["TERM": "xterm"]).isOn)
    #expect(Style(isTerminal: true, environment: ["TERM": "xterm", "NO_COLOR": ""]).isOn)
    for environment in [["TERM": "xterm", "NO_COLOR": "1"], ["TERM": "dumb"]] {
      #expect(!Style(isTerminal: true, environment: environment).isOn)
    }
    #expect(!Style(isTerminal: false, environment: ["TERM": "xterm"]).isOn)
    #expect(Style(isOn: true).paint("x", .bad) == "\u{1B}[31mx\u{1B}[0m")
    #expect(Style(isOn: true).paint("x", nil) == "x" && Style(isOn: false).paint("x", .bad) == "x")
  }

  @Test func `a table of jobs fits the terminal with colours too`() {
    var job = JobClientFixture.record
    job.name = String(repeating: "n", count: 100)
    job.args = [String(repeating: "x", count: 300), "\u{1B}]0;title\u{7}"]
    let plain = JobTable.lines([job], width: 80, now: .now())
    #expect(plain.allSatisfy { $0.count <= 80 }, "\(plain)")
    let coloured = JobTable.lines([job], width: 80, now: .now(), style: Style(isOn: true))
    let codes = /\u{1B}\[\d+m/
    #expect(coloured.map { $0.replacing(codes, with: "") } == plain)
    #expect(coloured != plain)
  }

  // MARK: charts

  @Test func `a chart's columns are as high as their values`() {
    let rows = Chart.lines([0, 50, 100, nil, 1], width: 20, height: 2) { "\(Int($0))" }
    #expect(rows.map(\.label) == ["100", "  0"])
    #expect(rows.map(\.bars) == ["  █  ", " ██ ▁"])
  }

  @Test func `a chart keeps peaks, whatever it has to leave out`() {
    var values: [Double?] = Array(repeating: 1, count: 10_000)
    values[7777] = 1000
    let rows = Chart.lines(values, width: 60, height: 4) { Words.decimal($0) }
    #expect(rows[0].label == "1000" && rows[0].bars.contains("█"))
    #expect(rows.allSatisfy { $0.label.count + 1 + $0.bars.count <= 60 })
  }

  @Test func `a chart of nothing, of zeros, of what is no number`() {
    for values in [[], [nil, nil], [0, 0], [.nan, .infinity, -5, nil]] as [[Double?]] {
      let rows = Chart.lines(values, width: 30, height: 3) { Words.decimal($0) }
      #expect(rows.count == 3 && rows.allSatisfy { $0.bars.allSatisfy { $0 == " " } })
    }
  }

  @Test func `metrics get a chart from three samples on, the oldest left`() throws {
    func point(_ second: Int, _ cpu: Double) throws -> MetricPoint {
      let json = "{\"ts\":\"2026-11-22T10:00:0\(second)Z\",\"seq\":\(second),\"cpu_percent\":\(cpu)}"
      return try JSONDecoder().decode(MetricPoint.self, from: Data(json.utf8))
    }
    var charts = MetricCharts()
    charts.add(try point(3, 0))
    charts.add(try point(2, 100))
    #expect(charts.lines(width: 40, style: Self.plain).isEmpty)
    charts.add(try point(1, 0))
    let lines = charts.lines(width: 40, style: Self.plain)
    #expect(lines.contains("CPU") && !lines.contains("MEMORY"))
    #expect(lines.contains { $0.hasPrefix("100 % ") && $0.contains("█") })
    #expect(lines.last == "2026-11-22T10:00:01Z to 2026-11-22T10:00:03Z")
  }

  @Test(arguments: [nil, 130, 80, 60, 20])
  func `a table of metrics fits the terminal`(width: Int?) {
    let header = MetricTable(width: width).header
    if let width, width >= 60 { #expect(header.count <= width) }
    #expect(header.hasPrefix("TIME") && header.contains("CPU"))
    if width == nil { #expect(header.hasSuffix("GPU")) }
  }

  // MARK: events

  @Test func `a change is a line`() throws {
    let now = Timestamp(rfc3339: "2026-11-22T10:00:00Z")!
    var job = JobClientFixture.record
    job.name = "na\nme"
    job.status = .failed
    job.reason = .exitCode
    job.exitCode = 3
    #expect(
      EventLine.text(.job(job), now: now, style: Self.plain)
        == "2026-11-22T10:00:00Z  \(job.id)  FAILED: exit code 3  na\\nme")
    #expect(
      EventLine.text(.deleted(job.id), now: now, style: Self.plain) == "2026-11-22T10:00:00Z  \(job.id)  deleted")
    #expect(EventLine.text(.synced(jobs: 3), now: now, style: Self.plain) == nil)
    #expect(try EventLine.json(.synced(jobs: 3)) == #"{"synced":{"jobs":3}}"#)
    #expect(try EventLine.json(.gap(since: now)) == #"{"gap":{"since":"\#(now)"}}"#)
    let json = try EventLine.json(.job(job))
    #expect(json.hasPrefix(#"{"job":{"#) && !json.contains("\n"))
  }

  @Test func `what is waited for is ticked off once`() {
    let one = JobClientFixture.record
    var two = one
    two.id = JobID("019a1234-5678-7abc-8def-001122334466")!
    two.status = .completed
    var list = WaitList([one.id, two.id])
    #expect(list.take(one) == nil && list.take(two) == two && list.take(two) == nil && !list.isDone)
    var ended = one
    ended.status = .stopped
    #expect(list.take(ended) == ended && list.isDone && list.ended == [one.id: ended, two.id: two])
  }
}
