import JobletModel
import StateStore
import Testing

@Suite struct StateStoreConformance {
  static func stores() -> [any StateStore] { [MemoryStateStore()] }

  static func record(_ number: UInt64, _ status: JobStatus = .running, version: UInt64 = 1) -> JobRecord {
    let request = JobRequest(command: "true")
    let id = JobID(high: 0x0193_0000_0000_7000 + number << 16, low: 0x8000_0000_0000_0000)
    var record = JobRecord(
      id: id, request: request, status: status, createdAt: Timestamp(nanoseconds: Int64(number)), nodeID: "n",
      owner: "o")
    record.version = version
    return record
  }

  @Test func keepsTheNewestVersion() throws {
    for store in Self.stores() {
      try store.put([Self.record(1, version: 2)])
      try store.put([Self.record(1, .failed, version: 1)])
      try store.put([Self.record(1, .failed, version: 2)])
      #expect(try store.get(Self.record(1).id)?.status == .running)
      try store.put([Self.record(1, .completed, version: 3)])
      #expect(try store.get(Self.record(1).id)?.status == .completed)
      #expect(try store.get(Self.record(2).id) == nil)
      #expect(try store.delete(Self.record(1).id))
      #expect(try !store.delete(Self.record(1).id))
    }
  }

  @Test func listsNewestFirstInPages() throws {
    for store in Self.stores() {
      var random = SeededNumbers(3)
      for number in Array(0..<200 as Range<UInt64>).shuffled(using: &random) {
        try store.put([Self.record(number, number % 3 == 0 ? .failed : .running)])
      }
      var seen: [JobID] = []
      var cursor: JobID?
      while true {
        let page = try store.list(RecordQuery(statuses: [.failed], before: cursor, limit: 7))
        #expect(page.records.count <= 7)
        seen += page.records.map(\.id)
        guard let next = page.next else { break }
        cursor = next
      }
      #expect(seen == (0..<200 as Range<UInt64>).reversed().filter { $0 % 3 == 0 }.map { Self.record($0).id })
    }
  }

  @Test func makesRoomAmongTheEnded() throws {
    let store = MemoryStateStore(capacity: 3)
    for (number, status) in [(1, JobStatus.running), (2, .failed), (3, .completed), (4, .running)] {
      store.put([Self.record(UInt64(number), status)])
    }
    #expect(store.list(RecordQuery()).records.map(\.createdAt.nanoseconds) == [4, 3, 1])
  }
}
