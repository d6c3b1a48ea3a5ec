import JobletModel
import JobletWire
import NIOCore

/// Stands in for joblet-persist's query socket.
actor FakePersist {
  private(set) var lines: [JobID: [(seq: UInt64, stream: LogStream, text: String, isPartial: Bool)]] = [:]
  private(set) var records: [JobID: JobRecord] = [:]
  private(set) var queries: [LogQuery] = []
  private(set) var samples: [JobID: [MetricSample]] = [:]
  private(set) var metricQueries: [MetricQuery] = []
  /// What pings say.
  private var condition = StoreCondition.good
  private var statistics = "# TYPE joblet_persist_lines_total counter\njoblet_persist_lines_total 5\n"
  /// While it is there, log queries find nothing and do not end.
  private var search: (stream: AsyncStream<Void>, continuation: AsyncStream<Void>.Continuation)?
  private(set) var searching = 0
  /// Log queries whose answers are being sent.
  private(set) var answering = 0

  /// The store's time for a search is up after so many records.
  func stopSearching(after count: Int) { mostFound = count }
  private var mostFound: Int?
  /// How many records each listing asked for, and how many records were asked for by their ID.
  private(set) var listed: [Int] = []
  private(set) var recordsRead = 0
  /// Jobs whose data can't be deleted.
  private var undeletable: Set<JobID> = []

  func keep(_ id: JobID) { undeletable.insert(id) }

  func store(_ record: JobRecord) { records[record.id] = record }
  func say(_ condition: StoreCondition) { self.condition = condition }
  func store(_ id: JobID, _ samples: [MetricSample]) { self.samples[id, default: []] += samples }

  /// Stores lines of a text each.
  func store(_ id: JobID, _ numbers: ClosedRange<UInt64>, _ text: String) {
    lines[id, default: []] += numbers.map { ($0, .stdout, text, false) }
  }

  /// From now on a log query searches until ``endSearch()``.
  func beginSearch() { search = AsyncStream.makeStream(of: Void.self) }
  func endSearch() {
    search?.continuation.finish()
    search = nil
  }

  /// All of the job's data is gone.
  func forget(_ id: JobID) {
    records[id] = nil
    lines[id] = nil
    samples[id] = nil
  }

  func store(_ id: JobID, _ seq: UInt64, _ text: String, stream: LogStream = .stdout, isPartial: Bool = false) {
    lines[id, default: []].append((seq, stream, text, isPartial))
  }

  static let time = Timestamp(nanoseconds: 1_795_000_000_000_000_000)

  func serve(_ connection: FrameConnection) async throws {
    while let frame = try await connection.next() {
      do {
        try await answer(frame, connection)
      } catch let problem as Problem {
        try await connection.send(Frame(FrameHeader(.problem), json: problem))
      }
    }
  }

  private func answer(_ frame: Frame, _ connection: FrameConnection) async throws {
    switch frame.header.type {
    case .ping:
      let reply = PingReply(version: jobletVersion, backend: "fake", freeBytes: nil, condition: condition)
      try await connection.send(Frame(FrameHeader(.done), json: reply))
    case .queryLogs: try await queryLogs(try frame.decode(), connection)
    case .queryMetrics: try await queryMetrics(try frame.decode(), connection)
    case .statistics: try await connection.send(Frame(FrameHeader(.done), payload: ByteBuffer(string: statistics)))
    case .getRecord:
      recordsRead += 1
      guard let record = records[frame.header.job] else { throw Problem(.notFound, "there is no such job") }
      try await connection.send(Frame(FrameHeader(.record), json: record))
    case .listRecords:
      let query: RecordQuery = try frame.decode()
      listed.append(query.limit)
      let found = records.values.filter { query.matches($0) }.sorted(by: { $0.id > $1.id })
      let page = found.prefix(min(query.limit, mostFound ?? .max))
      for record in page {
        try await connection.send(Frame(FrameHeader(.record, job: record.id), json: record))
      }
      let next = found.count > page.count ? page.last?.id : nil
      try await connection.send(Frame(FrameHeader(.done), json: RecordsEnd(next: next)))
    case .deleteJobData:
      if undeletable.contains(frame.header.job) { throw Problem(.internalError, "the disk refuses") }
      guard records[frame.header.job] != nil || lines[frame.header.job] != nil else {
        throw Problem(.notFound, "there is no such job")
      }
      forget(frame.header.job)
      try await connection.send(Frame(FrameHeader(.done)))
    default: throw FrameError.unexpected(frame.header.type)
    }
  }

  private func queryLogs(_ query: LogQuery, _ connection: FrameConnection) async throws {
    queries.append(query)
    answering += 1
    defer { answering -= 1 }
    let regex: Regex<AnyRegexOutput>?
    do {
      regex = try query.regex.map { try Regex($0) }
    } catch {
      throw Problem(.invalidField, "regex: '\(query.regex ?? "")' can't be read", field: "regex")
    }
    if let search {
      searching += 1
      for await _ in search.stream {}
      searching -= 1
    }
    guard let stored = lines[query.job] ?? records[query.job].map({ _ in [] }) else {
      throw Problem(.notFound, "there is no job \(query.job)")
    }
    var found = stored.filter { line in
      line.seq > query.after && line.seq <= query.through ?? .max
        && (query.stream == nil || query.stream == line.stream.name)
        && (query.filter.map { line.text.contains($0) } ?? true)
        && (regex.map { line.text.contains($0) } ?? true)
    }
    if let tail = query.tail { found = Array(found.suffix(tail)) }
    if query.order == .descending { found.reverse() }
    if let offset = query.offset { found = Array(found.dropFirst(offset)) }
    if let limit = query.limit { found = Array(found.prefix(limit)) }
    for batch in stride(from: 0, to: found.count, by: 100) {
      let part = found[batch..<min(batch + 100, found.count)]
      var encoder = LogLineEncoder()
      for line in part {
        Array(line.text.utf8).withUnsafeBytes { bytes in
          encoder.appendLine(
            seq: line.seq, timestamp: FakePersist.time, stream: line.stream, isPartial: line.isPartial, line: bytes)
        }
      }
      let header = FrameHeader(
        .log, flags: .encoded, job: query.job, seq: part[part.startIndex].seq, count: UInt32(part.count))
      try await connection.send(Frame(header, payload: ByteBuffer(bytes: encoder.bytes)))
    }
    try await connection.send(Frame(FrameHeader(.done)))
  }

  private func queryMetrics(_ query: MetricQuery, _ connection: FrameConnection) async throws {
    metricQueries.append(query)
    guard let stored = samples[query.job] ?? records[query.job].map({ _ in [] }) else {
      throw Problem(.notFound, "there is no job \(query.job)")
    }
    var found = stored.filter { sample in
      sample.seq > query.after && query.since.map { sample.ts >= $0 } ?? true
        && query.until.map { sample.ts <= $0 } ?? true
    }
    if query.order == .descending { found.reverse() }
    var lines = found.map { (seq: $0.seq, text: $0.line) }
    if let aggregate = query.aggregate, let first = found.first {
      let memory = found.compactMap(\.memoryBytes).reduce(0, +) / Int64(found.count)
      lines = [
        (
          0,
          "{\"ts\":\"\(first.ts)\",\"aggregate\":\"\(aggregate.rawValue)\",\"samples\":\(found.count),"
            + "\"memory_bytes\":\(memory)}\n"
        )
      ]
    }
    lines = Array(lines.dropFirst(query.offset ?? 0).prefix(query.limit ?? .max))
    for line in lines {
      let header = FrameHeader(.metric, flags: .encoded, job: query.job, seq: line.seq, count: 1)
      try await connection.send(Frame(header, payload: ByteBuffer(string: line.text)))
    }
    try await connection.send(Frame(FrameHeader(.done)))
  }
}
