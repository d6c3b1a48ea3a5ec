import FoundationEssentials
internal import GRDB
import JobletModel

/// One record's way into the database and out of it. Everything here runs inside a transaction.
enum RecordTable {
  /// - Returns: false if the record is no news.
  static func put(_ record: JobRecord, _ db: Database) throws -> Bool {
    let known = try Row.fetchOne(
      db.cachedStatement(sql: "SELECT rowid, version, search FROM records WHERE id = ?"), arguments: [record.id.data])
    let version = Int64(clamping: record.version)
    if let known, known[1] as Int64 >= version { return false }
    let text = ASCIIText.lowercased(record.searchText)
    let json = StoredRecord(record).json
    try noteSkew(record, db)
    let index = known.map { $0[2] as String } == text ? nil : try SearchIndex(record.id, db)
    if let known {
      let update = "UPDATE records SET version = ?, status = ?, created = ?, search = ?, json = ? WHERE rowid = ?"
      try db.cachedStatement(sql: update).execute(arguments: [
        version, record.status.rawValue, record.createdAt.nanoseconds, text, json, known[0] as Int64,
      ])
    } else {
      let insert = "INSERT INTO records (id, version, status, created, search, json) VALUES (?, ?, ?, ?, ?, ?)"
      try db.cachedStatement(sql: insert).execute(arguments: [
        record.id.data, version, record.status.rawValue, record.createdAt.nanoseconds, text, json,
      ])
    }
    try index?.update(db)
    return true
  }

  /// - Returns: false if there is no such record.
  static func delete(_ id: JobID, _ db: Database) throws -> Bool {
    let index = try SearchIndex(id, db)
    try db.cachedStatement(sql: "DELETE FROM records WHERE id = ?").execute(arguments: [id.data])
    guard db.changesCount > 0 else { return false }
    try index.update(db)
    return true
  }

  // MARK: Time

  /// A job's ID has the millisecond in which it was made, and `created` is the same moment, or nearly. How far the two were
  /// ever apart is kept, so that a range of time is a range of IDs and yet exact.
  private static func noteSkew(_ record: JobRecord, _ db: Database) throws {
    let (created, own) = (record.createdAt.milliseconds, record.id.milliseconds)
    let update = "UPDATE meta SET value = ? WHERE key = 'skew_ms' AND value < ?"
    let skew = created > own ? created - own : own - created
    guard skew > 0 else { return }
    try db.cachedStatement(sql: update).execute(arguments: [skew, skew])
  }

  /// The IDs among which everything is that a query can ask for: from `low` to below `high`.
  static func window(_ query: RecordQuery, _ db: Database) throws -> (low: JobID, high: JobID?) {
    var low = JobID(high: 0, low: 0)
    var high = query.before
    guard query.since != nil || query.until != nil else { return (low, high) }
    let skew = try Int64.fetchOne(db, sql: "SELECT value FROM meta WHERE key = 'skew_ms'") ?? .max
    if let since = query.since, let first = JobID(millisecond: since.milliseconds.subtractingClamped(skew)) {
      low = first
    }
    if let until = query.until {
      // The first millisecond that is too late. Nil if it is beyond all IDs; a moment before 1970 leaves none.
      let end = until.milliseconds.addingClamped(skew).addingClamped(1)
      if let bound = end < 0 ? JobID(high: 0, low: 0) : JobID(millisecond: end) { high = min(high ?? bound, bound) }
    }
    return (low, high)
  }
}

/// The full-text index's entry for a record's bucket, before and after a change.
///
/// The index is asked for newest first, so its keys must sort as IDs do; they are 64-bit numbers, so one stands for all IDs
/// that begin with the same 56 bits: those of the same sixteenth of a millisecond, if there are several. Such a bucket is
/// indexed as one text, and whoever finds it looks at each of its records.
struct SearchIndex {
  private let bucket: Int64
  private let range: StatementArguments
  private let before: [String]

  static func bucket(_ id: JobID) -> Int64 { Int64(id.high >> 8) }

  /// The first and the last ID of a bucket.
  static func ids(_ bucket: Int64) -> ClosedRange<JobID> {
    let high = UInt64(bitPattern: bucket) << 8
    return JobID(high: high, low: 0)...JobID(high: high | 0xFF, low: .max)
  }

  /// Takes down what the bucket of `id` has now.
  init(_ id: JobID, _ db: Database) throws {
    bucket = SearchIndex.bucket(id)
    let ids = SearchIndex.ids(bucket)
    range = [ids.lowerBound.data, ids.upperBound.data]
    before = try SearchIndex.texts(range, db)
  }

  /// Brings the index in line with what the bucket has by now.
  func update(_ db: Database) throws {
    let after = try SearchIndex.texts(range, db)
    guard after != before else { return }
    if !before.isEmpty {
      // The index has no text of its own: to take an entry out, it is told again what went in.
      let delete = "INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)"
      try db.cachedStatement(sql: delete).execute(arguments: [bucket, before.joined(separator: "\n")])
    }
    guard !after.isEmpty else { return }
    let insert = "INSERT INTO search (rowid, text) VALUES (?, ?)"
    try db.cachedStatement(sql: insert).execute(arguments: [bucket, after.joined(separator: "\n")])
  }

  private static func texts(_ range: StatementArguments, _ db: Database) throws -> [String] {
    let select = "SELECT search FROM records WHERE id BETWEEN ? AND ? ORDER BY id"
    return try String.fetchAll(db.cachedStatement(sql: select), arguments: range)
  }

  /// The index's query for what may contain a text: everything that has all its trigrams. Nil below three characters, of
  /// which the index knows nothing.
  static func match(_ text: String) -> String? {
    let characters = Array(text.unicodeScalars)
    guard characters.count >= 3 else { return nil }
    // Each costs a walk of the index, and a dozen single out what they single out.
    let count = characters.count - 2
    let starts = Set((0..<min(count, 12)).map { count <= 12 ? $0 : $0 * (count - 1) / 11 }).sorted()
    let trigrams = starts.map { start in
      var part = String.UnicodeScalarView(characters[start..<start + 3])
      part.replace("\"".unicodeScalars, with: "\"\"".unicodeScalars)
      return "\"\(String(part))\""
    }
    return trigrams.joined(separator: " AND ")
  }
}

extension JobID {
  /// The 16 bytes in network order: they sort as IDs do.
  var data: Data {
    var bytes = Data(capacity: JobID.byteCount)
    for word in [high, low] { withUnsafeBytes(of: word.bigEndian) { bytes.append(contentsOf: $0) } }
    return bytes
  }

  init?(_ row: Row, _ column: Int) throws {
    let words = try row.withUnsafeData(atIndex: column) { data -> (UInt64, UInt64)? in
      guard let data, data.count == JobID.byteCount else { return nil }
      return data.withUnsafeBytes { bytes in
        (
          UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
          UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        )
      }
    }
    guard let words else { return nil }
    self.init(high: words.0, low: words.1)
  }

  /// When it was made, in Unix milliseconds.
  var milliseconds: Int64 { Int64(high >> 16) }

  /// The smallest ID of a millisecond. Nil outside the 48 bits that an ID has for it.
  init?(millisecond: Int64) {
    guard (0..<(1 << 48)).contains(millisecond) else { return nil }
    self.init(high: UInt64(millisecond) << 16, low: 0)
  }
}

extension Timestamp {
  /// Unix milliseconds, rounded down.
  fileprivate var milliseconds: Int64 {
    let (quotient, remainder) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000)
    return remainder < 0 ? quotient - 1 : quotient
  }
}

extension Int64 {
  fileprivate func addingClamped(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }

  fileprivate func subtractingClamped(_ other: Int64) -> Int64 {
    let (difference, overflow) = subtractingReportingOverflow(other)
    return overflow ? .min : difference
  }
}
