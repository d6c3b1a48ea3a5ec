import FoundationEssentials
import JobletModel

/// Where the records of jobs are kept. Every call may block, and any thread may make it.
public protocol StateStore: Sendable {
  /// The backend's name as the configuration writes it.
  var name: String { get }

  /// Keeps records, all of them or, if it throws, none. A record is passed over if one of the same or a higher version is
  /// there already, so what comes again changes nothing.
  ///
  /// A crash of the process loses nothing that was put; a power cut may, until ``sync()`` returns.
  func put(_ records: [JobRecord]) throws(StateStoreError)

  func get(_ id: JobID) throws(StateStoreError) -> JobRecord?

  /// Records that the query asks for, newest first (job IDs sort by time), as the JSON they are sent in.
  ///
  /// The work for one page is bounded: a search for something rare may give a page with less than
  /// ``JobletModel/RecordQuery/limit`` records, even none, and say where it goes on.
  func page(_ query: RecordQuery) throws(StateStoreError) -> StoredPage

  /// As ``page(_:)``, decoded.
  func list(_ query: RecordQuery) throws(StateStoreError) -> RecordPage

  /// Removes a record; it is gone for good when this returns.
  /// - Returns: false if there was none.
  func delete(_ id: JobID) throws(StateStoreError) -> Bool

  /// Everything that was put before this call is on stable storage when it returns.
  func sync() throws(StateStoreError)

  /// Syncs and lets go of the storage. No other call may come after it.
  func close() throws(StateStoreError)
}

/// A record as the store has it.
public struct StoredRecord: Hashable, Sendable {
  public var id: JobID
  public var version: UInt64
  /// A ``JobletModel/JobRecord`` in the form the API gives.
  public var json: Data

  public init(id: JobID, version: UInt64, json: Data) {
    self.id = id
    self.version = version
    self.json = json
  }

  package init(_ record: JobRecord) {
    self.init(id: record.id, version: record.version, json: Data(record.json()))
  }

  func decode(from path: String) throws(StateStoreError) -> JobRecord {
    do {
      return try JSONDecoder().decode(JobRecord.self, from: json)
    } catch {
      throw .corrupt(path: path, why: "the record of job \(id) can't be read: \(error)")
    }
  }
}

/// A page of stored records, newest first.
public struct StoredPage: Hashable, Sendable {
  public var records: [StoredRecord] = []
  /// The next page's ``JobletModel/RecordQuery/before``; nil if there is nothing more.
  public var next: JobID?

  public init() {}

  func decode(from path: String) throws(StateStoreError) -> RecordPage {
    var decoded: [JobRecord] = []
    for record in records { decoded.append(try record.decode(from: path)) }
    return RecordPage(records: decoded, next: next)
  }
}

/// A page of records, newest first.
public struct RecordPage: Hashable, Sendable {
  public var records: [JobRecord]
  /// The next page's ``JobletModel/RecordQuery/before``; nil if there is nothing more.
  public var next: JobID?

  public init(records: [JobRecord], next: JobID? = nil) {
    self.records = records
    self.next = next
  }
}
