import FoundationEssentials
internal import GRDB
import JobletModel

/// One page of a listing: candidates from whichever index gives the fewest, newest first, each held against the query's every
/// condition by the row's columns, which say what ``JobletModel/RecordQuery/matches(_:)`` would, without a look at the JSON.
///
/// - Without text: the records of each status asked for, by `records_by_status`, merged; or all of them, by ID.
/// - With text of three characters or more: by the full-text index, unless the statuses asked for have few records.
/// - With shorter text: like without text. Its matches are as a rule many; where not, the page's time ends the search.
struct RecordListing {
  private let query: RecordQuery
  private let db: Database
  private let deadline: ContinuousClock.Instant

  /// Up to so many records of the statuses asked for are looked through rather than searched for.
  private static let few = 2000

  init(_ query: RecordQuery, _ db: Database, time: Duration) {
    self.query = query
    self.db = db
    deadline = .now + time
  }

  func page() throws -> StoredPage {
    var page = StoredPage()
    let statuses = query.statuses.map { Set($0.map(\.rawValue)) }
    // No searched text has a NUL, and SQLite's functions take one for the end.
    if statuses?.isEmpty == true || query.text?.utf8.contains(0) == true { return page }
    let source = try candidates(statuses)
    var looked = 0
    while let candidate = try source.next() {
      looked += 1
      let row = candidate.row
      if matches(row, statuses) {
        if page.records.count == query.limit {
          page.next = page.records.last?.id
          return page
        }
        let version = UInt64(clamping: row[Column.version] as Int64)
        page.records.append(StoredRecord(id: candidate.id, version: version, json: row[Column.json]))
      }
      if looked % 256 == 0, ContinuousClock.now >= deadline {
        page.next = candidate.id
        return page
      }
    }
    return page
  }

  private func matches(_ row: Row, _ statuses: Set<String>?) -> Bool {
    guard row[Column.hasText] else { return false }
    if let statuses, !statuses.contains(row[Column.status]) { return false }
    let created = row[Column.created] as Int64
    if let since = query.since, created < since.nanoseconds { return false }
    if let until = query.until, created > until.nanoseconds { return false }
    return true
  }

  private func candidates(_ statuses: Set<String>?) throws -> any CandidateSource {
    let window = try RecordTable.window(query, db)
    let all = statuses.map { $0.count == JobStatus.allCases.count } ?? true
    let names = all ? nil : statuses?.sorted()
    let text = query.text.map(ASCIIText.lowercased)
    if let text, let match = SearchIndex.match(text) {
      let isQuick = try names.map { try haveFew($0, window) } ?? false
      if !isQuick { return try SearchWalk(db, match: match, text: text, window: window) }
    }
    return try IndexWalk(db, statuses: names, text: text, window: window)
  }

  private func haveFew(_ statuses: [String], _ window: (low: JobID, high: JobID?)) throws -> Bool {
    var left = RecordListing.few
    for status in statuses {
      let count = """
        SELECT count(*) FROM (SELECT 1 FROM records INDEXED BY records_by_status
          WHERE status = ? AND id >= ? AND id < ? LIMIT ?)
        """
      let arguments: StatementArguments = [status, window.low.data, window.high.bound, left]
      left -= try Int.fetchOne(db.cachedStatement(sql: count), arguments: arguments) ?? 0
      guard left > 0 else { return false }
    }
    return true
  }
}

/// A row of `records` that may be what is asked for. The row is the statement's own: it is good until the next is asked for.
struct Candidate {
  var id: JobID
  var row: Row
}

/// The columns that every candidate's row has.
private enum Column {
  static let id = 0
  static let status = 1
  static let created = 2
  static let hasText = 3
  static let version = 4
  static let json = 5

  /// The column `search` has its ASCII letters small already, and `instr` compares bytes.
  static func select(text: Bool) -> String {
    "SELECT id, status, created, \(text ? "instr(search, ?) > 0" : "1"), version, json FROM records"
  }
}

protocol CandidateSource: AnyObject {
  /// The next candidate, newest first.
  func next() throws -> Candidate?
}

/// Every record in the window, or those of some statuses, merged.
private final class IndexWalk: CandidateSource {
  /// One cursor a status; each stands on its newest row that was not given yet.
  private var heads: [(id: JobID, row: Row, cursor: RowCursor)] = []
  private var given: Int?

  init(_ db: Database, statuses: [String]?, text: String?, window: (low: JobID, high: JobID?)) throws {
    let select = Column.select(text: text != nil)
    let order = "id >= ? AND id < ? ORDER BY id DESC"
    for status in statuses.map({ $0.map(Optional.some) }) ?? [nil] {
      let sql =
        status == nil
        ? "\(select) WHERE \(order)" : "\(select) INDEXED BY records_by_status WHERE status = ? AND \(order)"
      var arguments = StatementArguments()
      if let text { arguments += [text] }
      if let status { arguments += [status] }
      arguments += [window.low.data, window.high.bound]
      // Several walks of one query: each needs a statement of its own, so none from the cache.
      let cursor = try Row.fetchCursor(db.makeStatement(sql: sql), arguments: arguments)
      if let row = try cursor.next(), let id = try JobID(row, Column.id) { heads.append((id, row, cursor)) }
    }
  }

  func next() throws -> Candidate? {
    if let given {
      if let row = try heads[given].cursor.next(), let id = try JobID(row, Column.id) {
        heads[given].id = id
        heads[given].row = row
      } else {
        heads.remove(at: given)
      }
    }
    given = heads.indices.max { heads[$0].id < heads[$1].id }
    return given.map { Candidate(id: heads[$0].id, row: heads[$0].row) }
  }
}

/// The records of every bucket that the full-text index finds.
private final class SearchWalk: CandidateSource {
  private let buckets: RowCursor
  private let records: Statement
  private let text: String
  private let window: (low: JobID, high: JobID?)
  private var current: RowCursor?

  init(_ db: Database, match: String, text: String, window: (low: JobID, high: JobID?)) throws {
    self.text = text
    self.window = window
    let search = "SELECT rowid FROM search WHERE search MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid DESC"
    buckets = try Row.fetchCursor(
      db.cachedStatement(sql: search),
      arguments: [
        match, SearchIndex.bucket(window.low), window.high.map(SearchIndex.bucket) ?? .max,
      ])
    records = try db.cachedStatement(
      sql: Column.select(text: true) + " WHERE id BETWEEN ? AND ? AND id < ? ORDER BY id DESC")
  }

  func next() throws -> Candidate? {
    while true {
      if let row = try current?.next(), let id = try JobID(row, Column.id) { return Candidate(id: id, row: row) }
      current = nil
      guard let bucket = try buckets.next() else { return nil }
      let ids = SearchIndex.ids(bucket[0])
      let arguments: StatementArguments = [
        text, max(ids.lowerBound, window.low).data, ids.upperBound.data, window.high.bound,
      ]
      current = try Row.fetchCursor(records, arguments: arguments)
    }
  }
}

extension JobID? {
  /// The exclusive upper bound to compare IDs with: for nil a byte string above them all.
  fileprivate var bound: Data { self?.data ?? Data(repeating: 0xFF, count: JobID.byteCount + 1) }
}
