import JobletModel
import Testing

@Suite struct RecordQueryTests {
  static func record() -> JobRecord {
    var request = JobRequest(command: "python3")
    request.name = "Training"
    request.args = ["main.py", "--shard", "7"]
    request.labels = ["team": "red", "app": "Ärger"]
    request.env = ["HIDDEN": "env-value"]
    return JobRecord(
      id: JobID(high: 0x0193_0000_0000_7ABC, low: 0x8000_0000_0000_0001), request: request, status: .running,
      createdAt: Timestamp(nanoseconds: 1000), nodeID: "n", owner: "alice")
  }

  @Test(arguments: [
    ("training", true), ("TRAIN", true), ("python3 main.py --SHARD 7", true), ("team=red", true), ("ALICE", true),
    ("7abc-8000", true), ("Ärger", true), ("ärger", false), ("env-value", false), ("HIDDEN", false), ("shard 8", false),
    ("e", true), ("running", false),
  ])
  func looksInWhatPeopleKnow(text: String, isFound: Bool) {
    #expect(RecordQuery(text: text).matches(Self.record()) == isFound)
  }

  @Test func everyConditionHolds() {
    let record = Self.record()
    let id = record.id
    let wanted: [RecordQuery] = [
      RecordQuery(), RecordQuery(statuses: [.failed, .running]), RecordQuery(since: Timestamp(nanoseconds: 1000)),
      RecordQuery(until: Timestamp(nanoseconds: 1000)), RecordQuery(before: JobID(high: id.high, low: id.low + 1)),
    ]
    let others: [RecordQuery] = [
      RecordQuery(statuses: []), RecordQuery(statuses: [.failed]), RecordQuery(since: Timestamp(nanoseconds: 1001)),
      RecordQuery(until: Timestamp(nanoseconds: 999)), RecordQuery(before: id),
      RecordQuery(statuses: [.running], text: "nothing like it"),
    ]
    #expect(wanted.allSatisfy { $0.matches(record) })
    #expect(!others.contains { $0.matches(record) })
  }

  @Test func searchTextIsBounded() {
    var record = Self.record()
    record.args = ["x" + String(repeating: "ä", count: 10_000)]
    let text = record.searchText
    #expect((JobRecord.maxSearchBytes - 3...JobRecord.maxSearchBytes).contains(text.utf8.count))
    #expect(text.hasSuffix("ä"), "cut between characters")
    record.args = ["a\0b"]
    #expect(record.searchText.hasSuffix("a b"))
  }

  @Test func namesTheFieldThatIsWrong() {
    for query in [RecordQuery(limit: 0), RecordQuery(limit: 1001)] {
      #expect(throws: Problem.self) { try query.check() }
    }
    for text in ["", String(repeating: "x", count: 257)] {
      let problem = #expect(throws: Problem.self) { try RecordQuery(text: text).check() }
      #expect(problem?.field == "text")
    }
    #expect(throws: Never.self) { try RecordQuery(text: "x", limit: 1000).check() }
  }
}
