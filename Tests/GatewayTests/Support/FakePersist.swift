import JobletModel
import JobletWire
import NIOCore

/// Stands in for joblet-persist's query socket.
actor FakePersist {
  private(set) var lines: [JobID: [(seq: UInt64, stream: LogStream, text: String, isPartial: Bool)]] = [:]
  private(set) var records: [JobID: JobRecord] = [:]
  private(set) var queries: [LogQuery] = []

  /// The store's time for a search is up after so many records.
  func stopSearching(after count: Int) { mostFound = count }
  private var mostFound: Int?

  func store(_ record: JobRecord) { records[record.id] = record }

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
      let reply = PingReply(version: jobletVersion, backend: "fake", freeBytes: nil)
      try await connection.send(Frame(FrameHeader(.done), json: reply))
    case .queryLogs: try await query(try frame.decode(), connection)
    case .getRecord:
      guard let record = records[frame.header.job] else { throw Problem(.notFound, "there is no such job") }
      try await connection.send(Frame(FrameHeader(.record), json: record))
    case .listRecords:
      let query: RecordQuery = try frame.decode()
      let found = records.values.filter { query.matches($0) }.sorted(by: { $0.id > $1.id })
      let page = found.prefix(min(query.limit, mostFound ?? .max))
      for record in page {
        try await connection.send(Frame(FrameHeader(.record, job: record.id), json: record))
      }
      let next = found.count > page.count ? page.last?.id : nil
      try await connection.send(Frame(FrameHeader(.done), json: RecordsEnd(next: next)))
    case .deleteJobData:
      guard records[frame.header.job] != nil || lines[frame.header.job] != nil else {
        throw Problem(.notFound, "there is no such job")
      }
      records[frame.header.job] = nil
      lines[frame.header.job] = nil
      try await connection.send(Frame(FrameHeader(.done)))
    default: throw FrameError.unexpected(frame.header.type)
    }
  }

  private func query(_ query: LogQuery, _ connection: FrameConnection) async throws {
    queries.append(query)
    guard let stored = lines[query.job] ?? records[query.job].map({ _ in [] }) else {
      throw Problem(.notFound, "there is no job \(query.job)")
    }
    var found = stored.filter { line in
      line.seq > query.after && line.seq <= query.through ?? .max
        && (query.stream == nil || query.stream == line.stream.name)
        && (query.filter.map { line.text.contains($0) } ?? true)
    }
    if let tail = query.tail { found = Array(found.suffix(tail)) }
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
}
