import FoundationEssentials
import JobletModel
import NIOCore

/// Some of the store's ended jobs that a follower of events wants.
struct StoredPage: Sendable {
  /// Records as JSON without a newline.
  var jobs: [ByteBuffer]
  /// How many there were before those that are not wanted were left out.
  var lookedAt: Int
  /// Where the next page begins; nil if there is none.
  var next: JobID?
}

extension EventFollower {
  /// Looks through one page of the store. The connection's loop serves others between two records.
  /// - Throws: ``JobletModel/Problem``, or what the store sent can't be read.
  func storedPage(_ query: RecordQuery, endedSince from: Timestamp, but known: Set<JobID>) async throws -> StoredPage {
    let (source, filter) = (source, parameters.filter)
    return try await source.turnstile.pass {
      let page = try await source.directory.ask(query)
      var wanted: [ByteBuffer] = []
      for job in page.jobs where !known.contains(job.id) && source.view.record(job.id) == nil {
        await Task.yield()
        let record = try JSONDecoder().decode(JobRecord.self, from: Data(job.json.readableBytesView))
        guard let endedAt = record.endedAt, endedAt >= from, filter.matches(record) else { continue }
        wanted.append(job.json)
      }
      return StoredPage(jobs: wanted, lookedAt: page.jobs.count, next: page.next)
    }
  }
}
