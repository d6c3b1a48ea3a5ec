import JobletModel
import JobletWire
import LogStore
import Synchronization

/// What persist counts since its start. A batch, a seal, a sync or a query adds to it, never a line; adding takes no lock.
package final class Statistics: Sendable {
  /// Log lines, metrics samples and job records that were news, and the batches they came in.
  package let lines = Atomic<UInt64>(0)
  package let samples = Atomic<UInt64>(0)
  package let records = Atomic<UInt64>(0)
  package let batches = Atomic<UInt64>(0)
  /// Bytes of the frames in those batches.
  package let bytes = Atomic<UInt64>(0)
  /// Lines and samples that were here before: a sender that lost its connection sends again.
  package let duplicates = Atomic<UInt64>(0)
  /// Frames that were refused because lines before them are missing.
  package let gaps = Atomic<UInt64>(0)
  /// Lines and samples that will never be stored: neither their sender nor persist has them.
  package let dropped = Atomic<UInt64>(0)
  /// gzip members written to files, the lines and samples in them, and the bytes they take there.
  package let members = Atomic<UInt64>(0)
  package let sealedLines = Atomic<UInt64>(0)
  package let sealedBytes = Atomic<UInt64>(0)
  /// ``lines`` and ``samples`` that are synced: in the write-ahead log, or in their files.
  package let durable = Atomic<UInt64>(0)
  /// Write connections that are open.
  package let connections = Atomic<Int>(0)
  /// Jobs and bytes that retention removed.
  package let sweptJobs = Atomic<UInt64>(0)
  package let sweptBytes = Atomic<UInt64>(0)

  /// Syncs of the write-ahead log, and of the files of jobs.
  package let logSyncs = Histogram()
  package let fileSyncs = Histogram()
  private let queries = Mutex<[FrameType: Histogram]>([:])

  package init() {}

  /// The histogram of one type of query: from the request's arrival until the last byte of its answer is with the kernel.
  package func queries(_ type: FrameType) -> Histogram {
    queries.withLock { queries in
      if let known = queries[type] { return known }
      let new = Histogram()
      queries[type] = new
      return new
    }
  }

  /// Log lines and samples taken in.
  var accepted: UInt64 { lines.load(ordering: .relaxed) + samples.load(ordering: .relaxed) }

  /// Counts what a plan found; before anything of it is written.
  func count(_ plan: BatchPlan) {
    if plan.duplicates > 0 { duplicates.wrappingAdd(plan.duplicates, ordering: .relaxed) }
    if plan.refused != nil { gaps.wrappingAdd(1, ordering: .relaxed) }
  }

  /// Counts a batch that was written.
  func count(batch parts: [UnsafeRawBufferPointer]) {
    batches.wrappingAdd(1, ordering: .relaxed)
    bytes.wrappingAdd(UInt64(parts.reduce(0) { $0 + $1.count }), ordering: .relaxed)
  }

  /// Counts what a seal wrote.
  func count(sealed chunks: [LogChunk], _ written: LogAppended) {
    members.wrappingAdd(written.members, ordering: .relaxed)
    sealedBytes.wrappingAdd(written.bytes, ordering: .relaxed)
    sealedLines.wrappingAdd(chunks.reduce(0) { $0 + UInt64($1.info.count) }, ordering: .relaxed)
  }

  /// Values that are read off when someone asks.
  package struct Gauges: Sendable {
    package var backend = ""
    package var isSyncing = true
    package var sealQueue = 0
    package var jobs = 0
    package var unsealedBytes = 0
    package var unsealedLines: UInt64 = 0
    package var logBytes = 0
    package var freeBytes: Int64?
    package var floor: Int64 = 0
    package var condition = StoreCondition.good
    package init() {}
  }

  /// Everything as Prometheus text.
  package func text(_ gauges: Gauges) -> String {
    var out = PrometheusText(prefix: "joblet_persist_")
    func load(_ counter: borrowing Atomic<UInt64>) -> UInt64 { counter.load(ordering: .relaxed) }
    out.metric("info", .gauge, "What runs; always 1.")
    out.sample("info", ["version": jobletVersion, "backend": gauges.backend], 1)
    out.counter("lines_total", "Log lines taken in.", load(lines))
    out.counter("samples_total", "Metrics samples taken in.", load(samples))
    out.counter("records_total", "Versions of job records taken in.", load(records))
    out.counter("batches_total", "Batches written to the write-ahead log.", load(batches))
    out.counter("bytes_total", "Bytes of frames written to the write-ahead log.", load(bytes))
    out.counter("duplicates_total", "Lines and samples that came again and were absorbed.", load(duplicates))
    out.counter("gaps_total", "Frames refused because lines before them were missing.", load(gaps))
    out.counter(
      "dropped_lines_total", "Lines and samples that are lost: not stored, and their sender has them no more.",
      load(dropped))
    out.counter("members_total", "gzip members written to files of jobs.", load(members))
    out.counter("sealed_lines_total", "Lines and samples in those members.", load(sealedLines))
    out.counter("sealed_bytes_total", "Bytes those members take.", load(sealedBytes))
    out.counter("swept_jobs_total", "Jobs whose data retention removed.", load(sweptJobs))
    out.counter("swept_bytes_total", "Bytes of files that retention removed.", load(sweptBytes))
    out.histogram(
      "fsync_seconds", "Syncs to disk: of the write-ahead log (wal) and of files of jobs (files).", label: "of",
      [("wal", logSyncs.counts), ("files", fileSyncs.counts)])
    out.histogram(
      "query_seconds", "Queries by type, until the last byte of the answer is sent.", label: "type",
      queries.withLock { $0 }.map { ("\($0.key)", $0.value.counts) }.sorted { $0.0 < $1.0 })
    write(gauges, &out)
    return out.text
  }

  private func write(_ gauges: Gauges, _ out: inout PrometheusText) {
    out.gauge("write_connections", "Open connections of writers.", connections.load(ordering: .relaxed))
    out.gauge("jobs", "Jobs that persist holds in memory: those that write, and those not yet sealed.", gauges.jobs)
    out.gauge("seal_queue_jobs", "Jobs that wait for a thread to seal them.", gauges.sealQueue)
    out.gauge("unsealed_bytes", "Memory held by lines that are not in files yet.", gauges.unsealedBytes)
    out.gauge(
      "unsealed_lines", "Lines and samples that are acknowledged or about to be, and not in files yet.",
      gauges.unsealedLines)
    out.gauge("wal_bytes", "Size of the write-ahead log.", gauges.logBytes)
    if gauges.isSyncing {
      let (all, durable) = (accepted, durable.load(ordering: .relaxed))
      out.gauge(
        "unsynced_lines", "Lines and samples taken in that a power cut may still lose (not known under fsync: never).",
        all - min(all, durable))
    }
    if let free = gauges.freeBytes {
      out.gauge("free_bytes", "Free bytes where persist writes, on the fullest of its file systems.", free)
    }
    out.gauge("floor_bytes", "persist.retention.min_free: below it new jobs are refused.", gauges.floor)
    out.gauge(
      "accepts_jobs", "1 while persist takes on new jobs, 0 while it refuses them.",
      gauges.condition.acceptsJobs ? 1 : 0)
  }
}
