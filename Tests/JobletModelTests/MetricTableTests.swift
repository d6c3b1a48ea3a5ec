import FoundationEssentials
import JobletModel
import Testing

@Suite struct MetricTableTests {
  static func point(_ json: String) throws -> MetricPoint {
    try JSONDecoder().decode(MetricPoint.self, from: Data(json.utf8))
  }

  static let time = #""ts":"2026-11-21T20:15:55.123456789Z""#

  @Test func `a sample is a row, in units for people`() throws {
    var sample = MetricSample(seq: 7, ts: try #require(Timestamp(rfc3339: "2026-11-21T20:15:55.123456789Z")))
    sample.cpuPercent = 187.456
    sample.cpuUsec = 83_456_789
    sample.memoryBytes = 1_572_864
    sample.memoryPeakBytes = 3 << 30
    sample.ioReadBytes = 1023
    sample.ioWriteBytes = 1024
    sample.netRxBytes = 0
    sample.pids = 12
    sample.psiCPU = 0.25
    let point = try Self.point(sample.line)
    #expect(point.seq == 7 && point.aggregate == nil && point.values.count == 9)
    let table = MetricTable()
    let names = table.header.split(separator: " ").map(String.init)
    let cells = table.row(point).split(separator: " ").map(String.init)
    #expect(
      zip(names, cells).map { "\($0)=\($1)" } == [
        "TIME=2026-11-21T20:15:55Z", "CPU=187.5%", "CPU-TIME=83.46s", "MEMORY=1.5MiB", "PEAK=3.0GiB", "READ=1023B",
        "WRITTEN=1.0KiB", "NET-RX=0B", "NET-TX=-", "PIDS=12", "PSI-CPU=0.3%", "PSI-MEM=-", "PSI-IO=-", "GPU=-",
      ])
    #expect(table.header.count == table.row(point).count)
  }

  @Test func `an aggregate says how many samples it stands for`() throws {
    let point = try Self.point(
      "{\(Self.time),\"aggregate\":\"avg\",\"samples\":12,\"pids\":2.5,\"gpu_percent\":50,\"gpu_memory_bytes\":2048}")
    #expect(point.seq == nil && point.aggregate == "avg" && point.samples == 12)
    let table = MetricTable(isAggregated: true)
    #expect(table.header.split(separator: " ")[1] == "SAMPLES")
    let cells = table.row(point).split(separator: " ")
    #expect(cells[1] == "12" && cells.contains("2.5") && cells.suffix(2) == ["50.0%", "2.0KiB"])
  }

  static let times: [(Int64, String)] = [
    (0, "0.00s"), (1_234_567, "1.23s"), (99_990_000, "99.99s"), (100_000_000, "1m40s"), (5_999_000_000, "99m59s"),
    (7_380_000_000, "2h03m"),
  ]

  @Test(arguments: times)
  func `CPU time`(microseconds: Int64, text: String) throws {
    let row = MetricTable().row(try Self.point("{\(Self.time),\"cpu_usec\":\(microseconds)}"))
    #expect(row.split(separator: " ")[2] == text)
  }

  /// Numbers come from a node that may be of another version, or no node: a row is made of any of them.
  @Test(arguments: ["1e300", "-1e300", "-5", "0.0001", "9223372036854775807", "1e-320"])
  func `any number has a row`(number: String) throws {
    let fields = MetricSample.CodingKeys.allCases.filter { $0 != .seq && $0 != .ts }.map {
      "\"\($0.rawValue)\":\(number)"
    }
    let point = try Self.point("{\(Self.time),\(fields.joined(separator: ","))}")
    #expect(MetricTable().row(point).split(separator: " ").count >= 14)
  }

  @Test(arguments: ["", "{}", "[]", #"{"ts":"x"}"#, #"{"ts":"2026-11-21T20:15:55Z","cpu_percent":"1"}"#, "\u{0}"])
  func `what is no sample is refused`(json: String) {
    #expect(throws: (any Error).self) { try Self.point(json) }
  }
}
