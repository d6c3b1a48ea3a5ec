import JobletConfig
import JobletModel
import NIOCore
import JobletWire
import LogStore
import Persist
import Testing

/// A strict reader of the text exposition format 0.0.4: what it takes, Prometheus takes.
struct Exposition {
  struct Sample: Hashable {
    var name: String
    var labels: [String: String]
    var value: Double
  }
  private(set) var samples: [Sample] = []
  private(set) var types: [String: String] = [:]

  struct Fault: Error, CustomStringConvertible { var description: String }

  init(_ text: String) throws {
    guard text.hasSuffix("\n") else { throw Fault(description: "the last line has no line feed") }
    var helped: Set<String> = []
    var done: Set<String> = []
    var current = ""
    for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
      let words = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
      if line.hasPrefix("# HELP ") {
        guard words.count == 4, Self.isName(words[2]), helped.insert(String(words[2])).inserted else {
          throw Fault(description: "HELP twice or malformed: \(line)")
        }
      } else if line.hasPrefix("# TYPE ") {
        let name = String(words[2])
        guard words.count == 4, ["counter", "gauge", "histogram"].contains(String(words[3])), types[name] == nil,
          !done.contains(name)
        else { throw Fault(description: "TYPE twice, late or malformed: \(line)") }
        types[name] = String(words[3])
        done.insert(current)
        current = name
      } else {
        let sample = try Self.sample(line)
        let family = types[sample.name] != nil ? sample.name : Self.family(sample.name)
        guard family == current, types[family] != nil, helped.contains(family) else {
          throw Fault(description: "a sample away from its metric: \(line)")
        }
        samples.append(sample)
      }
    }
    let keys = samples.map { "\($0.name)\($0.labels.sorted { $0.key < $1.key })" }
    guard Set(keys).count == keys.count else { throw Fault(description: "a sample stands twice") }
    try checkHistograms()
  }

  private static func isName(_ text: some StringProtocol) -> Bool {
    !text.isEmpty
      && text.utf8.allSatisfy { "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_".utf8.contains($0) }
  }

  private static func family(_ name: String) -> String {
    for suffix in ["_bucket", "_sum", "_count"] where name.hasSuffix(suffix) {
      return String(name.dropLast(suffix.count))
    }
    return name
  }

  private static func sample(_ line: Substring) throws -> Sample {
    var rest = line
    let name = rest.prefix { $0 != "{" && $0 != " " }
    rest = rest.dropFirst(name.count)
    guard isName(name) else { throw Fault(description: "no name: \(line)") }
    var labels: [String: String] = [:]
    if rest.first == "{" {
      rest = rest.dropFirst()
      while rest.first != "}" {
        let key = rest.prefix { $0 != "=" }
        rest = rest.dropFirst(key.count)
        guard isName(key), rest.hasPrefix("=\"") else { throw Fault(description: "no label: \(line)") }
        rest = rest.dropFirst(2)
        var value = ""
        while let character = rest.popFirst(), character != "\"" {
          guard character == "\\" else {
            value.append(character)
            continue
          }
          switch rest.popFirst() {
          case "\\": value.append("\\")
          case "\"": value.append("\"")
          case "n": value.append("\n")
          default: throw Fault(description: "an unknown escape: \(line)")
          }
        }
        guard labels.updateValue(value, forKey: String(key)) == nil else {
          throw Fault(description: "a label twice: \(line)")
        }
        if rest.first == "," { rest = rest.dropFirst() }
      }
      rest = rest.dropFirst()
    }
    guard rest.first == " ", let value = Double(rest.dropFirst()), value.isFinite else {
      throw Fault(description: "no value: \(line)")
    }
    return Sample(name: String(name), labels: labels, value: value)
  }

  private func checkHistograms() throws {
    for (name, type) in types where type == "histogram" {
      for count in samples where count.name == name + "_count" {
        let buckets = samples.filter { sample in
          guard sample.name == name + "_bucket" else { return false }
          var labels = sample.labels
          labels["le"] = nil
          return labels == count.labels
        }
        let bounds = buckets.map { $0.labels["le"] == "+Inf" ? Double.infinity : Double($0.labels["le"] ?? "") ?? .nan }
        guard bounds == bounds.sorted(), bounds.last == .infinity,
          buckets.map(\.value) == buckets.map(\.value).sorted(),
          buckets.last?.value == count.value
        else { throw Fault(description: "the buckets of \(name) do not add up") }
      }
    }
  }

  /// The sum of the samples with this name and these labels.
  func value(_ name: String, _ labels: [String: String] = [:]) -> Double {
    let found = samples.filter { sample in
      sample.name == name && labels.allSatisfy { sample.labels[$0.key] == $0.value }
    }
    return found.isEmpty ? .nan : found.reduce(0) { $0 + $1.value }
  }
}

@Suite(.serialized) struct StatisticsTests {
  @Test func whatIsWrittenReadsBack() throws {
    var text = PrometheusText(prefix: "t_")
    text.metric("odd", .gauge, "back\\slash and\nline")
    text.sample("odd", ["a": "quote\" back\\ line\n end", "b": ""], 1.5)
    text.counter("total", "Whole numbers.", UInt64.max)
    let histogram = Histogram()
    for nanoseconds in [0, 100_000, 100_001, 3_000_000_000, 60_000_000_000] as [UInt64] {
      histogram.record(nanoseconds: nanoseconds)
    }
    text.histogram("time", "Times.", label: "of", [("x", histogram.counts), ("y", Histogram().counts)])
    text.histogram("none", "Nothing.", label: "of", [])
    let read = try Exposition(text.text)
    #expect(read.samples.first?.labels == ["a": "quote\" back\\ line\n end", "b": ""])
    #expect(read.value("t_time_bucket", ["of": "x", "le": "0.0001"]) == 2)
    #expect(read.value("t_time_bucket", ["of": "x", "le": "3.0"]) == 4)
    #expect(read.value("t_time_bucket", ["of": "x", "le": "+Inf"]) == 5)
    #expect(abs(read.value("t_time_sum", ["of": "x"]) - 63.000200001) < 1e-6)
    #expect(read.value("t_time_count", ["of": "y"]) == 0)
    #expect(read.types["t_none"] == nil)
  }

  @Test(arguments: ["t 1", "# TYPE t counter\nt 1\n", "# HELP t x\n# TYPE t counter\nt{a=\"1} 1\n", "\n"])
  func theReaderIsStrict(text: String) {
    #expect(throws: Exposition.Fault.self) { try Exposition(text) }
  }

  func ask(_ bench: Bench) async throws -> Exposition {
    let connection = try await bench.query()
    let frame = try await connection.request(Frame(FrameHeader(.statistics)))
    await connection.close()
    #expect(frame.header.type == .done)
    return try Exposition(String(buffer: frame.payload))
  }

  @Test func countsWhatHappens() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let job = Bench.job
    let output = Output(seed: 51, chunks: 100)
    try writer.send(job, output.chunks)
    try writer.send(job, Array(output.chunks[40...]))  // again
    try writer.send(.record, job: job, seq: 1, json: RecoveryTests.record(job))
    try writer.end(job, output.last)
    try writer.awaitAck(.end, job, output.last)
    _ = try await bench.ask(LogQuery(job: job))
    try await bench.untilSealed(output.last)
    let read = try await ask(bench)
    let again = UInt64(output.last) - output.chunks[40].info.firstSeq + 1
    #expect(read.value("joblet_persist_lines_total") == Double(output.last))
    #expect(read.value("joblet_persist_duplicates_total") == Double(again))
    #expect(read.value("joblet_persist_records_total") == 1)
    #expect(read.value("joblet_persist_batches_total") >= 1)
    #expect(read.value("joblet_persist_bytes_total") > Double(output.all.count / 4))
    #expect(read.value("joblet_persist_members_total") >= 2)  // stdout and stderr
    #expect(read.value("joblet_persist_sealed_bytes_total") > 100)
    #expect(read.value("joblet_persist_unsealed_lines") == 0)
    #expect(read.value("joblet_persist_dropped_lines_total") == 0)
    #expect(read.value("joblet_persist_gaps_total") == 0)
    #expect(read.value("joblet_persist_write_connections") == 1)
    #expect(read.value("joblet_persist_accepts_jobs") == 1)
    #expect(read.value("joblet_persist_free_bytes") > 0)
    #expect(read.value("joblet_persist_wal_bytes") > 0)
    #expect(read.value("joblet_persist_query_seconds_count", ["type": "queryLogs"]) >= 1)
    #expect(read.value("joblet_persist_info", ["version": jobletVersion, "backend": "local"]) == 1)
    try await bench.close()
  }

  @Test func countsWhatIsMissing() async throws {
    let bench = try Bench()
    let output = Output(seed: 52, chunks: 20)
    let first = try bench.writer()
    first.offer(Bench.job, Array(output.chunks[5...]))
    _ = try first.awaitClose()
    let refused = try await ask(bench)
    #expect(refused.value("joblet_persist_gaps_total") == 1)
    #expect(refused.value("joblet_persist_dropped_lines_total") == 0)
    let second = try bench.writer()
    try second.send(Bench.job, Array(output.chunks[5...]))
    try second.awaitAck(.log, Bench.job, output.last)
    #expect(
      try await ask(bench).value("joblet_persist_dropped_lines_total") == Double(output.chunks[5].info.firstSeq - 1))
    try await bench.close()
  }

  @Test func theLagOfWhatIsNotSyncedGoesToZero() async throws {
    var wal = Configuration().persist.wal
    wal.fsync = .always
    let bench = try Bench(wal: wal)
    let writer = try bench.writer()
    let output = Output(seed: 53, chunks: 50)
    try writer.send(Bench.job, output.chunks)
    try writer.awaitAck(.log, Bench.job, output.last)
    // Acknowledged under `always` is synced; and what is sealed later changes nothing of that.
    let read = try await ask(bench)
    #expect(read.value("joblet_persist_unsynced_lines") == 0)
    #expect(read.value("joblet_persist_fsync_seconds_count", ["of": "wal"]) >= 1)
    #expect(
      read.value("joblet_persist_unsealed_lines") + read.value("joblet_persist_sealed_lines_total")
        >= Double(output.last))
    try await bench.close()
  }
}
