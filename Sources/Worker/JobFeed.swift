import JobletModel

/// What one job still has to tell persist: its newest record, its lines, its samples, its end. Confined to the link's loop.
///
/// The order on the connection is: records of a job that goes on at any time; lines and samples; then `end`; then the record
/// of the ended job. So whoever sees that record in persist can read all of the output, and the last sample.
package final class JobFeed {
  package let job: JobID
  package var consumer: RingConsumer?
  package var metrics = MetricSeries()
  /// The newest record, encoded once; an older one that was not sent yet is superseded by it.
  private(set) var record: [UInt8] = []
  private(set) var recordVersion: UInt64 = 0
  private(set) var isFinal = false
  /// The number of the last line, once it is certain that no more come.
  private(set) var endSeq: UInt64?

  private(set) var sentVersion: UInt64 = 0
  private(set) var ackedVersion: UInt64 = 0
  private(set) var isEndSent = false
  private(set) var isEndAcked = false
  /// True while the feed stands in the link's queue.
  var isQueued = false

  package init(job: JobID, consumer: RingConsumer? = nil) {
    self.job = job
    self.consumer = consumer
  }

  /// True when persist has acknowledged the last record and everything before it.
  package var isSettled: Bool { isFinal && isEndAcked && ackedVersion >= recordVersion && metrics.isAcknowledged }

  /// True if a record, lines, samples or the end can be sent now.
  var hasWork: Bool {
    if isRecordDue || isEndDue || !metrics.isSent { return true }
    return consumer.map { !$0.isSent } ?? false
  }

  var isRecordDue: Bool { recordVersion > sentVersion && (!isFinal || isEndSent) }
  var isEndDue: Bool { endSeq != nil && !isEndSent && metrics.isSent && (consumer?.isSent ?? true) }

  /// A new state of the job. `isFinal` for an ended one, which goes out after the end.
  package func setRecord(_ encoded: [UInt8], version: UInt64, isFinal: Bool) {
    record = encoded
    recordVersion = version
    self.isFinal = isFinal
  }

  /// No more lines will come after `seq`, and no more samples.
  package func setEnd(after seq: UInt64) { endSeq = seq }

  func noteRecordSent() { sentVersion = recordVersion }
  func noteEndSent() { isEndSent = true }

  /// A new connection starts from what was acknowledged; every record goes out again, for persist may have lost what it
  /// acknowledged under a lax sync policy. Records are idempotent.
  func rewind() {
    consumer?.rewind()
    metrics.rewind()
    sentVersion = 0
    isEndSent = false
  }

  func acknowledgeRecord(_ version: UInt64) { ackedVersion = max(ackedVersion, min(version, sentVersion)) }
  func acknowledgeEnd() { if isEndSent { isEndAcked = true } }
}
