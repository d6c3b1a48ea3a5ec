import FoundationEssentials
import JobletModel
import JobletWire
import NIOCore

/// Job records from where they are: the live view first, persist's store for the rest.
struct JobDirectory: Sendable {
  let view: LiveView
  /// Nil where nothing is persisted (`ipc.enabled: false`).
  let persist: FramePool?

  /// A job's record.
  /// - Throws: ``Problem``: `not-found`, or `unavailable` when whoever might know it is away.
  func record(_ id: JobID) async throws -> JobRecord {
    if let record = view.record(id) { return record }
    if let stored = try await stored(id) { return stored }
    throw missing(id)
  }

  /// A job's record as JSON without a newline.
  func json(_ id: JobID) async throws -> ByteBuffer {
    if let json = view.json(id) { return json }
    if let stored = try await stored(id) { return JSONText.encodeFragment(stored) }
    throw missing(id)
  }

  /// What persist knows of a job; nil if nothing.
  func stored(_ id: JobID) async throws -> JobRecord? {
    guard let persist else { return nil }
    do {
      return try await persist.request(Frame(FrameHeader(.getRecord, job: id))).decode()
    } catch let problem as Problem where problem.kind == .notFound {
      return nil
    }
  }

  private func missing(_ id: JobID) -> Problem {
    // Without exec nobody can say that a job does not exist: it may have been started a moment ago.
    guard view.isConnected else {
      return Problem(
        .unavailable, "job \(id) is not among the stored ones, and joblet-exec, which may know it, is away",
        retryAfter: 2)
    }
    return Problem(.notFound, "there is no job \(id)")
  }

  /// A page of records as JSON, newest first, and whether there are more.
  /// - Parameters:
  ///   - before: only jobs older than this one.
  ///   - limit: how many at most.
  func page(status: JobStatus?, before: JobID?, limit: Int) async throws -> (
    jobs: [(id: JobID, json: ByteBuffer)], hasMore: Bool
  ) {
    let live = view.ids(before: before, limit: limit + 1) { status == nil || $0.status == status }
    let stored = try await storedPage(status: status, before: before, limit: limit)
    var merged: [(id: JobID, json: ByteBuffer)] = []
    var (a, b) = (live[...], stored[...])
    while merged.count <= limit {
      switch (a.first, b.first) {
      case (let id?, let record?) where record.id > id:
        merged.append((record.id, JSONText.encodeFragment(record)))
        b.removeFirst()
      case (let id?, _):
        if let json = view.json(id) { merged.append((id, json)) }
        a.removeFirst()
      case (nil, let record?):
        merged.append((record.id, JSONText.encodeFragment(record)))
        b.removeFirst()
      case (nil, nil):
        return (merged, false)
      }
    }
    return (Array(merged.prefix(limit)), true)
  }

  /// Stored records the live view does not have: of a job that both know, the live one is newer.
  private func storedPage(status: JobStatus?, before: JobID?, limit: Int) async throws -> [JobRecord] {
    guard let persist else { return [] }
    var found: [JobRecord] = []
    var before = before
    while found.count <= limit {
      let size = min(limit + 1, 1000)
      let query = RecordQuery(statuses: status.map { [$0] }, before: before, limit: size)
      let page = try await persist.converse(timeout: .seconds(15)) { connection in
        try await connection.send(Frame(FrameHeader(.listRecords), json: query))
        var records: [JobRecord] = []
        while true {
          let frame = try await connection.reply()
          switch frame.header.type {
          case .record: records.append(try frame.decode())
          case .done: return records
          default: throw FrameError.unexpected(frame.header.type)
          }
        }
      }
      found += page.filter { view.record($0.id) == nil }
      guard page.count >= size, let last = page.last else { break }
      before = last.id
    }
    return found
  }
}

/// Where a list goes on: the last job's ID in base64url, opaque to clients so that it may one day be something else.
enum Cursor {
  static func encode(_ id: JobID) -> String {
    var bytes: [UInt8] = []
    for word in [id.high, id.low] { withUnsafeBytes(of: word.bigEndian) { bytes.append(contentsOf: $0) } }
    return Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
      "=", with: "")
  }

  static func decode(_ text: String) -> JobID? {
    guard text.utf8.count == 22 else { return nil }
    let standard = text.replacing("-", with: "+").replacing("_", with: "/") + "=="
    guard let data = Data(base64Encoded: standard), data.count == JobID.byteCount else { return nil }
    let words = data.withUnsafeBytes { bytes in
      (
        UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
        UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      )
    }
    return JobID(high: words.0, low: words.1)
  }
}
