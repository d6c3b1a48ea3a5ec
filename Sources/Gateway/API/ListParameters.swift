import JobletModel

/// What `GET /v1/jobs` was asked for.
public enum ListParameters {
  /// What says which jobs are meant.
  public static let conditions = ["status", "since", "until", "q"]
  public static let names = conditions + ["limit", "cursor"]

  /// - Parameter names: those that are known here.
  /// - Throws: ``JobletModel/Problem`` naming the parameter and what is allowed.
  public static func query(
    _ target: RequestTarget, names: [String] = ListParameters.names, now: Timestamp = .now()
  ) throws(Problem) -> RecordQuery {
    let reader = try QueryReader(target, known: names)
    let statuses = JobStatus.allCases.map(\.rawValue).joined(separator: ", ")
    var query = RecordQuery()
    query.statuses = try reader.value("status", "one or more of \(statuses), with commas between") { text in
      let names = text.split(separator: ",", omittingEmptySubsequences: false)
      let known = names.compactMap { JobStatus(rawValue: $0.uppercased()) }
      return known.count == names.count ? known : nil
    }
    query.since = try reader.value("since", TimeText.allowed) { TimeText.parse($0, now: now) }
    query.until = try reader.value("until", TimeText.allowed) { TimeText.parse($0, now: now) }
    let textRange = RecordQuery.textRange
    query.text = try reader.value("q", "\(textRange.lowerBound) to \(textRange.upperBound) bytes") { text in
      textRange.contains(text.utf8.count) ? text : nil
    }
    query.before = try reader.value("cursor", "the next_cursor of an earlier reply") { Cursor.decode($0) }
    query.limit = try reader.number("limit", RecordQuery.limitRange) ?? 100
    return query
  }
}
