import JobletModel
import LocalStore
import LogStore

#if canImport(Glibc)
  import Glibc
#endif

// A log file: whole members are written, the file is damaged as the fuzzer says, and then it is opened, walked, read and
// recovered. Nothing may be given that was not written, numbers only rise, and a recovered file is sound.

private let folder = makeFolder()
private let job = JobID(high: 0x0190_0000_0000_7000, low: 0x8000_0000_0000_0001)
private let path = "\(folder)/logs/\(job)/stdout.log.gz"
/// Undamaged files: a small one, and one long enough for a skip pointer.
private let originals = [makeOriginal(members: 6), makeOriginal(members: 80)]

/// What was done to a file, the worst last.
private enum Damage: Int {
  /// Bytes have other values, or the end is gone: what disks and power cuts do.
  case inPlace
  /// Bytes were taken out or put in.
  case shifted
  /// A header says something else and its checksum holds: anything may come of it but a crash.
  case forged

  static func worst(_ a: Damage, _ b: Damage) -> Damage { a.rawValue < b.rawValue ? b : a }
}

/// A file's bytes, where its members begin, and its lines by number.
private struct Original {
  var file: [UInt8]
  var offsets: [Int]
  var lines: [[UInt8]: UInt64]
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  lookAtHeader(UnsafeRawBufferPointer(start: data, count: size))
  var choices = Choices(data, size)
  let original = originals[choices.byte() & 15 == 0 ? 1 : 0]
  var file: [UInt8]
  var damaged = Damage.inPlace
  if choices.byte() & 7 == 0 {
    file = Array(choices.rest)
    damaged = .forged
  } else {
    file = original.file
    for _ in 0..<(1 + choices.below(4)) where !file.isEmpty {
      damaged = .worst(damaged, damage(&file, original, &choices))
    }
  }
  put(file)
  do {
    let store = try LocalLogStore(logs: "\(folder)/logs", metrics: "\(folder)/metrics")
    try read(store, original, damaged)
    _ = try store.lastSeq(job, .stdout)
    let logFrom = UInt64(choices.byte())
    let cut = try store.recover(job, .stdout, logFrom: logFrom)
    let length = fileLength()
    require(length <= file.count, "recovering made the file longer")
    require(cut != nil || length == file.count, "recovering cut the file and does not say so")
    let last = try store.lastSeq(job, .stdout)
    try read(store, original, damaged)
    // A second look gives up no more lines, in a store that remembers nothing. (Damage that was left for readers to report
    // may now be the file's end, and go.)
    let again = try LocalLogStore(logs: "\(folder)/logs", metrics: "\(folder)/metrics")
    _ = try again.recover(job, .stdout, logFrom: logFrom)
    require(try again.lastSeq(job, .stdout) == last, "recovering twice gives another last line")
    // The next lines can be written and are read.
    if last < .max / 2 {
      try again.append([chunk(last + 1, "appended")], job: job, stream: .stdout)
      require(try again.lastSeq(job, .stdout) == last + 1, "an appended line is not the last one")
      let answer = try collect(again, LogQuery(job: job, stream: .stdout, after: last))
      require(
        answer.contains(line(last + 1, "appended")),
        "line \(last + 1) was appended and can't be read: \(answer.map { String(decoding: $0, as: UTF8.self) })")
    }
  } catch {
    require(!"\(error)".isEmpty, "an error without words")
  }
  return 0
}

/// A header that can be read says the same when it is written again.
private func lookAtHeader(_ bytes: UnsafeRawBufferPointer) {
  guard let header = MemberHeader(bytes) else { return }
  var again = [UInt8](repeating: 0, count: MemberHeader.byteCount)
  again.withUnsafeMutableBytes { header.encode(into: $0) }
  require(again.withUnsafeBytes { MemberHeader($0) } == header, "\(header) becomes another")
}

private func damage(_ file: inout [UInt8], _ original: Original, _ choices: inout Choices) -> Damage {
  let place = choices.below(file.count)
  switch choices.byte() % 6 {
  case 0: file[place] ^= choices.byte() | 1
  case 1: file.removeLast(file.count - place)
  case 2:
    file.removeSubrange(place..<min(file.count, place + 1 + choices.below(400)))
    return .shifted
  case 3:
    file.insert(contentsOf: file[place..<min(file.count, place + 1 + choices.below(400))], at: place)
    return .shifted
  case 4: for index in place..<min(file.count, place + 1 + choices.below(400)) { file[index] = 0 }
  default:
    // One field of a header gets another value, and the header a checksum that fits.
    let offset = original.offsets[choices.below(original.offsets.count)]
    guard offset + MemberHeader.byteCount <= file.count,
      var header = file.withUnsafeBytes({ MemberHeader(UnsafeRawBufferPointer(rebasing: $0[offset...])) })
    else { return .inPlace }
    let small = choices.byte() & 1 == 0
    let value = small ? UInt64(choices.below(2000)) : choices.number()
    switch choices.byte() % 8 {
    case 0: header.memberLength = value
    case 1: header.previousLength = value
    case 2: header.skip = value
    case 3: header.index = value
    case 4: header.count = UInt32(truncatingIfNeeded: value)
    case 5: header.jsonLength = UInt32(truncatingIfNeeded: value)
    case 6: header.firstSeq = value
    default: header.lastSeq = value
    }
    file.withUnsafeMutableBytes {
      header.encode(into: UnsafeMutableRawBufferPointer(rebasing: $0[offset..<(offset + MemberHeader.byteCount)]))
    }
    return .forged
  }
  return .inPlace
}

/// Every line there is; with damage alone each must be one that was written, and they rise.
private func read(_ store: LocalLogStore, _ original: Original, _ damage: Damage) throws {
  var last: UInt64 = 0
  let rising = try collect(store, LogQuery(job: job, stream: .stdout))
  let falling = try collect(store, LogQuery(job: job, stream: .stdout, order: .descending))
  guard damage != .forged else { return }
  require(
    damage == .shifted || rising == falling.reversed(), "forwards \(numbers(rising)), backwards \(numbers(falling))")
  for line in rising {
    guard let seq = original.lines[line] else {
      fatalError("a line that was never written: \(String(decoding: line, as: UTF8.self))")
    }
    require(seq > last, "line \(seq) stands behind line \(last)")
    last = seq
  }
}

private func numbers(_ lines: [[UInt8]]) -> String {
  lines.map { String(decoding: $0.dropFirst(7).prefix { $0 != 0x2C }, as: UTF8.self) }.joined(separator: " ")
}

private func collect(_ store: LocalLogStore, _ query: LogQuery) throws -> [[UInt8]] {
  let scanner = try LogScanner(query) { stream, range, order in [try store.pages(job, stream, range, order)] }
  var lines: [[UInt8]] = []
  var steps = 0
  while true {
    steps += 1
    require(steps < 100_000, "a query of a small file does not end")
    switch try scanner.next() {
    case .lines(_, let count, let bytes):
      let found = bytes.split(separator: 0x0A).map { Array($0) }
      require(found.count == count, "\(count) lines are said, \(found.count) are there")
      lines += found
    case .gap(let first, let last): require(first <= last, "a gap from \(first) to \(last)")
    case .working: continue
    case .end: return lines
    }
  }
}

private func line(_ seq: UInt64, _ text: String) -> [UInt8] {
  bytes(
    "{\"seq\":\(seq),\"ts\":\"\(Timestamp(nanoseconds: Int64(clamping: seq)))\",\"stream\":\"stdout\",\"line\":\"\(text)\"}"
  )
}

private func chunk(_ seq: UInt64, _ text: String) -> LogChunk {
  let info = LogChunkInfo(
    stream: .stdout, firstSeq: seq, count: 1, timestamp: Timestamp(nanoseconds: Int64(clamping: seq)), isPartial: false)
  return bytes(text + "\n").withUnsafeBytes { LogChunk(info, copying: $0) }
}

private func makeOriginal(members: Int) -> Original {
  do {
    unlink(path)
    let store = try LocalLogStore(logs: "\(folder)/logs", metrics: "\(folder)/metrics")
    var lines: [[UInt8]: UInt64] = [:]
    for member in 0..<members {
      // Numbers are left out now and then: they are the other stream's.
      let seqs = (0..<3).map { UInt64(member * 4 + $0 + 1) }
      try store.append(seqs.map { chunk($0, "text \($0)") }, job: job, stream: .stdout)
      for seq in seqs { lines[line(seq, "text \(seq)")] = seq }
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    var file = [UInt8](repeating: 0, count: fileLength())
    require(Glibc.read(descriptor, &file, file.count) == file.count, "can't read \(path)")
    var offsets: [Int] = []
    var offset = 0
    while offset < file.count {
      guard let header = file.withUnsafeBytes({ MemberHeader(UnsafeRawBufferPointer(rebasing: $0[offset...])) }) else {
        fatalError("no member at \(offset)")
      }
      offsets.append(offset)
      offset += Int(header.memberLength)
    }
    require(offsets.count == members, "\(offsets.count) members")
    return Original(file: file, offsets: offsets, lines: lines)
  } catch {
    fatalError("can't make the file to damage: \(error)")
  }
}

private func makeFolder() -> String {
  let parent = getenv("JOBLET_FUZZ_TMP").map { String(cString: $0) } ?? "/tmp"
  var template = Array("\(parent)/joblet-fuzz.XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else { fatalError("mkdtemp in \(parent): errno \(errno)") }
  let made = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  return made
}

private func fileLength() -> Int {
  var status = stat()
  return stat(path, &status) == 0 ? Int(status.st_size) : 0
}

private func put(_ bytes: [UInt8]) {
  let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  require(file >= 0 && write(file, bytes, bytes.count) == bytes.count, "can't write \(path): errno \(errno)")
  close(file)
}

func seeds() -> [[UInt8]] {
  var all: [[UInt8]] = [[1, 0] + originals[0].file]
  for operation in UInt8(0)..<6 {
    all.append([0, 1, 0, 0, 0, 0x20, 0x11, operation, operation, 1, 0, 0, 9, operation, 1, 1])
  }
  for field in UInt8(0)..<8 { all.append([0, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 40, 0, 0, 1, 0, field]) }
  return all
}
