import JobletClient
import JobletModel

/// Finds the job whose ID begins as a user typed it.
public enum JobLookup {
  /// Shorter beginnings are more likely a slip than an ID.
  public static let shortest = 4
  /// Pages of jobs that contain the text anywhere, looked through at most.
  static let mostPages = 100

  public static func resolve(_ text: String, in client: JobletClient) async throws -> JobID {
    if let id = JobID(text) { return id }
    let prefix = text.lowercased()
    guard isPrefix(prefix) else {
      throw Failure(
        "'\(text.prefix(100))' is not a job's ID",
        why: "an ID is a UUID; at least its first \(shortest) characters are needed, of 0-9, a-f and -",
        next: "'rnx job list' shows the IDs")
    }
    var found: [JobID] = []
    var cursor: String?
    for _ in 0..<mostPages {
      let page = try await client.jobs(JobListRequest(text: prefix), limit: 1000, cursor: cursor)
      found += page.jobs.map(\.id).filter { $0.description.hasPrefix(prefix) }
      cursor = page.nextCursor
      if cursor == nil || found.count > 5 { break }
    }
    return try choose(found, prefix)
  }

  package static func isPrefix(_ text: String) -> Bool {
    (shortest..<36).contains(text.utf8.count)
      && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) || $0 == UInt8(ascii: "-") }
  }

  package static func choose(_ found: [JobID], _ prefix: String) throws -> JobID {
    if found.count == 1 { return found[0] }
    if found.isEmpty {
      throw Failure(
        "there is no job '\(prefix)'", why: "no job's ID begins so; it may have been deleted",
        next: "'rnx job list' shows the jobs there are")
    }
    throw Failure(
      "'\(prefix)' is not clear",
      why: "it is the beginning of \(found.prefix(5).map(\.description).joined(separator: ", "))",
      next: "give more of the ID")
  }
}
