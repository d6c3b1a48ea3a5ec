import DaemonKit
import FoundationEssentials
import Gateway
import JobletModel
import Persist
import Testing
import Worker

/// `contrib/grafana/joblet.json`: nothing on it may ask for a metric that nobody gives.
@Suite(.timeLimit(.minutes(2))) struct DashboardTests {
  struct Dashboard: Decodable {
    struct Panel: Decodable {
      struct Target: Decodable { var expr: String }
      var id: Int
      var title: String
      var targets: [Target]?
    }
    var panels: [Panel]
  }

  static func dashboard() throws -> Dashboard {
    let path = #filePath.replacing("Tests/GatewayTests/DashboardTests.swift", with: "contrib/grafana/joblet.json")
    return try JSONDecoder().decode(Dashboard.self, from: Data(contentsOf: URL(filePath: path)))
  }

  /// The metrics a query names.
  static func metrics(_ query: String) -> Set<String> {
    let words = query.split { !($0.isLetter || $0.isNumber || $0 == "_") }
    return Set(words.filter { $0.hasPrefix("joblet_") }.map(String.init))
  }

  /// The names of all samples that a text can have.
  static func samples(_ text: String) -> Set<String> {
    var names: Set<String> = []
    for line in text.split(separator: "\n") where line.hasPrefix("# TYPE ") {
      let words = line.split(separator: " ")
      let name = String(words[2])
      names.formUnion(words[3] == "histogram" ? ["_bucket", "_sum", "_count"].map { name + $0 } : [name])
    }
    return names
  }

  @Test func everyMetricItNamesExists() async throws {
    var gauges = Statistics.Gauges()
    gauges.freeBytes = 1
    let persist = Statistics().text(gauges)
    let node = try #require(try DocumentTests.nodeExamples().first)
    let exec = NodeMetrics.text(SupervisorFigures(), node, prepared: 0, process: .own())
    try await Fixture.run { f in
      // What is counted by route has no sample before the first request.
      _ = try await f.runJob()
      let known = Self.samples(try await f.health("/metrics").text + exec + persist)
      let panels = try Self.dashboard().panels
      #expect(panels.count > 20 && Set(panels.map(\.id)).count == panels.count)
      for panel in panels {
        for target in panel.targets ?? [] {
          let named = Self.metrics(target.expr)
          #expect(!named.isEmpty, "\(panel.title)")
          #expect(named.subtracting(known).isEmpty, "\(panel.title): \(named.subtracting(known))")
        }
      }
    }
  }

  @Test func aNameThatIsWrongIsSeen() {
    #expect(
      Self.metrics(#"rate(joblet_no_such_total{a="b"}[5m]) / joblet_jobs"#) == ["joblet_no_such_total", "joblet_jobs"])
    #expect(Self.samples("# TYPE a histogram\n# TYPE b gauge\nb 1\n") == ["a_bucket", "a_sum", "a_count", "b"])
  }
}
