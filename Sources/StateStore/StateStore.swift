import JobletModel

/// Where the records of jobs are kept. Calls may block.
public protocol StateStore: Sendable {
  /// The backend's name as the configuration writes it.
  var name: String { get }

  /// Keeps a record unless one of the same or a higher version is there already: a record that comes again changes nothing.
  /// - Returns: true if it was news.
  @discardableResult
  func put(_ record: JobRecord) throws -> Bool

  func get(_ id: JobID) throws -> JobRecord?

  /// Records that the query asks for, newest first (job IDs sort by time).
  func list(_ query: RecordQuery) throws -> [JobRecord]

  /// Removes a record. False if there was none.
  func delete(_ id: JobID) throws -> Bool
}
