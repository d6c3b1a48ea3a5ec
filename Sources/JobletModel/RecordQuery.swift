/// Which of the stored records are asked for, newest first. Every condition holds at once.
public struct RecordQuery: Codable, Hashable, Sendable {
  /// Any of these; nil for every status.
  public var statuses: [JobStatus]?
  /// Bounds of `created_at`, both inclusive.
  public var since: Timestamp?
  public var until: Timestamp?
  /// Text that ``JobRecord/searchText`` contains, letters of either case alike (ASCII).
  public var text: String?
  /// Records older than this one: where the page before ended.
  public var before: JobID?
  /// 1 to 1000.
  public var limit: Int

  public init(
    statuses: [JobStatus]? = nil, since: Timestamp? = nil, until: Timestamp? = nil, text: String? = nil,
    before: JobID? = nil, limit: Int = 100
  ) {
    self.statuses = statuses
    self.since = since
    self.until = until
    self.text = text
    self.before = before
    self.limit = limit
  }

  public static let limitRange = 1...1000
  /// The length of ``text``, in bytes.
  public static let textRange = 1...256

  /// - Throws: ``Problem`` naming the field that is out of range and what is allowed.
  public func check() throws(Problem) {
    guard RecordQuery.limitRange.contains(limit) else {
      throw Problem(.invalidField, "limit is \(limit); allowed: 1 to 1000", field: "limit")
    }
    if let text, !RecordQuery.textRange.contains(text.utf8.count) {
      throw Problem(.invalidField, "text: \(text.utf8.count) bytes are not allowed; allowed is 1 to 256", field: "text")
    }
  }

  /// Whether a record meets every condition, ``before`` included. The one definition, for every place that lists records.
  public func matches(_ record: JobRecord) -> Bool {
    if let statuses, !statuses.contains(record.status) { return false }
    if let before, record.id >= before { return false }
    if let since, record.createdAt < since { return false }
    if let until, record.createdAt > until { return false }
    guard let text else { return true }
    return ASCIIText.contains(record.searchText, text)
  }
}

extension JobRecord {
  /// The longest ``searchText``, in bytes.
  public static let maxSearchBytes = 4096

  /// What a search looks in: ID, name, owner, `key=value` of every label and the command with its arguments, each on a line
  /// of its own, cut after ``maxSearchBytes``. It stays the same over a job's life.
  public var searchText: String {
    var text = id.description
    if let name { text += "\n" + name }
    text += "\n" + owner
    for (key, value) in labels.sorted(by: { $0.key < $1.key }) { text += "\n\(key)=\(value)" }
    text += "\n" + command
    for argument in args {
      guard text.utf8.count < JobRecord.maxSearchBytes else { break }
      text += " " + argument
    }
    // SQLite's functions take a NUL for the end.
    if text.utf8.contains(0) { text.replace("\0", with: " ") }
    guard text.utf8.count > JobRecord.maxSearchBytes else { return text }
    // At the last whole character within the bound.
    var end = text.utf8.index(text.startIndex, offsetBy: JobRecord.maxSearchBytes)
    while end > text.startIndex, end.samePosition(in: text.unicodeScalars) == nil { end = text.utf8.index(before: end) }
    return String(text.unicodeScalars[..<end])
  }
}

/// Comparison that tells no ASCII letter's case apart and takes every other byte as it is.
public enum ASCIIText {
  /// True if `part` occurs in `whole`; an empty part always does.
  public static func contains(_ whole: String, _ part: String) -> Bool {
    var (whole, part) = (whole, part)
    return whole.withUTF8 { whole in
      part.withUTF8 { part in
        guard let first = part.first.map(lowercased) else { return true }
        guard whole.count >= part.count else { return false }
        for start in 0...(whole.count - part.count) where lowercased(whole[start]) == first {
          var length = 1
          while length < part.count, lowercased(whole[start + length]) == lowercased(part[length]) { length += 1 }
          if length == part.count { return true }
        }
        return false
      }
    }
  }

  /// The text with its ASCII letters small.
  public static func lowercased(_ text: String) -> String {
    String(decoding: text.utf8.map(lowercased), as: UTF8.self)
  }

  private static func lowercased(_ byte: UInt8) -> UInt8 {
    (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
  }
}
