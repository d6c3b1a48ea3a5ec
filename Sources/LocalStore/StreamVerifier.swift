import Glibc
import JobletModel
import LogStore

extension LocalLogStore {
  /// Checks everything of a job: each file as ``verify(_:_:)`` does, and that no number is missing. What can't be read is a
  /// fault of its own and hides nothing else. Nil if there is nothing of the job.
  ///
  /// Reads all of it, and changes nothing; the daemon may go on writing meanwhile.
  public func verify(_ job: JobID) throws -> JobReport? {
    guard try contains(job) else { return nil }
    var report = JobReport(job: job, streams: [])
    for stream in StoredStream.allCases {
      do throws(LocalStoreError) {
        if let found = try verify(job, stream) { report.streams.append(found) }
      } catch {
        var unreadable = StreamReport(stream, path: "\(root(stream).descriptor.path)/\(job)/\(LogFile.name(stream))")
        unreadable.add(.unreadable, at: 0, error.description)
        report.streams.append(unreadable)
      }
    }
    let readable = report.streams.filter { !$0.faults.contains { $0.kind == .unreadable } }.map(\.stream)
    try report.findMissing(readable) { [try pages(job, $0, $1, $2)] }
    return report
  }

  /// Checks one file: the chain of headers, every member's checksum, and every line in it. Nil if there is no such file.
  /// - Throws: if something else stands in its place, or it can't be read.
  public func verify(_ job: JobID, _ stream: StoredStream) throws(LocalStoreError) -> StreamReport? {
    guard let directory = try root(stream).directory(job),
      let file = try Descriptor.open(LogFile.name(stream), in: directory, flags: O_RDONLY)
    else { return nil }
    var verifier = try StreamVerifier(file, stream)
    return try verifier.run()
  }
}

/// Walks one file and compares what is there with what is said of it.
private struct StreamVerifier {
  private let file: Descriptor
  private let stream: StoredStream
  private let length: UInt64
  private let reader = MemberReader()
  private var report: StreamReport
  /// The member right before, nil behind damage.
  private var before: MemberPlace?
  /// Where the last member with an index that is a multiple of 64 begins, if no damage lies between.
  private var landmark: MemberPlace?
  private var lastSeq: UInt64 = 0
  private var latest = Timestamp(nanoseconds: .min)
  private var isInOrderOfTime = true
  private var sawDamage = false

  init(_ file: Descriptor, _ stream: StoredStream) throws(LocalStoreError) {
    self.file = file
    self.stream = stream
    length = try file.fileLength()
    report = StreamReport(stream, path: file.path)
    report.fileBytes = length
  }

  mutating func run() throws(LocalStoreError) -> StreamReport {
    var walk = MemberWalk(file, length: length)
    while true {
      switch try walk.next() {
      case .searching: continue
      case .member(let place):
        checkChain(place)
        try checkLines(place)
        before = place
      case .damage(let first, let last, let offset):
        report.add(
          .damage, at: offset, "no member begins here; lines \(first) to \(last) are lost, as far as they were here")
        (before, landmark, sawDamage) = (nil, nil, true)
      case .end(let offset):
        report.tornBytes = length - offset
        if report.members == 0, length > 0, try MemberScan.isForeign(file) { throw .foreign(path: file.path) }
        return report
      }
    }
  }

  private mutating func checkChain(_ place: MemberPlace) {
    let header = place.header
    func wrong(_ what: String) { report.add(.header, at: place.offset, what) }
    if header.stream != stream { wrong("it says it is of \(header.stream.name)") }
    if let before {
      if before.end != place.offset {
        let detail =
          place.offset < before.end
          ? "the member before this one reaches into it: bytes of it are gone"
          : "\(place.offset - before.end) bytes between members are none"
        report.add(.damage, at: min(place.offset, before.end), detail)
        (self.before, landmark, sawDamage) = (nil, nil, true)
      } else {
        if header.previousLength != before.header.memberLength {
          wrong("it says the member before has \(header.previousLength) bytes; it has \(before.header.memberLength)")
        }
        if header.index != before.header.index + 1 {
          wrong("it says it is member \(header.index); it is \(before.header.index + 1)")
        }
      }
    } else if place.offset == 0, header.index != 0 || header.previousLength != 0 {
      wrong("it is the file's first, and says it is member \(header.index)")
    } else if place.offset > 0, report.members == 0, !sawDamage {
      report.add(.damage, at: 0, "\(place.offset) bytes before the first member are none")
      sawDamage = true
    }
    checkSkip(place)
    if header.firstSeq <= lastSeq {
      report.add(.order, at: place.offset, "it begins with line \(header.firstSeq), behind line \(lastSeq)")
    }
    isInOrderOfTime = isInOrderOfTime && header.earliest >= latest
    if header.flags.contains(.inOrderOfTime), !isInOrderOfTime, !sawDamage {
      wrong("it says times run forward up to it; they do not")
    }
    latest = header.latest
    lastSeq = max(lastSeq, header.lastSeq)
    report.members += 1
    report.seqs = min(report.seqs?.lowerBound ?? .max, header.firstSeq)...lastSeq
  }

  private mutating func checkSkip(_ place: MemberPlace) {
    let header = place.header
    guard header.index % MemberHeader.skipInterval == 0 else {
      if header.skip != 0 { report.add(.header, at: place.offset, "it has a skip pointer, and is no 64th member") }
      return
    }
    if let landmark {
      let expected = place.offset - landmark.offset
      if header.skip != expected {
        report.add(
          .header, at: place.offset, "its skip pointer says \(header.skip) bytes; 64 members back is \(expected) bytes")
      }
    } else if report.members == 0, !sawDamage, header.skip != 0 {
      report.add(.header, at: place.offset, "it is the file's first, and has a skip pointer")
    }
    landmark = place
  }

  private mutating func checkLines(_ place: MemberPlace) throws(LocalStoreError) {
    let header = place.header
    guard let page = try reader.read(file, at: place.offset, header) else {
      report.add(
        .checksum, at: place.offset, "lines \(header.firstSeq) to \(header.lastSeq) can't be read: the data is damaged")
      return
    }
    report.jsonBytes += UInt64(page.count)
    var check = LineBounds(header)
    var position = 0
    while position < page.count {
      let rest = UnsafeRawBufferPointer(rebasing: page[position...])
      let end = position + (rest.firstNewline.map { $0 + 1 } ?? rest.count)
      let bytes = UnsafeRawBufferPointer(rebasing: page[position..<end])
      position = end
      if let fault = check.take(StoredLine(bytes, of: stream)) {
        report.add(fault.kind, at: place.offset, fault.detail)
      }
    }
    report.lines += check.lines
    for fault in check.finish() { report.add(.header, at: place.offset, fault) }
    if let times = check.times {
      report.times =
        min(
          report.times?.lowerBound ?? times.lowerBound, times.lowerBound)...max(
          report.times?.upperBound ?? times.upperBound, times.upperBound)
    }
  }
}

/// Compares a member's lines with its header.
private struct LineBounds {
  private let header: MemberHeader
  private let earliest: String
  private let latest: String
  private(set) var lines: UInt64 = 0
  private var firstSeq: UInt64?
  private var lastSeq: UInt64 = 0
  private var low: String?
  private var high: String?
  private var hasBase64 = false

  init(_ header: MemberHeader) {
    self.header = header
    earliest = header.earliest.description
    latest = header.latest.description
  }

  var times: ClosedRange<Timestamp>? {
    guard let low = low.flatMap({ Timestamp(rfc3339: $0) }), let high = high.flatMap({ Timestamp(rfc3339: $0) }),
      low <= high
    else { return nil }
    return low...high
  }

  mutating func take(_ line: StoredLine?) -> (kind: StreamFault.Kind, detail: String)? {
    lines += 1
    guard let line else { return (.line, "record \(lines) of the member is no line of \(header.stream.name)") }
    defer { lastSeq = max(lastSeq, line.seq) }
    if firstSeq == nil { firstSeq = line.seq }
    low = min(low ?? line.timestamp, line.timestamp)
    high = max(high ?? line.timestamp, line.timestamp)
    if line.isBase64 { hasBase64 = true }
    if line.seq <= lastSeq { return (.order, "line \(line.seq) comes behind line \(lastSeq)") }
    if line.timestamp < earliest || line.timestamp > latest {
      return (.header, "line \(line.seq) is of \(line.timestamp); the header says \(earliest) to \(latest)")
    }
    return nil
  }

  func finish() -> [String] {
    var faults: [String] = []
    if lines != UInt64(header.count) { faults.append("it says \(header.count) lines; there are \(lines)") }
    if firstSeq != header.firstSeq || lastSeq != header.lastSeq {
      faults.append("it says lines \(header.firstSeq) to \(header.lastSeq); there are \(firstSeq ?? 0) to \(lastSeq)")
    }
    if header.flags.contains(.isPlain), hasBase64 { faults.append("it says no line is base64; one is") }
    return faults
  }
}
