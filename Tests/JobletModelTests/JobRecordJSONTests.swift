import Foundation
import Testing

import JobletModel

/// A record's own JSON against Foundation's: the same members with the same values, whatever stands in them.
@Suite struct JobRecordJSONTests {
  private static func full(_ text: String) throws -> JobRecord {
    var request = JobRequest(command: text)
    request.args = [text, "", "a/b"]
    request.env = [text: text, "B": "", "a": "ä"]
    request.secretEnv = ["KEY": "value", text: "other"]
    request.labels = [text: text]
    request.name = text
    request.timeout = "10s"
    request.seccomp = "strict"
    request.limits = Limits(
      cpuPercent: 50, cpuWeight: 100, cpuCores: "0-3,6", memoryMB: 64, memoryHighMB: 32, ioBps: .max, pids: 5)
    let id = try #require(JobID("0192f0c1-2345-7abc-8def-0123456789ab"))
    var record = JobRecord(
      id: id, request: request, status: .failed, createdAt: Timestamp(nanoseconds: 1_700_000_000_123_456_789),
      nodeID: text, owner: text)
    record.exitCode = -1
    record.signal = 9
    record.reason = .oomKilled
    record.message = text
    record.startedAt = Timestamp(nanoseconds: 0)
    record.endedAt = Timestamp(nanoseconds: -1)
    record.scheduledAt = Timestamp(nanoseconds: .max)
    record.version = .max
    record.lastSeq = 0
    record.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    record.usage = JobUsage(cpuUsec: 1, memoryPeakBytes: 2, ioReadBytes: 3, ioWriteBytes: .max)
    return record
  }

  private static func expectSame(_ record: JobRecord) throws {
    let bytes = record.json()
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let own = try JSONSerialization.jsonObject(with: Data(bytes)) as? NSDictionary
    let theirs = try JSONSerialization.jsonObject(with: encoder.encode(record)) as? NSDictionary
    #expect(own == theirs)
    #expect(try JSONDecoder().decode(JobRecord.self, from: Data(bytes)) == record)
  }

  @Test(
    "any text comes back",
    arguments: [
      "sh", "", " ", "\"quoted\" \\ back/slash", "line\nreturn\rtab\tnul\0bell\u{7}\u{8}\u{C}\u{1B}\u{1F}",
      "\u{7F}\u{80}",
      "ä€😀\u{FFFF}\u{10FFFF}\u{2028}", "e\u{301}", String(repeating: "x", count: 10_000),
    ])
  func anyText(_ text: String) throws { try Self.expectSame(try Self.full(text)) }

  @Test("what is not known is absent")
  func absent() throws {
    let id = try #require(JobID("0192f0c1-2345-7abc-8def-0123456789ab"))
    var record = JobRecord(
      id: id, request: JobRequest(command: "true"), status: .queued, createdAt: Timestamp(nanoseconds: 5), nodeID: "n",
      owner: "o")
    try Self.expectSame(record)
    record.usage = JobUsage()
    record.limits = Limits()
    try Self.expectSame(record)
    #expect(
      String(decoding: record.json(), as: UTF8.self).hasPrefix(#"{"args":[],"command":"true","created_at":"1970-"#))
  }

  @Test("every member is written, sorted")
  func complete() throws {
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(Self.full("x").json())) as? [String: Any])
    #expect(Set(object.keys) == Set(JobRecord.CodingKeys.allCases.map(\.rawValue)))
    let limits = try #require(object["limits"] as? [String: Any])
    #expect(Set(limits.keys) == Set(Limits.CodingKeys.allCases.map(\.rawValue)))
    let text = String(decoding: try Self.full("x").json(), as: UTF8.self)
    let places = try JobRecord.CodingKeys.allCases.map(\.rawValue).sorted().map { key in
      try #require(text.range(of: "\"\(key)\":")?.lowerBound)
    }
    #expect(places == places.sorted())
  }

  @Test("random texts come back")
  func random() throws {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      let scalars = (0..<Int.random(in: 0...40, using: &generator)).compactMap { _ in
        Unicode.Scalar(UInt32.random(in: 0...0x2FFF, using: &generator))
      }
      try Self.expectSame(try Self.full(String(String.UnicodeScalarView(scalars))))
    }
  }
}
