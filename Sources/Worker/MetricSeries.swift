import JobletModel

/// A job's samples on their way to persist and its followers: numbers them, keeps what is not acknowledged, and says what
/// to write down so that a restarted exec goes on with the right number. Pure; confined to the supervisor's loop.
///
/// Memory is bounded by ``capacity``. While persist takes nothing, samples are taken ``backlogSpacing`` apart at least, so
/// that the bound holds for an hour; a persist that is away for longer loses the oldest ones. Lines are never treated so:
/// a job can be made to wait with its output, but not with the passing of time.
package struct MetricSeries: Sendable {
  package struct Entry: Hashable, Sendable {
    package var seq: UInt64
    package var time: Timestamp
    /// See ``Measurement/clock``.
    var clock: Int64
    /// JSON and its newline.
    package var line: [UInt8]
  }

  /// What is to be done with the job's file of samples before a sample is shown to anyone.
  package enum FileChange: Hashable, Sendable {
    case append([UInt8])
    case replace([UInt8])
  }

  package struct Addition: Hashable, Sendable {
    package var change: FileChange
    /// The unacknowledged samples that had to go to make room.
    package var lost: ClosedRange<UInt64>?
  }

  /// Some samples in a row.
  package struct Chunk: Hashable, Sendable {
    package var firstSeq: UInt64
    package var count: UInt32
    /// Of the last one.
    package var time: Timestamp
    package var lines: [UInt8]
  }

  package enum Reading: Hashable, Sendable {
    case chunk(Chunk)
    /// The samples after the cursor and below `oldest` are not here any more.
    case behind(oldest: UInt64)
    case nothing
  }

  /// The most samples that are kept for a persist that does not take them: ``freeBacklog`` and an hour's worth.
  package static let capacity = 800
  /// From so many unacknowledged samples on they are taken ``backlogSpacing`` apart.
  package static let freeBacklog = 80
  package static let backlogSpacing: Duration = .seconds(5)
  /// So many of the newest stay for followers, acknowledged or not.
  package static let kept = 4
  private static let chunkBytes = 64 << 10
  /// The file is written anew when so many of its lines, and more than half, are not needed any more.
  private static let deadLines = 64

  private var entries: [Entry] = []
  private var fileLines = 0
  /// The file ends in half a line.
  private var isTorn = false
  package private(set) var lastSeq: UInt64 = 0
  package private(set) var ackedSeq: UInt64 = 0
  private var sentSeq: UInt64 = 0
  /// What the CPU percentage of the next sample counts from.
  private var before: (cpu: Int64, clock: Int64)?

  package init() {}

  package var isSent: Bool { sentSeq >= lastSeq }
  package var isAcknowledged: Bool { ackedSeq >= lastSeq }
  private var backlog: Int { Int(lastSeq - min(ackedSeq, lastSeq)) }

  // MARK: Adding

  /// The command starts now, having used nothing.
  package mutating func start(clock: Int64) { before = (0, clock) }

  /// False if a sample at this moment would fill the queue too fast.
  package func wants(clock: Int64) -> Bool {
    guard backlog >= MetricSeries.freeBacklog, let last = entries.last else { return true }
    return clock - last.clock >= MetricSeries.backlogSpacing.nanoseconds
  }

  /// Gives a measurement its number.
  package mutating func add(_ measurement: Measurement) -> Addition {
    lastSeq += 1
    let sample = sample(measurement)
    before = measurement.figures.cpuMicroseconds.map { ($0, measurement.clock) }
    entries.append(
      Entry(seq: lastSeq, time: measurement.time, clock: measurement.clock, line: Array(sample.line.utf8)))
    var lost: ClosedRange<UInt64>?
    if entries.count > MetricSeries.capacity, let first = entries.first?.seq {
      entries.removeFirst()
      if first > ackedSeq { lost = first...first }
    }
    return Addition(change: fileChange(), lost: lost)
  }

  private func sample(_ measurement: Measurement) -> MetricSample {
    var sample = MetricSample(seq: lastSeq, ts: measurement.time)
    let figures = measurement.figures
    sample.cpuUsec = figures.cpuMicroseconds
    if let cpu = figures.cpuMicroseconds, let before, cpu >= before.cpu, measurement.clock > before.clock {
      // Microseconds of CPU for nanoseconds of time, as percent to two places.
      let percent = Double(cpu - before.cpu) * 100_000 / Double(measurement.clock - before.clock)
      sample.cpuPercent = (percent * 100).rounded() / 100
    }
    sample.memoryBytes = figures.memoryBytes
    sample.memoryPeakBytes = figures.memoryPeakBytes
    sample.ioReadBytes = figures.ioReadBytes
    sample.ioWriteBytes = figures.ioWrittenBytes
    sample.ioReadOps = figures.ioReads
    sample.ioWriteOps = figures.ioWrites
    sample.netRxBytes = measurement.network?.receivedBytes
    sample.netTxBytes = measurement.network?.sentBytes
    sample.pids = figures.pids
    sample.psiCPU = figures.cpuPressure
    sample.psiMemory = figures.memoryPressure
    sample.psiIO = figures.ioPressure
    return sample
  }

  // MARK: The file

  private mutating func fileChange() -> FileChange {
    fileLines += 1
    let dead = fileLines - entries.count
    guard isTorn || (dead > MetricSeries.deadLines && dead > entries.count) else {
      return .append(MetricSeries.fileLine(entries[entries.count - 1]))
    }
    isTorn = false
    fileLines = entries.count
    return .replace(entries.flatMap(MetricSeries.fileLine))
  }

  /// The clock, a space, the sample's line.
  private static func fileLine(_ entry: Entry) -> [UInt8] { Array("\(entry.clock) ".utf8) + entry.line }

  /// The file could not be written: the next change puts down everything.
  package mutating func fileFailed() { isTorn = true }

  /// Goes on where the exec before was cut off. Samples that persist acknowledged to it go out once more, and are absorbed.
  /// - Throws: ``MetricFileDamage`` if the file can't be what an exec wrote. Half a last line is no damage: it was being
  ///   written when exec was killed, and nobody has seen it.
  package init(file: UnsafeRawBufferPointer) throws(MetricFileDamage) {
    var start = 0
    while let end = file[start...].firstIndex(of: UInt8(ascii: "\n")) {
      let line = UnsafeRawBufferPointer(rebasing: file[start...end])
      fileLines += 1
      guard let entry = MetricSeries.entry(line), lastSeq == 0 || entry.seq == lastSeq + 1 else {
        throw MetricFileDamage(line: fileLines)
      }
      lastSeq = entry.seq
      entries.append(entry)
      start = end + 1
    }
    isTorn = start < file.count
    guard let first = entries.first, let last = entries.last else { return }
    ackedSeq = first.seq - 1
    sentSeq = ackedSeq
    if entries.count > MetricSeries.capacity { entries.removeFirst(entries.count - MetricSeries.capacity) }
    before = last.line.withUnsafeBytes { MetricSeries.cpu(in: $0) }.map { ($0, last.clock) }
  }

  private static func entry(_ line: UnsafeRawBufferPointer) -> Entry? {
    guard let space = line.firstIndex(of: UInt8(ascii: " ")), let clock = number(line[..<space]) else { return nil }
    let json = line[(space + 1)...]
    let prefix = Array("{\"seq\":".utf8)
    guard json.starts(with: prefix), let comma = json.firstIndex(of: UInt8(ascii: ",")),
      let seq = number(json[(json.startIndex + prefix.count)..<comma]), seq > 0
    else { return nil }
    let key = Array(",\"ts\":\"".utf8)
    let rest = json[comma...]
    guard rest.starts(with: key), rest.count > key.count + Timestamp.textLength,
      rest.dropLast().last == UInt8(ascii: "}")
    else { return nil }
    let text = rest.dropFirst(key.count).prefix(Timestamp.textLength)
    guard let time = Timestamp(rfc3339: String(decoding: text, as: UTF8.self)) else { return nil }
    return Entry(seq: UInt64(seq), time: time, clock: clock, line: Array(json))
  }

  private static func number(_ digits: Slice<UnsafeRawBufferPointer>) -> Int64? {
    Int64(String(decoding: digits.prefix(20), as: UTF8.self)).flatMap { $0 >= 0 ? $0 : nil }
  }

  /// `cpu_usec` of a line.
  private static func cpu(in line: UnsafeRawBufferPointer) -> Int64? {
    let key = Array("\"cpu_usec\":".utf8)
    for field in line.split(separator: UInt8(ascii: ",")) where field.starts(with: key) {
      return number(field.dropFirst(key.count).prefix { $0 != UInt8(ascii: "}") })
    }
    return nil
  }

  // MARK: To persist

  /// The next samples for persist, or nil.
  package mutating func nextToSend() -> Chunk? {
    guard let chunk = chunk(after: sentSeq, maxBytes: MetricSeries.chunkBytes) else { return nil }
    sentSeq = chunk.firstSeq + UInt64(chunk.count) - 1
    return chunk
  }

  /// persist has written every sample up to `seq`.
  package mutating func acknowledge(_ seq: UInt64) {
    ackedSeq = max(ackedSeq, min(seq, sentSeq))
    let spare = entries.count - MetricSeries.kept
    guard spare > 0 else { return }
    entries.removeFirst(entries.prefix(spare).prefix { $0.seq <= ackedSeq }.count)
  }

  /// The connection is gone: what was sent and not acknowledged goes out again.
  package mutating func rewind() { sentSeq = ackedSeq }

  /// Nobody stores this job's samples: only the newest stay, for those who follow now.
  package mutating func letGo() {
    sentSeq = lastSeq
    acknowledge(lastSeq)
  }

  // MARK: To followers

  /// The samples after `after`: as many as fit in `maxBytes`, and at least one.
  package func read(after: UInt64, maxBytes: Int) -> Reading {
    guard lastSeq > after, let first = entries.first?.seq else { return .nothing }
    guard first <= after + 1 else { return .behind(oldest: first) }
    return chunk(after: after, maxBytes: maxBytes).map { .chunk($0) } ?? .nothing
  }

  private func chunk(after: UInt64, maxBytes: Int) -> Chunk? {
    guard lastSeq > after, let first = entries.first?.seq else { return nil }
    let start = after >= first ? Int(after + 1 - first) : 0
    var chunk = Chunk(firstSeq: entries[start].seq, count: 0, time: entries[start].time, lines: [])
    for entry in entries[start...] {
      guard chunk.count == 0 || chunk.lines.count + entry.line.count <= maxBytes else { break }
      chunk.count += 1
      chunk.time = entry.time
      chunk.lines += entry.line
    }
    return chunk
  }
}

/// A job's file of samples is not what an exec wrote.
package struct MetricFileDamage: Error, Hashable, CustomStringConvertible {
  /// Counted from 1.
  package var line: Int
  package var description: String { "line \(line) of the job's file of samples is not a sample, or not the next one" }
}

extension Duration {
  /// Whole nanoseconds.
  var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
  }
}
