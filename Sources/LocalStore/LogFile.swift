import Glibc
import JobletModel
import LogStore

/// The writing end of one log file: what must be known to append the next member.
struct LogFile {
  private let name: String
  private let stream: StoredStream
  /// Bytes of whole members.
  private(set) var length: UInt64 = 0
  private var nextIndex: UInt64 = 0
  private var previousLength: UInt64 = 0
  /// Where the last member with an index that is a multiple of 64 begins; nil if damage hides it.
  private var skipOrigin: UInt64?
  private(set) var lastSeq: UInt64 = 0
  /// The latest time of the last member, and whether times ran forward all the way to it.
  private var latest = Timestamp(nanoseconds: .min)
  private var isInOrderOfTime = true
  /// Open from the first append to the sync that covers it, so that a write error can't go unseen between the two.
  private var unsynced: Descriptor?
  private var isNew = false
  /// The file that all this was learned of.
  private var identity: FileIdentity?

  /// JSON after which a member ends.
  static let memberSize = 256 << 10

  static func name(_ stream: StoredStream) -> String {
    stream == .metrics ? "metrics.jsonl.gz" : "\(stream.name).log.gz"
  }

  init(_ stream: StoredStream, in directory: Descriptor?) throws(LocalStoreError) {
    self.stream = stream
    name = LogFile.name(stream)
    guard let directory, let file = try Descriptor.open(name, in: directory, flags: O_RDONLY) else { return }
    try load(file)
  }

  var isUnsynced: Bool { unsynced != nil }

  private mutating func load(_ file: Descriptor) throws(LocalStoreError) {
    let size = try file.fileLength()
    identity = FileIdentity(try file.status())
    guard size > 0 else { return }
    if case .found(let last) = try MemberScan.backward(file, before: size, bound: size) {
      try stand(behind: last, file)
      return
    }
    // No member near the end: a walk tells where the sound part ends.
    var walk = MemberWalk(file, length: size)
    var last: MemberPlace?
    while true {
      switch try walk.next() {
      case .member(let place): last = place
      case .damage, .searching: continue
      case .end:
        if let last {
          try stand(behind: last, file)
        } else if try MemberScan.isForeign(file) {
          throw .foreign(path: file.path)
        }
        return
      }
    }
  }

  /// Takes a member as the file's last.
  private mutating func stand(behind place: MemberPlace, _ file: Descriptor) throws(LocalStoreError) {
    let header = place.header
    length = place.end
    nextIndex = header.index + 1
    previousLength = header.memberLength
    lastSeq = header.lastSeq
    latest = header.latest
    isInOrderOfTime = header.flags.contains(.inOrderOfTime)
    // Back to the last multiple of 64; a damaged neighbour on the way ends the chain, and the next link starts anew.
    let chain = MemberChain(file: file, length: length)
    var current = place
    while current.header.index % MemberHeader.skipInterval != 0 {
      guard let before = try chain.before(current) else {
        skipOrigin = nil
        return
      }
      current = before
    }
    skipOrigin = current.offset
  }

  /// Appends lines as one member or several. A failure leaves the file's whole members as they were.
  mutating func append(_ chunks: [LogChunk], with writer: MemberWriter, in directory: Descriptor)
    throws(LocalStoreError) -> LogAppended
  {
    guard let first = chunks.first else { return LogAppended() }
    let file = try openForAppend(in: directory)
    guard first.info.firstSeq > lastSeq else {
      throw .outOfOrder("\(directory.path)/\(name) ends at line \(lastSeq); line \(first.info.firstSeq) can't follow")
    }
    let before = self
    do {
      var start = 0
      while start < chunks.count {
        var end = start
        writer.lines.removeAll()
        while end < chunks.count, end == start || writer.lines.count < LogFile.memberSize {
          chunks[end].encode(into: &writer.lines)
          end += 1
        }
        try appendMember(LogPageInfo(summary: chunks[start..<end]), writer, file)
        start = end
      }
      return LogAppended(members: nextIndex - before.nextIndex, bytes: length - before.length)
    } catch {
      self = before
      unsynced = file
      // What half arrived must not stand between whole members. Should this fail too, the next append writes over it.
      do throws(LocalStoreError) { try file.truncate(to: length) } catch {}
      throw error
    }
  }

  private mutating func openForAppend(in directory: Descriptor) throws(LocalStoreError) -> Descriptor {
    if let unsynced { return unsynced }
    guard let file = try Descriptor.open(name, in: directory, flags: O_RDWR | O_CREAT) else {
      throw .system(call: "create", path: "\(directory.path)/\(name)", errno: ENOENT)
    }
    let size = try file.fileLength()
    let found = FileIdentity(try file.status())
    if found != identity || size < length {
      // A new file, or someone removed, replaced or emptied it: what stands there now counts. The numbers go on.
      var fresh = LogFile(empty: stream)
      try fresh.load(file)
      fresh.lastSeq = max(fresh.lastSeq, lastSeq)
      fresh.isNew = true
      self = fresh
    }
    if size > length { try file.truncate(to: length) }
    unsynced = file
    return file
  }

  private mutating func appendMember(_ info: LogPageInfo, _ writer: MemberWriter, _ file: Descriptor)
    throws(LocalStoreError)
  {
    let isLandmark = nextIndex % MemberHeader.skipInterval == 0
    let isInOrder = isInOrderOfTime && info.earliest >= latest
    var flags: MemberFlags = isInOrder ? .inOrderOfTime : []
    if !writer.lines.hasBase64 { flags.insert(.isPlain) }
    let draft = MemberHeader(
      stream: stream, memberLength: 0, previousLength: previousLength,
      skip: isLandmark ? skipOrigin.map { length - $0 } ?? 0 : 0, index: nextIndex, count: UInt32(info.count),
      jsonLength: 0, firstSeq: info.firstSeq, lastSeq: info.lastSeq, earliest: info.earliest, latest: info.latest,
      flags: flags)
    let (bytes, header) = try writer.finish(draft)
    try file.write(bytes, at: length)
    if isLandmark { skipOrigin = length }
    length += header.memberLength
    previousLength = header.memberLength
    nextIndex += 1
    lastSeq = header.lastSeq
    latest = header.latest
    isInOrderOfTime = isInOrder
  }

  /// Makes what was appended safe. True if the file is new, so that its directory must be synced too.
  mutating func sync() throws(LocalStoreError) -> Bool {
    guard let file = unsynced else { return false }
    try file.syncData()
    unsynced = nil
    defer { isNew = false }
    return isNew
  }

  /// All that was appended is safe, and so is the directory.
  mutating func noteSynced() {
    unsynced = nil
    isNew = false
  }

  /// See ``LogStore/recover(_:_:logFrom:)``.
  mutating func recover(logFrom: UInt64, in directory: Descriptor?) throws(LocalStoreError) -> LogCut? {
    guard let directory, let file = try Descriptor.open(name, in: directory, flags: O_RDWR) else { return nil }
    let size = try file.fileLength()
    let end = try wholeEnd(file, size: size, logFrom: logFrom)
    guard end < size else { return nil }
    if end == 0, try MemberScan.isForeign(file) { throw .foreign(path: file.path) }
    try file.truncate(to: end)
    self = LogFile(empty: stream)
    try load(file)
    return LogCut(bytes: Int(size - end), lastSeq: lastSeq)
  }

  private init(empty stream: StoredStream) {
    self.stream = stream
    name = LogFile.name(stream)
  }

  /// Where the sound part ends: before a torn tail, or before the first damaged member that the log can make again.
  /// Members wholly below `logFrom` are synced, so they are not opened; damage there is left for readers to report.
  private func wholeEnd(_ file: Descriptor, size: UInt64, logFrom: UInt64) throws(LocalStoreError) -> UInt64 {
    let reader = MemberReader()
    var walk = MemberWalk(file, length: size)
    while true {
      switch try walk.next() {
      case .end(let offset): return offset
      case .searching: continue
      case .damage(let firstSeq, _, let offset):
        if firstSeq >= logFrom { return offset }
      case .member(let place):
        guard place.header.firstSeq >= logFrom else { continue }
        if try reader.read(file, at: place.offset, place.header) == nil { return place.offset }
      }
    }
  }
}

/// Which file it is, whatever its name.
private struct FileIdentity: Hashable {
  private let device: UInt64
  private let inode: UInt64

  init(_ status: stat) {
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
  }
}
